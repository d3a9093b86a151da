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
from agent.action.start import Actions, Started
from agent.config.values import Profile
from agent.control.messages import Happened, Message, NpusFound, StartDone, UnitsSeen
from agent.errors import AgentError, Code, Failure
from agent.model import Health, container_name, engine_unit, front_unit
from agent.policy.instance import Probed, StopEnded
from agent.policy.wish import is_wished

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
        self, actions: Actions, fronts: Fronts, probe: Probe, put: Callable[[Message], None]
    ) -> None:
        self.actions = actions
        self._fronts = fronts
        self._probe = probe
        self._put = put
        self._starting = asyncio.Lock()
        self.claims: dict[str, tuple[int, ...]] = {}  # NPUs of the latest start, by instance

    async def start(self, name: str, request: Callable[[], Request]) -> None:
        """`request` is asked when it is this instance's turn."""
        outcome: Started | Failure
        try:
            outcome = await self._start(name, request)
        except Exception as error:  # the root of a task
            log.exception("internal-error", instance=name)
            outcome = Failure(Code.INTERNAL, f"cannot start {name}: internal error: {error!r}")
        self._put(StartDone(name, outcome, time.monotonic()))
        if isinstance(outcome, Started):
            await self._look_again(name)

    async def stop(self, name: str) -> None:
        failure: Failure | None
        try:
            failure = await self.actions.stop(name)
        except Exception as error:  # the root of a task
            log.exception("internal-error", instance=name)
            failure = Failure(Code.INTERNAL, f"cannot stop {name}: internal error: {error!r}")
        self._put(Happened(name, StopEnded(failure)))

    async def revive(self, name: str) -> None:
        """Starts a front unit that crashed; StartUnit, since a restart would reach the engine."""
        try:
            await self._fronts.dispatch_start(front_unit(name))
        except AgentError as error:
            log.warning("front-not-revived", instance=name, reason=error.failure.message)

    async def watch(self, profile: Profile) -> None:
        """Until the engine answers; ended by cancellation when nobody wants to know any more."""
        while True:
            try:
                health = await self._probe(profile)
            except Exception:  # the root of a task
                log.exception("internal-error", instance=profile.name)
                await asyncio.sleep(PROBE_AGAIN_S)
            else:
                self._put(Happened(profile.name, Probed(health)))
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
            self._put(NpusFound(profile.name, found))

    async def _start(self, name: str, request: Callable[[], Request]) -> Started | Failure:
        """One start at a time: the next plan then sees the NPUs that this one took."""
        async with self._starting:
            outcome = await self.actions.start(request(), lambda: self._front_is_up(name))
            if isinstance(outcome, Started) and outcome.prepared is not None:
                npus = outcome.prepared.plan.npus
                self.claims[name] = tuple(npu.logic_id for npu in npus)
        return outcome

    async def _look_again(self, name: str) -> None:
        """What died between systemd's "done" and our taking note of it is not reported again."""
        asked_at = time.monotonic()
        try:
            engine = await self.actions.units.status(engine_unit(name))
            front = await self.actions.units.status(front_unit(name))
        except AgentError as error:
            log.warning("not-looked-at", instance=name, reason=error.failure.message)
        else:
            self._put(UnitsSeen(name, front, engine, asked_at))

    async def _front_is_up(self, name: str) -> bool:
        """The rendered unit may only start beside its front unit (Requisite=). One that was held
        has ended; it is started again here, and attach asks for the engine when it connects."""
        status = await self.actions.units.status(front_unit(name))
        if status.active.is_up():
            return True
        if is_wished(status):
            await self._fronts.dispatch_start(front_unit(name))
        return False
