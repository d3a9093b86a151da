# SPDX-License-Identifier: MulanPSL-2.0
"""The tasks that the writer lets run: actions and probes. What came of them goes into its queue.

Each ends with a message, whatever happens in it: an instance must never be left waiting for one.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import structlog

from agent.action.examine import Patient, examine
from agent.action.prepare import Request
from agent.action.reset import Taken, reset_npus
from agent.action.restore import restore_file
from agent.action.running import Running
from agent.action.start import Actions, Started, Turn
from agent.action.tried import Tried
from agent.config.values import Profile
from agent.control.messages import (
    EngineKilled,
    EngineSeen,
    EvidenceKept,
    FileChecked,
    Happened,
    Message,
    PortMended,
    ResetDone,
    StartDone,
    Swept,
    UnitsSeen,
)
from agent.control.observers import Measured, Observers, Where
from agent.errors import AgentError, Code, Failure
from agent.model import Inventory, ResetOutcome, engine_unit, front_unit
from agent.plan.supply import Lacking
from agent.policy.npu.state import ResetNpus
from agent.policy.state import Probed, StopEnded
from agent.policy.wish import is_wished
from agent.ports import NpuDriver, ResetOrder, ResetReport
from agent.supplies import Supply

log = structlog.get_logger(__name__)

# A probe that itself fails is tried again after this time.
PROBE_AGAIN_S = 5.0
# What was wished may not be any more: an attach that is gone can have asked last. And what systemd
# could not tell of may have come up.
UNSEEN = (Code.NOT_WISHED, Code.SYSTEMD_UNAVAILABLE)
# What npud says is up to a minute old, so that whoever held an NPU may have let go of it.
HELD_NPU = (Code.NPU_LEFTOVER, Code.NPU_BUSY)


class Fronts(Protocol):
    """Starting a front unit again, and stopping one; neither waits for the job's end."""

    async def dispatch_start(self, unit: str) -> None: ...

    async def dispatch_stop(self, unit: str) -> None: ...


@dataclass(frozen=True, slots=True)
class StartOrder:
    """Start this instance. `ready` waits until what it shall run on is in its place, and tells it;
    `request` is asked when it is its turn to plan; `refusal`, when all is ready: it may be on hold
    by then; `tried` and `attempt`: see `Turn`."""

    name: str
    ready: Callable[[], Awaitable[Supply | Failure | None]]
    request: Callable[[Supply | None], Request]
    refusal: Callable[[], Failure | None]
    tried: Callable[[], Awaitable[Tried | None]]
    attempt: Callable[[str], None]
    again: bool  # an earlier engine or start has failed: what it had of the NPUs is looked at anew


class Worker:
    """Does things and says so. `put` is the writer's queue."""

    def __init__(
        self,
        actions: Actions,
        npud: NpuDriver,
        fronts: Fronts,
        observers: Observers,
        put: Callable[[Message], None],
    ) -> None:
        self.actions = actions
        self._npud = npud
        self._fronts = fronts
        self._observers = observers
        self.put = put
        self._planning = asyncio.Lock()
        self._busy: dict[str, asyncio.Lock] = {}
        self.claims: dict[str, tuple[int, ...]] = {}  # NPUs of starts under way, by instance

    async def start(self, order: StartOrder) -> None:
        name = order.name
        outcome: Started | Lacking | Failure
        try:
            pinned = await order.ready()
            if isinstance(pinned, Failure):
                outcome = pinned
                await self.actions.hear(pinned)
            else:
                outcome = await self._start(order, self._turn(order, pinned))
        except Exception as error:  # the root of a task
            outcome = _internal(name, "start", error)
        self.put(StartDone(name, outcome, time.monotonic()))
        unseen = isinstance(outcome, Failure) and outcome.code in UNSEEN
        if isinstance(outcome, Started) or unseen:
            await self._look_again(name)

    def _turn(self, order: StartOrder, pinned: Supply | None) -> Turn:
        name = order.name

        def claim(npus: tuple[int, ...]) -> None:
            self.claims[name] = npus

        return Turn(
            self._planning,
            lambda: order.request(pinned),
            claim,
            lambda: self._refusal(order),
            order.tried,
            order.attempt,
        )

    async def _start(self, order: StartOrder, turn: Turn) -> Started | Lacking | Failure:
        async with self._alone(order.name):
            if order.again:
                await self._npud.refresh()
            outcome = await self.actions.start(order.name, turn)
            if not order.again and isinstance(outcome, Failure) and outcome.code in HELD_NPU:
                await self._npud.refresh()
                outcome = await self.actions.start(order.name, turn)
            return outcome

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

    async def examine(self, patient: Patient, inventory: Callable[[], Inventory]) -> None:
        """What can be seen of it is written down; of one that has died, its last words."""
        try:
            evidence = self.actions.evidence
            file = await examine(patient, self._npud, inventory, evidence)
        except Exception:  # the root of a task
            log.exception("internal-error", instance=patient.instance)
        else:
            if file is not None:
                self.put(EvidenceKept(patient.instance, file))

    async def stop_ill(self, patient: Patient, inventory: Callable[[], Inventory]) -> None:
        """Of an engine that does not work, after it has been examined."""
        name = patient.instance
        outcome: int | Failure
        try:
            await self.examine(patient, inventory)
            outcome = await self.actions.stop_ill(name, patient.container_id)
        except Exception as error:  # the root of a task
            outcome = _internal(name, "stop", error)
        if isinstance(outcome, int) and outcome:
            self.put(EngineKilled(name, outcome))
        failure = outcome if isinstance(outcome, Failure) else None
        self.put(Happened(name, StopEnded(failure)))

    async def mend_port(self, name: str) -> None:
        """Has Podman set up its firewall rules anew."""
        failure: Failure | None
        try:
            failure = await self.actions.reload_network(name)
        except Exception as error:  # the root of a task
            failure = _internal(name, "mend the port of", error)
        self.put(PortMended(name, failure))

    async def sweep(self, name: str) -> None:
        """Clears what an engine that nobody wants any more has left behind."""
        failure: Failure | None
        try:
            async with self._alone(name):
                failure = await self.actions.sweep(name)
        except Exception as error:  # the root of a task
            failure = _internal(name, "clear after", error)
        self.put(Swept(name, failure))

    async def restore_file(self, name: str, running: Running) -> None:
        """That of the unit of a running engine."""
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
                health = await self._observers.probe(profile)
            except Exception:  # the root of a task
                log.exception("internal-error", instance=profile.name)
                await asyncio.sleep(PROBE_AGAIN_S)
            else:
                self.put(Happened(profile.name, Probed(health)))
                return

    async def guard(self, profile: Profile, where: Where, measured: Measured) -> None:
        """From the moment on in which it serves; ended by cancellation."""

        def told(failure: Failure | None, metrics: str) -> None:
            self.put(EngineSeen(profile.name, failure, metrics))

        while True:
            try:
                await self._observers.guard(profile, where, told, measured)
            except Exception:  # the root of a task
                log.exception("internal-error", instance=profile.name)
            await asyncio.sleep(PROBE_AGAIN_S)

    def _alone(self, name: str) -> asyncio.Lock:
        """A start and the clearing after a stop would get in each other's way."""
        return self._busy.setdefault(name, asyncio.Lock())

    async def _look_again(self, name: str) -> None:
        """What came up or died before our taking note of a start's end is not reported again."""
        asked_at = time.monotonic()
        try:
            engine = await self.actions.units.status(engine_unit(name))
            front = await self.actions.units.status(front_unit(name))
        except AgentError as error:
            log.warning("not-looked-at", instance=name, reason=error.failure.message)
        else:
            self.put(UnitsSeen(name, front, engine, asked_at))

    async def _refusal(self, order: StartOrder) -> Failure | None:
        """An engine may only start beside its front unit (ExecCondition=). One that was held has
        ended; it is started again here, and attach asks for the engine when it connects. Not one
        that is on its way down: nobody wants it back."""
        if (refusal := order.refusal()) is not None:
            return refusal
        front = front_unit(order.name)
        status = await self.actions.units.status(front)
        if status.active.is_up():
            return None
        if is_wished(status) and status.active.is_down():
            await self._fronts.dispatch_start(front)
        words = "cannot start the engine yet: its front unit is being started first"
        return Failure(Code.NOT_WISHED, words)


def _internal(name: str, what: str, error: Exception) -> Failure:
    log.exception("internal-error", instance=name)
    return Failure(Code.INTERNAL, f"cannot {what} {name}: internal error: {error!r}")
