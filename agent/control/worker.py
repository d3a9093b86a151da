# SPDX-License-Identifier: MulanPSL-2.0
"""The tasks that the writer lets run: actions and probes. What came of them goes into its queue.

Each ends with a message, whatever happens in it: an instance must never be left waiting for one.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog

from agent.action.prepare import Request, npus_of_container
from agent.action.reset import Taken, reset_npus
from agent.action.restore import restore_file
from agent.action.running import Running
from agent.action.start import Actions, Started, Turn
from agent.config.values import Profile
from agent.control.messages import (
    FileChecked,
    Happened,
    Message,
    NpusFound,
    ResetDone,
    StartDone,
    Swept,
    UnitsSeen,
)
from agent.errors import AgentError, Code, Failure
from agent.model import Health, ResetOutcome, container_name, engine_unit, front_unit
from agent.policy.npu.state import ResetNpus
from agent.policy.state import Probed, StopEnded
from agent.policy.wish import is_wished
from agent.ports import NpuDriver, ResetOrder, ResetReport

log = structlog.get_logger(__name__)

# A probe that itself fails is tried again after this time.
PROBE_AGAIN_S = 5.0


class Fronts(Protocol):
    """Starting a front unit again."""

    async def dispatch_start(self, unit: str) -> None: ...


Probe = Callable[[Profile], Awaitable[Health]]


class Worker:
    """Does things and says so. `put` is the writer's queue."""

    def __init__(
        self,
        actions: Actions,
        npud: NpuDriver,
        fronts: Fronts,
        probe: Probe,
        put: Callable[[Message], None],
    ) -> None:
        self.actions = actions
        self._npud = npud
        self._fronts = fronts
        self._probe = probe
        self.put = put
        self._planning = asyncio.Lock()
        self._busy: dict[str, asyncio.Lock] = {}
        self.claims: dict[str, tuple[int, ...]] = {}  # NPUs of the latest start, by instance

    async def start(self, name: str, request: Callable[[], Request]) -> None:
        """`request` is asked when it is this instance's turn to plan."""

        def claim(npus: tuple[int, ...]) -> None:
            self.claims[name] = npus

        self.claims.pop(name, None)
        turn = Turn(self._planning, request, claim, lambda: self._front_is_up(name))
        outcome: Started | Failure
        try:
            async with self._alone(name):
                outcome = await self.actions.start(name, turn)
        except Exception as error:  # the root of a task
            outcome = _internal(name, "start", error)
        self.put(StartDone(name, outcome, time.monotonic()))
        # What was wished may not be any more: an attach that is gone can have asked last.
        if isinstance(outcome, Started) or outcome.code is Code.NOT_WISHED:
            await self._look_again(name)

    async def reset(self, wanted: ResetNpus, taken: Taken) -> None:
        """Minutes, where the NPU has to boot."""
        order = ResetOrder(wanted.logic_id, wanted.npus, wanted.codes)
        podman, payloads = self.actions.podman, self.actions.payloads
        try:
            report = await reset_npus(order, taken, self._planning, podman, payloads, self._npud)
        except Exception as error:  # the root of a task
            log.exception("internal-error", npus=wanted.npus)
            report = ResetReport(ResetOutcome.FAILED, f"internal error: {error!r}")
        self.put(ResetDone(wanted.npus, report))

    async def stop(self, name: str) -> None:
        failure: Failure | None
        try:
            failure = await self.actions.stop(name)
        except Exception as error:  # the root of a task
            failure = _internal(name, "stop", error)
        self.put(Happened(name, StopEnded(failure)))

    async def sweep(self, name: str) -> None:
        """Clears what an engine that nobody wants any more has left behind."""
        failure: Failure | None
        try:
            async with self._alone(name):
                failure = await self.actions.sweep(name)
        except Exception as error:  # the root of a task
            failure = _internal(name, "clear after", error)
        self.put(Swept(name, failure))

    async def check_file(self, name: str, running: Running) -> None:
        """Restores the unit file of a running engine where that is needed."""
        mended, failure = "", None
        try:
            mended = await restore_file(running, self.actions.files, self.actions.units)
        except AgentError as error:
            failure = error.failure
        except Exception as error:  # the root of a task
            failure = _internal(name, "look after", error)
        self.put(FileChecked(name, mended, failure))

    async def revive(self, name: str) -> None:
        """Starts a front unit that crashed; StartUnit, since a restart would reach the engine."""
        try:
            await self._fronts.dispatch_start(front_unit(name))
        except AgentError as error:
            log.warning("front-not-revived", instance=name, reason=error.failure.message)

    async def forget_crash(self, name: str) -> None:
        """Of a front unit that was killed while it was being stopped."""
        try:
            await self.actions.units.reset_failed(front_unit(name))
        except AgentError as error:
            log.warning("front-not-reset", instance=name, reason=error.failure.message)

    async def watch(self, profile: Profile) -> None:
        """Until the engine answers; ended by cancellation when nobody wants to know any more."""
        while True:
            try:
                health = await self._probe(profile)
            except Exception:  # the root of a task
                log.exception("internal-error", instance=profile.name)
                await asyncio.sleep(PROBE_AGAIN_S)
            else:
                self.put(Happened(profile.name, Probed(health)))
                return

    async def find_npus(self, profile: Profile) -> None:
        """Of a container that was there before this agent."""
        try:
            survey = await self.actions.podman.survey(())
        except AgentError as error:
            log.warning("adoption-incomplete", instance=profile.name, reason=error.failure.message)
            return
        found = npus_of_container(survey, container_name(profile.name))
        if found:
            self.put(NpusFound(profile.name, found))

    def _alone(self, name: str) -> asyncio.Lock:
        """A start and the clearing after a stop would get in each other's way."""
        return self._busy.setdefault(name, asyncio.Lock())

    async def _look_again(self, name: str) -> None:
        """What died between systemd's "done" and our taking note of it is not reported again."""
        asked_at = time.monotonic()
        try:
            engine = await self.actions.units.status(engine_unit(name))
            front = await self.actions.units.status(front_unit(name))
        except AgentError as error:
            log.warning("not-looked-at", instance=name, reason=error.failure.message)
        else:
            self.put(UnitsSeen(name, front, engine, asked_at))

    async def _front_is_up(self, name: str) -> bool:
        """An engine may only start beside its front unit (ExecCondition=). One that was held has
        ended; it is started again here, and attach asks for the engine when it connects. Not one
        that is on its way down: nobody wants it back."""
        status = await self.actions.units.status(front_unit(name))
        if status.active.is_up():
            return True
        if is_wished(status) and status.active.is_down():
            await self._fronts.dispatch_start(front_unit(name))
        return False


def _internal(name: str, what: str, error: Exception) -> Failure:
    log.exception("internal-error", instance=name)
    return Failure(Code.INTERNAL, f"cannot {what} {name}: internal error: {error!r}")
