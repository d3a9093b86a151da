# SPDX-License-Identifier: MulanPSL-2.0
"""Steers the instances: feeds policy with what happens to them, and has done what it decides."""

import random
import time
from collections.abc import Callable
from dataclasses import replace
from typing import assert_never

from agent.action.examine import Patient
from agent.action.prepare import Request
from agent.action.running import Running
from agent.action.start import Started
from agent.config.values import BrokenProfile, Config, Mode
from agent.control.events import EventLog
from agent.control.fetching import Fetching
from agent.control.loading import Loading
from agent.control.messages import (
    FailureRead,
    FetchDone,
    FetchMoved,
    HoldAsked,
    OfFetch,
    OfUpdate,
    PullAsked,
    StartDone,
    StartMoved,
    UpdateHappened,
)
from agent.control.npu_desk import NpuDesk
from agent.control.record import UP, Record
from agent.control.roster import Roster
from agent.control.tasks import Tasks
from agent.control.updating import Updating
from agent.control.upkeep import Upkeep
from agent.control.watching import Watching
from agent.control.worker import StartOrder, Worker
from agent.errors import Code, Failure
from agent.model import Hold, Inventory, Phase
from agent.plan.supply import Lacking, build_recheck, without_sources
from agent.policy.instance import WAIT_FOR_FETCH, decide, died
from agent.policy.state import (
    CauseChanged,
    Diagnosed,
    EngineIll,
    Event,
    Fetch,
    FetchEnded,
    InstanceState,
    Nothing,
    NpuLost,
    RestartRequested,
    Start,
    StartEnded,
    Stop,
    WishChanged,
)
from agent.policy.update_state import UpdateFetched
from agent.supplies import Order, Report, Supply

# Of engines that died one after the other.
EVIDENCE_KEPT = 3
# What is under way ends first.
ACTING = (Phase.STARTING, Phase.STOPPING)


class Pilot:
    """`config` tells what is in force now."""

    def __init__(
        self,
        config: Callable[[], Config],
        roster: Roster,
        worker: Worker,
        tasks: Tasks,
        events: EventLog,
        upkeep: Upkeep,
        desk: NpuDesk,
        loading: Loading,
        fetching: Fetching,
        updating: Updating,
    ) -> None:
        self._config = config
        self._roster = roster
        self._worker = worker
        self._tasks = tasks
        self._events = events
        self._upkeep = upkeep
        self._desk = desk
        self.loading = loading
        self._fetching = fetching
        self._updating = updating
        self._watching = Watching(worker, tasks)

    def request(self, record: Record, pinned: Supply | None = None) -> Request:
        """How `record` would be started now, on what is `pinned` or shall run."""
        neighbors = self._roster.neighbors(record, self._worker.claims)
        desk = self._desk
        config = self._config()
        return Request(
            record.profile,
            config.renderer,
            desk.inventory,
            neighbors,
            desk.unfit,
            config.supply,
            pinned or record.update.state.pin,
            shares_model=config.shares_model(record.profile),
            host_suspect=desk.fleet.suspect,
            mends=record.update.state.trial is None,
        )

    def feed_all(self, event: Event) -> None:
        for name in self._roster.names():
            self.feed(name, event)

    def take_start(self, done: StartDone) -> None:
        record = self._roster.get(done.instance)
        if record is None:
            return
        failure, lost = None, None
        self._worker.claims.pop(done.instance, None)
        record.started_at, record.runs_as = done.ended_at, ""
        record.fetch.lacks = None
        match done.outcome:
            case Failure():
                failure = done.outcome
            case Lacking():
                failure = record.fetch.why = done.outcome.failure
                record.fetch.lacks = self._allowed(done.outcome.order)
            case Started(running=Running() as running):
                record.running, record.npus = running, running.npus
                record.runs_as = done.outcome.invocation
                self.loading.started(record)
                record.restarts += record.state.failure is not None
                lost = self._desk.why_lost(done.instance, running.npus)
                self._updating.started(record, is_new=True)
                if done.outcome.refused:
                    self._events.note(done.instance, "quadlet-refused", done.outcome.refused)
                if done.outcome.alarmed:
                    self._events.note(done.instance, "npu-alarm-passed", done.outcome.alarmed)
                if (beside := done.outcome.beside) is not None:
                    self._events.note(done.instance, beside.code, beside.message)
            case Started():
                self._roster.adopt(record)
                self._updating.started(record, is_new=False)
        if lost is not None:
            self.feed(done.instance, NpuLost(lost))
        self.feed(done.instance, StartEnded(failure, record.fetch.lacks is not None))

    def take_fetch(self, message: OfFetch) -> None:
        record = self._roster.get(message.instance)
        if record is None:
            return
        match message:
            case PullAsked(order=None):
                self._fetching.nothing_lacks(record)
                self.feed_all(CauseChanged())  # somebody else may have brought it
            case PullAsked(order=Order() as order):
                self._fetching.begin(record, order, asked=True)
            case PullAsked():
                pass
            case FetchMoved() | FetchDone():
                ended = self._fetching.take(record, message)
                if ended is None or isinstance(message, FetchMoved):
                    return
                if message.order == record.update.state.order:
                    self._updating.decide(record, UpdateFetched(ended))
                else:
                    self._end_fetch(record, message.order, ended)

    def _end_fetch(self, record: Record, order: Order, ended: Report | Failure) -> None:
        failure = ended if isinstance(ended, Failure) else ended.failure
        why = record.fetch.why
        if failure is not None and why is not None and failure.code is why.code:
            # Nothing was found anywhere. The plan has said what is missing; this, where it was not.
            failure = replace(failure, message=f"{why.message}; {failure.message}")
        waited = record.state.phase in WAIT_FOR_FETCH
        mended = order.model is not None and order.model.recheck
        self.feed(record.name, FetchEnded(failure, mended))
        if failure is None:
            # Another may have lacked the same. Not to this one: news would have it fetched again.
            for name in self._roster.names():
                if name != record.name or not waited:
                    self.feed(name, CauseChanged())

    def _allowed(self, order: Order) -> Order:
        """Without a person's word nothing is fetched where the settings say so."""
        return order if self._config().supply.fetch else without_sources(order)

    def _may_mend(self, record: Record, failure: Failure) -> bool:
        """Whether its model is ours to bring again. One that is on trial goes back to what could be
        read instead."""
        supply = record.running.supply if record.running is not None else None
        if supply is None or not supply.model_revision or record.update.state.on_trial:
            return False
        record.fetch.why = failure
        order = build_recheck(record.profile, self._config().supply, supply.model_revision)
        record.fetch.lacks = self._allowed(order)
        return self._config().mode is Mode.ACT

    def take_update(self, message: OfUpdate) -> None:
        record = self._roster.get(message.instance)
        if record is None:
            return
        match message:
            case UpdateHappened():
                self._updating.decide(record, message.event)
            case FailureRead():
                self._updating.take_reason(record)
            case _:
                assert_never(message)

    def take_hold(self, asked: HoldAsked) -> None:
        record = self._roster.get(asked.instance)
        if record is None or record.hold == asked.hold:
            return
        record.hold = asked.hold
        if asked.hold is None:
            self._events.note(record.name, "released", "")
            self.feed(record.name, CauseChanged())
        else:
            self._events.note(
                record.name, Code.ON_HOLD, why_on_hold("serve", record, asked.hold).message
            )
            if record.state.phase not in ACTING:
                self.feed(record.name, RestartRequested())  # its next start is refused

    def check_update(self, record: Record) -> None:
        """Not called in observe mode."""
        self._updating.turn(record)
        if self._updating.takes_restart(record):
            self.feed(record.name, RestartRequested())

    def take_moved(self, moved: StartMoved) -> None:
        if (record := self._roster.get(moved.instance)) is not None:
            self.loading.take(record, moved)

    def check_start(self, record: Record) -> None:
        """Whether it is too slow; in observe mode that is only said."""
        failure = self.loading.why_too_slow(record, time.monotonic())
        if failure is None:
            return
        name = record.profile.name
        if not record.start.too_slow:
            record.start.too_slow = True
            self._events.note(name, failure.code, failure.message)
        if self._config().mode is not Mode.OBSERVE:
            self.loading.give_up(record)
            self.feed(name, EngineIll(failure))

    def feed(self, name: str, event: Event) -> None:
        record = self._roster.get(name)
        if record is None:
            return
        if (first := self.loading.asked(record, event)) is not None:
            self.feed(name, first)
        if isinstance(event, Diagnosed) and event.failure.code is Code.MODEL_INVALID:
            event = replace(event, mendable=self._may_mend(record, event.failure))
        before = record.state
        now = time.monotonic()
        chance = random.random()  # noqa: S311 - jitter needs no secrecy
        record.state, decision = decide(before, event, now, self._config().limits, chance)
        adopted = _comes_up(before, record.state) and not isinstance(event, StartEnded)
        if adopted:
            # From a start of ours whose end was not heard: the bus was away, or the job was late.
            # Or it is the one of before, since a stop of ours was not heard there.
            self._roster.adopt(record)
            self._updating.started(record, is_new=False)
        if record.state.phase is not before.phase:
            record.since = time.time()
            self._events.tell(name, before.phase, record.state)
            if record.state.phase is Phase.IDLE:
                self._upkeep.went_idle(record)
        self._watching.follow(record, before.phase)
        self.loading.follow(record, before, event)
        self._updating.follow(record, before, event)
        self._fetching.follow(record, record.state)
        self._keep_last_words(record, before)
        match decision:
            case Start():
                self._begin(record, anew=_is_new(before.phase, event))
            case Stop(ill=ill):
                work = (
                    self._worker.stop(name)
                    if ill is None
                    else self._worker.stop_ill(_patient(record, ill), self._inventory)
                )
                self._tasks.spawn(work)
            case Fetch():
                if record.fetch.lacks is not None:
                    self._fetching.begin(record, record.fetch.lacks)
            case Nothing():
                pass
            case _:
                assert_never(decision)
        self._follow_hold(record, before)

    def _follow_hold(self, record: Record, before: InstanceState) -> None:
        """What comes up on hold is stopped, what would be tried again is not: it was on its way
        when a person asked. One that was released meanwhile goes on."""
        if record.hold is None or self._config().mode is Mode.OBSERVE:
            return
        phase = record.state.phase
        if phase is not before.phase and phase not in (*ACTING, Phase.IDLE, Phase.HELD):
            self.feed(record.name, RestartRequested())

    def _keep_last_words(self, record: Record, before: InstanceState) -> None:
        """Of one that died; of the first few in a row, which tell it all."""
        state = record.state
        news = state.phase is Phase.BACKOFF and before.phase is not Phase.BACKOFF
        if news and died(state.failure) and state.failures <= EVIDENCE_KEPT:
            assert state.failure is not None  # noqa: S101 - for mypy: it died of something
            patient = _patient(record, state.failure)
            self._tasks.spawn(self._worker.examine(patient, self._inventory))

    def _inventory(self) -> Inventory:
        return self._desk.inventory

    def _begin(self, record: Record, *, anew: bool) -> None:
        """One action at a time for an instance: policy asks for the next when one has ended.

        Under a profile that is broken by now an engine that has died is started again, and none
        anew: whoever starts it is told what is wrong.
        """
        name = record.profile.name
        found = self._config().profile(name)
        if isinstance(found, BrokenProfile) and anew:
            refusal = Failure(Code.CONFIG_INVALID, found.message, found.hint)
            self._worker.put(StartDone(name, refusal, time.monotonic()))
        elif (refused := _refusal(record)) is not None:
            self._worker.put(StartDone(name, refused, time.monotonic()))
        elif self._config().mode is Mode.OBSERVE:
            self._worker.put(StartDone(name, observing(f"start {name}"), time.monotonic()))
        else:
            order = StartOrder(
                name,
                lambda: self._updating.ready(record),
                lambda pinned: self.request(record, pinned),
                lambda: _refusal(record),
                lambda: self.loading.tried(record),
                lambda mark: self.loading.attempt(record, mark),
                again=record.state.failure is not None,
            )
            self._tasks.spawn(self._worker.start(order))


def _is_new(before: Phase, event: Event) -> bool:
    """Whether a start goes back to a person, not to an engine that has died."""
    stopped_and_started = before is Phase.STOPPING and isinstance(event, WishChanged)
    return before in (Phase.IDLE, Phase.HELD) or stopped_and_started


def _comes_up(before: InstanceState, state: InstanceState) -> bool:
    return state.phase in UP and before.phase not in UP


def _patient(record: Record, failure: Failure) -> Patient:
    container = record.container.container_id if record.container is not None else ""
    return Patient(record.profile.name, failure, container, record.metrics, record.npus)


def _refusal(record: Record) -> Failure | None:
    return None if record.hold is None else why_on_hold("start", record, record.hold)


def why_on_hold(verb: str, record: Record, hold: Hold) -> Failure:
    """A person has said so."""
    reason = f" ({hold.reason})" if hold.reason else ""
    return Failure(
        Code.ON_HOLD,
        f"cannot {verb} {record.name}: {hold.by} has put it on hold{reason}",
        f"when that is over: deepseekctl release {record.name}",
    )


def observing(what: str) -> Failure:
    """In observe mode nothing is done."""
    return Failure(
        Code.OBSERVING,
        f'cannot {what}: mode is "observe"',
        'set mode = "act" in /etc/deepseek-agent/agent.toml',
    )
