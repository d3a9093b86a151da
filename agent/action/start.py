# SPDX-License-Identifier: MulanPSL-2.0
"""Starts and stops the engine of one instance. Raises nothing that is ours: a failure is a value.

Only this and `apply` change the machine; whether and when is decided in `policy`.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

from agent.action.apply import apply
from agent.action.prepare import Prepared, Request, prepare
from agent.config.values import Profile
from agent.errors import AgentError, Code, Failure
from agent.model import JobResult, UnitStatus, container_name, engine_unit
from agent.ports import ContainerEngine, Machine, UnitFiles, UnitManager
from agent.render.render import RenderedFile
from agent.render.workload import (
    UNIT_START_TIMEOUT_S,
    UNIT_STOP_TIMEOUT_S,
    certificate_copy,
    key_file,
    key_text,
    parse_key,
)

# Longer than what systemd itself allows the unit, so that systemd's own word is heard.
START_JOB_DEADLINE_S = UNIT_START_TIMEOUT_S + 30
# ExecStop= and ExecStopPost= may each use the whole of TimeoutStopSec.
STOP_JOB_DEADLINE_S = 2 * UNIT_STOP_TIMEOUT_S + 30


@dataclass(frozen=True, slots=True)
class Started:
    """What runs now. `prepared` is None when it ran already and was left alone."""

    prepared: Prepared | None
    file: RenderedFile | None


@dataclass(frozen=True, slots=True)
class Actions:
    """Doing, over the ports."""

    units: UnitManager
    podman: ContainerEngine
    files: UnitFiles
    machine: Machine

    async def start(
        self, request: Request, before_start: Callable[[], Awaitable[bool]]
    ) -> Started | Failure:
        """Plan, render, apply, start. `before_start` is asked last: False when the front unit has
        to come up first, and then nothing is started now."""
        try:
            return await self._start(request, before_start)
        except AgentError as error:
            return error.failure

    def running_key(self, instance: str) -> str:
        """The API key that the engine was started with; empty when it has none."""
        try:
            return parse_key(self.files.read(PurePosixPath(key_file(instance))) or "")
        except AgentError:
            return ""  # the engine will say that it wants one

    async def stop(self, instance: str) -> Failure | None:
        """Stops the rendered unit and waits until it is down."""
        unit = engine_unit(instance)
        try:
            result = await self.units.stop(unit, STOP_JOB_DEADLINE_S)
            status = await self.units.status(unit)
        except AgentError as error:
            return error.failure
        if status.active.is_down():
            return None
        return Failure(
            Code.UNIT_STOP_FAILED,
            f"cannot stop {unit}: job {result}, unit {status.active}",
            f"systemctl status {unit}; a process that hangs in the driver needs a reboot",
        )

    async def _start(
        self, request: Request, before_start: Callable[[], Awaitable[bool]]
    ) -> Started | Failure:
        unit = engine_unit(request.profile.name)
        active = (await self.units.status(unit)).active
        if active.is_up():
            return Started(None, None)
        if not active.is_down():
            # While it stops its file may not change, and its container is systemd's to remove.
            return Failure(Code.UNIT_REFUSED, f"cannot start {unit} yet: it is {active}")
        prepared = await prepare(request, self.podman, self.machine)
        if isinstance(prepared, Failure):
            return prepared
        if not await before_start():
            return Failure(
                Code.NOT_WISHED,
                "cannot start the engine yet: its front unit is being started first",
            )
        await self._clear_leftover(prepared)
        self._hand_over(request.profile)
        file = await apply(prepared.plan, prepared.file, self.files, self.units)
        await self.units.reset_failed(unit)
        result = await self.units.start(unit, START_JOB_DEADLINE_S)
        if result is JobResult.DONE:
            return Started(prepared, file)
        return _explain(result, await self.units.status(unit))

    def _hand_over(self, profile: Profile) -> None:
        """What the engine and its clients are told in files: the key, in one of root's alone, and
        the certificate that will be shown. What is not wanted any more is removed."""
        key, certificate = (
            PurePosixPath(place(profile.name)) for place in (key_file, certificate_copy)
        )
        if profile.api_key_file:
            text = key_text(self.files.read_key(profile.api_key_file))
            self.files.write(key, text, private=True)
        else:
            self.files.remove(key)
        if profile.tls_certificate:
            self.files.write(certificate, self.files.read_public(profile.tls_certificate))
        else:
            self.files.remove(certificate)

    async def _clear_leftover(self, prepared: Prepared) -> None:
        """The unit is down; a container of its name still in Podman would keep its NPUs."""
        name = container_name(prepared.plan.instance)
        if any(one.name == name for one in prepared.survey.containers):
            await self.podman.remove(name)


def _explain(result: JobResult, status: UnitStatus) -> Failure:
    """Why the job did not end with "done"."""
    if result is JobResult.DEPENDENCY:
        return Failure(Code.NOT_WISHED, f"cannot start {status.name}: its front unit is not active")
    detail = f"result {status.result}, exit status {status.exit_status}"
    return Failure(
        Code.UNIT_START_FAILED,
        f"cannot start {status.name}: job {result}, {detail}",
        f"journalctl -b -u {status.name}",
    )
