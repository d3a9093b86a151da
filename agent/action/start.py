# SPDX-License-Identifier: MulanPSL-2.0
"""Starts and stops the engine of one instance. Raises nothing that is ours: a failure is a value.

Only this and `apply` change the machine; whether and when is decided in `policy`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from agent.action.apply import apply
from agent.action.force import stop_by_force
from agent.action.jobs import RUN, why_not_down, why_not_started
from agent.action.leftovers import clear_leftovers, look_for_leftovers, payload_left
from agent.action.prepare import Prepared, Request, order_missing, plan_anew, plan_update, prepare
from agent.action.running import Running, forget_running, no_drain_mark, save_running
from agent.action.tried import Tried
from agent.config.values import Profile
from agent.errors import AgentError, Code, Failure
from agent.facts import PayloadFacts
from agent.model import JobResult, UnitActive, engine_unit, network_unit
from agent.plan.leftovers import Leftovers
from agent.plan.supply import Lacking, Update, UpdatePlan
from agent.ports import ContainerEngine, Evidence, Machine, Payloads, UnitFiles, UnitManager
from agent.render.workload import (
    STOP_LIMIT_S,
    UNIT_START_TIMEOUT_S,
    certificate_copy,
    key_file,
    key_text,
    parse_key,
)
from agent.supplies import Order

# Each finds nothing any more, unless somebody makes new ones.
CLEARINGS = 2
# Longer than what systemd itself allows the unit, so that systemd's own word is heard.
START_JOB_DEADLINE_S = UNIT_START_TIMEOUT_S + 30
NETWORK_DEADLINE_S = 40.0  # its TimeoutStartSec is 30 s (units/deepseek-network@.service)
STOP_JOB_DEADLINE_S = STOP_LIMIT_S + 10


@dataclass(frozen=True, slots=True)
class Started:
    """What runs now. `running` is None when it ran already and was left alone."""

    running: Running | None
    refused: str = ""  # what the quadlet generator said, when a plain unit was used for it
    alarmed: str = ""  # why it has NPUs in spite of their alarm
    beside: Failure | None = None  # what of others hangs, and could not be cleared before
    invocation: str = ""  # of the engine's unit: another one is another engine


@dataclass(frozen=True, slots=True)
class Turn:
    """What a start needs of the others: its turn to plan, and what holds by then."""

    planning: asyncio.Lock  # one plan at a time: the next one sees the NPUs that this one takes
    request: Callable[[], Request]
    claim: Callable[[tuple[int, ...]], None]  # these NPUs are the instance's from now on
    refusal: Callable[[], Awaitable[Failure | None]]  # asked last: why nothing is started now
    tried: Callable[[], Awaitable[Tried | None]]  # in vain: not to be tried again unchanged
    attempt: Callable[[str], None]  # this is what is being tried now


@dataclass(frozen=True, slots=True)
class Actions:
    """Doing, over the ports."""

    units: UnitManager
    podman: ContainerEngine
    files: UnitFiles
    machine: Machine
    payloads: Payloads
    evidence: Evidence
    # Processes that were left, by instance: what tells whose they are may go with the container.
    _left: dict[str, Collection[PayloadFacts]] = field(
        default_factory=dict, init=False, compare=False
    )

    async def start(self, instance: str, turn: Turn) -> Started | Lacking | Failure:
        """Clear, plan, render, apply, start."""
        try:
            return await self._start(instance, turn)
        except AgentError as error:
            return error.failure

    async def sweep(self, instance: str) -> Failure | None:
        """Clears what the engine has left behind, now that nobody wants it; nothing is touched
        while its unit is up."""
        try:
            alive = await asyncio.to_thread(self.payloads.find)
            survey = await self.podman.survey(())
            unit = engine_unit(instance)
            active = (await self.units.status(unit)).active
            if active.is_down():
                found = await look_for_leftovers(
                    instance, alive, survey, self.units, known=self._left.get(instance, ())
                )
                await clear_leftovers(found.of_sweep(), self.podman, self.payloads)
                forget_running(self.files, instance)
            if active is UnitActive.FAILED:
                # conmon was killed while it stopped, or so: nobody wants to hear of it any more.
                await self.units.reset_failed(unit)
        except AgentError as error:
            return error.failure
        return None

    async def hear(self, failure: Failure) -> None:
        """Of a helper that asks Podman by itself: when it was silent to that, it is asked here,
        too, which is what has it mended (`healing`)."""
        if failure.code in (Code.PODMAN_SILENT, Code.PODMAN_UNAVAILABLE):
            with suppress(AgentError):
                await self.podman.survey(())

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
            return why_not_down(await self.units.status(unit), f"job {result}")
        except AgentError as error:
            return error.failure

    async def stop_ill(self, instance: str, container_id: str) -> int | Failure:
        """The same for an engine that does not work; returns how many processes had to be killed
        for it."""
        unit = engine_unit(instance)
        try:
            # Nobody waits for what it has to do any more (agent/drain.py). Should the stop come to
            # nothing, that is so until the engine is found to be up after all, and adopted.
            self.files.write(no_drain_mark(instance), "")
            killed = await stop_by_force(
                instance, container_id, self.units, self.payloads, STOP_JOB_DEADLINE_S
            )
            status = await self.units.status(unit)
        except AgentError as error:
            return error.failure
        failure = why_not_down(status, f"{killed} processes got SIGKILL")
        return killed if failure is None else failure

    async def reload_network(self, instance: str) -> Failure | None:
        """Podman sets up its firewall rules for the engine anew; its processes are not touched."""
        unit = network_unit(instance)
        try:
            result = await self.units.start(unit, NETWORK_DEADLINE_S)
        except AgentError as error:
            return error.failure
        if result is JobResult.DONE:
            return None
        return Failure(
            Code.PORT_CUT,
            f"cannot mend the way to the port of {instance}: job {result} of {unit}",
            f"journalctl -b -u {unit}",
        )

    async def plan_anew(self, request: Request) -> tuple[int, ...] | Failure:
        """The NPUs that a restart would come to; touches nothing."""
        try:
            plan = await plan_anew(request, self.podman, self.machine)
        except AgentError as error:
            return error.failure
        return plan if isinstance(plan, Failure) else plan.logic_ids

    async def order_missing(self, request: Request) -> Order | Failure | None:
        """What would have to be brought before a start; None when nothing is missing."""
        try:
            return await order_missing(request, self.podman, self.machine)
        except AgentError as error:
            return error.failure

    async def plan_update(self, request: Request, wanted: Update) -> UpdatePlan | Failure:
        """What would have to be fetched for an update; touches nothing."""
        try:
            return await plan_update(request, wanted, self.podman, self.machine)
        except AgentError as error:
            return error.failure

    async def _start(self, instance: str, turn: Turn) -> Started | Lacking | Failure:
        unit = engine_unit(instance)
        active = (await self.units.status(unit)).active
        if active.is_up():
            return Started(None)
        if not active.is_down():
            # While it stops its file may not change, and its container is systemd's to remove.
            return Failure(Code.UNIT_REFUSED, f"cannot start {unit} yet: it is {active}")
        prepared = await self._prepare(instance, turn)
        if not isinstance(prepared, Prepared):
            return prepared
        tried = await turn.tried()
        if tried is not None and tried.mark == prepared.mark:
            recheck = prepared.recheck if tried.failure.code is Code.MODEL_INVALID else None
            return tried.failure if recheck is None else Lacking(tried.failure, recheck)
        refusal = await turn.refusal()
        if refusal is not None:
            return refusal
        plan = prepared.plan
        self.files.remove(no_drain_mark(instance))
        self._hand_over(plan.profile)
        file = await apply(plan, prepared.file, self.files, self.units)
        path, npus = str(file.path), plan.logic_ids
        running = Running(
            plan.profile,
            npus,
            path,
            file.text,
            plan.degraded,
            plan.weights_mib,
            plan.image_reference,
            plan.image,
            plan.model_revision,
        )
        turn.attempt(prepared.mark)
        save_running(self.files, running)
        await self.units.reset_failed(unit)
        result = await self.units.start(unit, START_JOB_DEADLINE_S)
        status = await self.units.status(unit)
        # Where its end was not waited for any more, what has come up of it is watched all the same.
        if result in (JobResult.DONE, JobResult.TIMEOUT) and status.active.is_up():
            left = payload_left(prepared.outlived).failure if prepared.outlived else None
            return Started(running, file.refused, plan.alarmed, left, status.invocation_id)
        return why_not_started(result, status, self.machine.has_room(RUN))

    async def _prepare(self, instance: str, turn: Turn) -> Prepared | Lacking | Failure:
        outlived: frozenset[PayloadFacts] = frozenset()
        for _ in range(CLEARINGS + 1):
            async with turn.planning:
                found = await prepare(
                    turn.request(),
                    self.podman,
                    self.machine,
                    self.payloads,
                    self.units,
                    outlived,
                    self._left.get(instance, ()),
                )
                if isinstance(found, Prepared):
                    turn.claim(found.plan.logic_ids)
                if not isinstance(found, Leftovers):
                    return found
            # Outside of the lock: it may take as long as a stop.
            self._left[instance] = found.payloads
            outlived |= await clear_leftovers(found, self.podman, self.payloads)
        return Failure(
            Code.PAYLOAD_LEFT,
            "cannot start it: what earlier engines left comes back each time",
            "who else starts containers with its unit's label? see: podman ps --all",
        )

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
