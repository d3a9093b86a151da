# SPDX-License-Identifier: MulanPSL-2.0
"""Looks after engines that load: how far they have come, whether they are too slow, and why they
died. Called by the pilot; what it finds comes back as messages and events.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import structlog

from agent.action.tried import Tried
from agent.control.events import EventLog
from agent.control.messages import Happened, Message, StartMoved
from agent.control.observers import EngineLogWatch
from agent.control.record import Record
from agent.control.tasks import Tasks
from agent.errors import AgentError, Code, Failure, Remedy
from agent.model import NO_PROGRESS, Phase, StartProgress, UnitStatus, engine_unit
from agent.policy.instance import died
from agent.policy.startup import StartWatch, budget_s
from agent.policy.state import (
    CauseChanged,
    Diagnosed,
    Event,
    InstanceState,
    RestartRequested,
    WishChanged,
)
from agent.status.text import say_progress
from agent.wording import duration

log = structlog.get_logger(__name__)

# Reading last words takes 0.1 s, and seconds where many engines die at once.
VERDICT_DEADLINE_S = 5.0
# Where the log of an engine that loads is: the bus may be away for a moment, when it begins.
ASK_AGAIN_S = 5.0


class Loading:
    """`status` asks systemd for a unit, `put` is the writer's queue."""

    def __init__(
        self,
        logs: EngineLogWatch,
        status: Callable[[str], Awaitable[UnitStatus]],
        put: Callable[[Message], None],
        tasks: Tasks,
        events: EventLog,
    ) -> None:
        self._logs = logs
        self._status = status
        self._put = put
        self._tasks = tasks
        self._events = events

    def started(self, record: Record) -> None:
        """This agent has started it; what comes now can be measured."""
        record.start.ours_at = time.monotonic()

    def asked(self, record: Record, event: Event) -> Event | None:
        """Before policy hears of `event`. A person who starts it wants it tried, whatever is known;
        a start that is under way may have looked already, so then it looks once more."""
        person = isinstance(event, RestartRequested) or (
            isinstance(event, WishChanged) and event.again
        )
        if not person or (record.start.tried is None and record.start.verdict is None):
            return None
        record.start.tried = record.start.verdict = None
        return CauseChanged() if record.state.phase is Phase.STARTING else None

    async def tried(self, record: Record) -> Tried | None:
        """What was tried in vain. A verdict that is still being read is waited for, a while."""
        verdict = record.start.verdict
        if verdict is not None and not verdict.done():
            await asyncio.wait({verdict}, timeout=VERDICT_DEADLINE_S)
        if verdict is not record.start.verdict:
            return record.start.tried  # a person wants it tried
        late = verdict.result() if verdict is not None and verdict.done() else None
        return late or record.start.tried

    def attempt(self, record: Record, mark: str) -> None:
        """This is being started now."""
        record.start.mark = mark

    def follow(self, record: Record, before: InstanceState, event: Event) -> None:
        """After policy has decided."""
        seen, state = record.start, record.state
        loads, loaded = state.phase is Phase.LOADING, before.phase is Phase.LOADING
        if loads and not loaded:
            self._begin(record)
        elif loaded and not loads:
            self._end(record)
        if isinstance(event, Diagnosed):
            self._take_reason(record, event.failure)
        elif state.phase is Phase.BACKOFF and before.phase is not Phase.BACKOFF:
            self._ask_why(record, before.phase)
        if state.phase is not Phase.LOADING and state.phase is not Phase.SERVING:
            seen.ours_at = None

    def take(self, record: Record, moved: StartMoved) -> None:
        """From its log."""
        seen = record.start
        if seen.watch is not None and moved.at >= seen.watch.began_at:
            seen.progress = moved.progress
            seen.watch = replace(seen.watch, moved_at=moved.at)

    def why_too_slow(self, record: Record, now: float) -> Failure | None:
        """None while it is in its budget."""
        seen = record.start
        if seen.watch is None or now < seen.watch.ends_at:
            return None
        name, took_s = record.profile.name, now - seen.watch.began_at
        words = say_progress(seen.progress)
        reached = f"; it has come to: {words}" if words else ""
        return Failure(
            Code.START_TOO_SLOW,
            f"cannot start {name}: it does not answer after {duration(took_s)}{reached}",
            f"deepseekctl logs {name}; where only the disk is slow: start_budget_s in its profile",
        )

    def give_up(self, record: Record) -> None:
        """It is stopped, because it is too slow. Maybe this host needs longer than it did: with the
        same budget every other try would end like this one."""
        record.start.last_s, record.start.last_mark = None, ""

    def due_s(self, record: Record, now: float) -> list[float]:
        """When the next budget ends, in seconds from `now`. One that is over, and only told of in
        observe mode, is no reason to look again."""
        watch, told = record.start.watch, record.start.too_slow
        over = watch is None or (told and watch.ends_at <= now)
        return [] if watch is None or over else [watch.ends_at - now]

    def _begin(self, record: Record) -> None:
        seen, now = record.start, time.monotonic()
        weights_mib = record.running.weights_mib if record.running is not None else 0
        budget = budget_s(weights_mib, _known_s(record), record.profile.start_budget_s)
        seen.progress, seen.too_slow = NO_PROGRESS, False
        seen.watch = StartWatch(now, budget, now)
        seen.reader = self._tasks.spawn(self._read(record.profile.name))

    def _end(self, record: Record) -> None:
        seen = record.start
        if seen.reader is not None:
            seen.reader.cancel()
        if record.state.phase is Phase.SERVING:
            seen.tried = seen.verdict = None
            if seen.ours_at is not None:
                seen.last_s = round(time.monotonic() - seen.ours_at, 1)
                seen.last_mark = seen.mark
        seen.reader, seen.watch = None, None

    async def _read(self, name: str) -> None:
        def tell(progress: StartProgress) -> None:
            self._put(StartMoved(name, progress, time.monotonic()))

        try:
            await self._logs.follow(name, await self._find_invocation(name), tell)
        except Exception:  # the root of a task
            log.exception("internal-error", instance=name)

    async def _find_invocation(self, name: str) -> str:
        """Of the engine that loads. Asked for until systemd tells it; cancelled when it does not
        load any more: without its log a start that moves would be taken for one that hangs."""
        told = ""
        while True:
            why = "systemd tells no invocation of its unit"
            try:
                if found := (await self._status(engine_unit(name))).invocation_id:
                    return found
            except AgentError as error:
                why = error.failure.message
            if why != told:
                log.warning("engine-log-not-read", instance=name, reason=why)
                told = why
            await asyncio.sleep(ASK_AGAIN_S)

    def _ask_why(self, record: Record, before: Phase) -> None:
        if not died(record.state.failure):
            return
        # Of one that was there before this agent nobody knows whether it had answered.
        served = before is Phase.SERVING or (
            before is Phase.LOADING and record.start.ours_at is None
        )
        seen = record.engine if before is not Phase.STARTING else None
        invocation = seen.invocation_id if seen is not None else ""
        verdict: asyncio.Future[Tried | None] = asyncio.get_running_loop().create_future()
        record.start.verdict = verdict
        work = self._diagnose(record.profile.name, invocation, served, record.start.mark, verdict)
        self._tasks.spawn(work)

    async def _diagnose(
        self,
        name: str,
        invocation: str,
        served: bool,
        mark: str,
        verdict: "asyncio.Future[Tried | None]",
    ) -> None:
        """Of the start with that `mark`."""
        found: Failure | None = None
        try:
            if not invocation:
                invocation = (await self._status(engine_unit(name))).invocation_id
            found = await self._logs.why(name, invocation, served) if invocation else None
        except AgentError as error:
            log.warning("engine-log-not-read", instance=name, reason=error.failure.message)
        except Exception:  # the root of a task
            log.exception("internal-error", instance=name)
        lasts = found is not None and found.remedy is Remedy.CHANGE
        verdict.set_result(Tried(mark, found) if found is not None and lasts and mark else None)
        if found is not None:
            self._put(Happened(name, Diagnosed(found)))

    def _take_reason(self, record: Record, failure: Failure) -> None:
        seen, state = record.start, record.state
        if state.failure == failure and state.phase is not Phase.HELD:  # that is told as a phase
            self._events.note(record.profile.name, failure.code, failure.message)
        if seen.verdict is not None and seen.verdict.done() and seen.verdict.result() is not None:
            seen.tried = seen.verdict.result()


def _known_s(record: Record) -> float | None:
    """What was measured, where it tells something: for another image or model, or with other
    options, nothing is cached. What was adopted, or measured by an older version, has no mark."""
    seen = record.start
    is_other = seen.mark != "" and seen.last_mark not in ("", seen.mark)
    return None if is_other or record.update.state.on_trial else seen.last_s
