# SPDX-License-Identifier: MulanPSL-2.0
"""Carries out what `policy.update` decides: has new things fetched beside the old ones, has image
and model switched before a start, and tells policy how the engine on trial does.

Called by the pilot. Switching is done by `supply/`; a start waits for it (`ready`), and otherwise
it is done as soon as it is due.
"""

import asyncio
import time
from collections.abc import Callable

import structlog

from agent.action.tried import Tried
from agent.control.events import EventLog
from agent.control.fetching import Fetching
from agent.control.loading import VERDICT_DEADLINE_S
from agent.control.messages import FailureRead, Message, UpdateHappened
from agent.control.record import Record
from agent.control.tasks import Tasks
from agent.errors import AgentError, Code, Failure
from agent.model import Phase
from agent.policy.instance import died
from agent.policy.state import Diagnosed, Event, InstanceState
from agent.policy.update import decide_update
from agent.policy.update_state import (
    Attempted,
    EngineAnswered,
    EngineFailed,
    EngineStarted,
    PinLost,
    RestartBegun,
    ServingTick,
    Settled,
    StartDue,
    UpdateEvent,
    UpdateState,
)
from agent.ports import Supplier
from agent.supplies import ModelOrder, Order, Purpose, Supply

log = structlog.get_logger(__name__)

# The revision is not there, or something that is not ours lies where its link should be.
LOST = (Code.MODEL_MISSING, Code.MODEL_INVALID)
SWITCH_AGAIN_S = 60.0
SWITCH_DEADLINE_S = 300.0
# What shall run may become another one while a start waits for the switch.
SWITCHES_LIMIT = 5
RAN = (Phase.STARTING, Phase.LOADING, Phase.SERVING, Phase.STOPPING)
RUNS = (Phase.LOADING, Phase.SERVING)
WAITS = (Phase.BACKOFF, Phase.WAITING, Phase.FETCHING, Phase.HELD)


class Updating:
    """`put` is the writer's queue; `unwell` tells whether an NPU of an instance is set aside."""

    def __init__(
        self,
        supplier: Supplier,
        put: Callable[[Message], None],
        tasks: Tasks,
        events: EventLog,
        fetching: Fetching,
        unwell: Callable[[Record], bool],
        boot_id: str,
    ) -> None:
        self._supplier = supplier
        self._put = put
        self._tasks = tasks
        self._events = events
        self._fetching = fetching
        self._unwell = unwell
        self._boot_id = boot_id

    # --- by the writer ---------------------------------------------------------------------------

    def decide(self, record: Record, event: UpdateEvent) -> None:
        before = record.update.state
        after, news = decide_update(before, event, time.time())
        record.update.state = after
        # It was of that restart alone: the next one is a person's, or goes back to what has served.
        if not after.restart or after.pin != before.pin:
            record.update.no_hurry = False
        if news is not None:
            self._events.note(record.name, news.kind, news.message)
        if before.order is not None and after.order is None:
            self._fetching.drop(record, before.order)

    def turn(self, record: Record) -> None:
        """Does what is due. Not called in observe mode."""
        if record.state.phase is Phase.SERVING:
            self.decide(record, ServingTick())
        state = record.update.state
        if state.order is not None and record.fetch.order is None:
            self._fetching.begin(record, state.order, asked=True)
        due = time.monotonic() >= record.update.not_before
        # A start that is under way has what it found at its begin.
        if not state.is_settled and due and record.state.phase is not Phase.STARTING:
            self._switch(record)

    def takes_restart(self, record: Record) -> bool:
        """Whether it is to be restarted now, to run on something else. One that serves goes on
        until everything is ready; where nothing runs, the start waits for that."""
        seen, phase = record.update, record.state.phase
        if not seen.state.restart or seen.judging is not None or not record.state.wished:
            return False
        if phase not in WAITS and not (phase in RUNS and seen.state.is_settled):
            return False
        no_hurry = seen.no_hurry
        self.decide(record, RestartBegun())
        return not no_hurry if phase in WAITS else _runs_on_another(record)

    def started(self, record: Record, *, is_new: bool) -> None:
        """A start has ended well."""
        supply = record.running.supply if record.running is not None else None
        if supply is not None:
            self.decide(record, EngineStarted(supply, is_new))

    def follow(self, record: Record, before: InstanceState, event: Event) -> None:
        """After policy has decided about the instance."""
        seen, state = record.update, record.state
        if isinstance(event, Diagnosed) and seen.judging is not None:
            # At once: one that would be held now is started on the former one instead.
            seen.reason = event.failure
            self.take_reason(record)
        if state.phase is Phase.SERVING and before.phase is not Phase.SERVING:
            supply = record.running.supply if record.running is not None else None
            if supply is not None:
                self.decide(record, EngineAnswered(supply))
        stuck = state.phase in (Phase.BACKOFF, Phase.HELD)
        if stuck and before.phase in RAN and seen.state.on_trial and seen.judging is None:
            self._judge(record, ran=before.phase is not Phase.STARTING)

    def take_reason(self, record: Record) -> None:
        """All that is known by now of why it died has been read."""
        seen = record.update
        failure, judging = seen.reason, seen.judging
        seen.reason = seen.judging = None
        if failure is not None and record.state.wished:  # else somebody has stopped it
            self.decide(record, EngineFailed(failure, self._unwell(record), seen.ran))
        if judging is not None and not judging.done():
            judging.set_result(None)

    def _judge(self, record: Record, *, ran: bool) -> None:
        """Whether it was the new one's fault; its log may tell more than that it died."""
        seen, verdict = record.update, record.start.verdict
        seen.reason, seen.ran = record.state.failure, ran
        if not died(seen.reason) or verdict is None or verdict.done():
            self.take_reason(record)
            return
        seen.judging = asyncio.get_running_loop().create_future()
        self._tasks.spawn(self._wait_for(record.name, verdict))

    async def _wait_for(self, name: str, verdict: "asyncio.Future[Tried | None]") -> None:
        await asyncio.wait({verdict}, timeout=VERDICT_DEADLINE_S)
        # What was found is in the queue before this.
        self._put(FailureRead(name))

    # --- switching -------------------------------------------------------------------------------

    async def ready(self, record: Record) -> Supply | Failure | None:
        """For a start: what it shall run on, once that is in its place."""
        seen = record.update
        if seen.judging is not None:
            await asyncio.wait({seen.judging}, timeout=2 * VERDICT_DEADLINE_S)
        if seen.state.on_trial:
            await self._have_taken(record.name, StartDue(self._boot_id))
        for _ in range(SWITCHES_LIMIT):
            if seen.state.is_settled:
                break
            failure = await asyncio.shield(self._switch(record))
            if failure is not None and failure.code not in LOST:
                return failure
        pin = seen.state.pin
        if pin is not None:
            self._put(UpdateHappened(record.name, Attempted(pin, self._boot_id)))
        return pin

    def _switch(self, record: Record) -> "asyncio.Future[Failure | None]":
        """One at a time; who comes later waits for the same."""
        seen = record.update
        if seen.switching is None or seen.switching.done():
            seen.switching = asyncio.get_running_loop().create_future()
            order = build_switch(record.name, seen.state, record.profile.model)
            self._tasks.spawn(self._carry_out(record, order, seen.state, seen.switching))
        return seen.switching

    async def _carry_out(
        self, record: Record, order: Order, of: UpdateState, ended: "asyncio.Future[Failure | None]"
    ) -> None:
        failure: Failure | None
        try:
            async with asyncio.timeout(SWITCH_DEADLINE_S):
                failure = (await self._supplier.bring(order, lambda progress: None)).failure
        except AgentError as error:
            failure = error.failure
        except TimeoutError:
            why = f"no end within {SWITCH_DEADLINE_S:g} s"
            failure = Failure(Code.DISK_SILENT, f"cannot switch {record.name}: {why}")
        except Exception as error:  # the root of a task
            log.exception("internal-error", instance=record.name)
            failure = Failure(Code.INTERNAL, f"cannot switch {record.name}: {error!r}")
        record.update.not_before = 0.0 if failure is None else time.monotonic() + SWITCH_AGAIN_S
        if failure is None:
            await self._have_taken(record.name, Settled(of))
        elif failure.code in LOST:
            await self._have_taken(record.name, PinLost(of, failure))
        else:
            log.warning("not-switched", instance=record.name, reason=failure.message)
        if not ended.done():
            ended.set_result(failure)

    async def _have_taken(self, name: str, event: UpdateEvent) -> None:
        """Returns when the writer knows it, so that who waits sees what it leads to."""
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._put(UpdateHappened(name, event, answer))
        await answer


def _runs_on_another(record: Record) -> bool:
    """Whether the engine that runs is not what it should be, though its profile is the same. What
    nobody knows is replaced for an update alone."""
    pin = record.update.state.pin
    runs = record.running.supply if record.running is not None else None
    if pin is None or runs is None:
        return record.update.state.trial is not None
    return pin.is_named_alike(runs) and not pin.is_same(runs)


def build_switch(name: str, state: UpdateState, directory: str) -> Order:
    """So that the next start finds what `state` says. `directory`: the model's in the profile."""
    pin = state.pin
    ours = pin is not None and pin.model_revision and pin.model_directory == directory
    return Order(
        name,
        None,
        ModelOrder(directory, ()) if ours else None,
        purpose=Purpose.SWITCH,
        revision=pin.model_revision if pin is not None and ours else "",
        kept=state.kept,
    )
