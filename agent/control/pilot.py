# SPDX-License-Identifier: MulanPSL-2.0
"""Steers the instances: feeds policy with what happens to them, and has done what it decides."""

import random
import time
from collections.abc import Callable
from typing import assert_never

from agent.action.prepare import Request
from agent.action.running import Running
from agent.action.start import Started
from agent.config.values import BrokenProfile, Config, Mode
from agent.control.events import EventLog
from agent.control.messages import StartDone
from agent.control.npu_desk import NpuDesk
from agent.control.record import Record
from agent.control.roster import Roster
from agent.control.tasks import Tasks
from agent.control.upkeep import Upkeep
from agent.control.worker import Worker
from agent.errors import Code, Failure
from agent.model import Phase
from agent.policy.instance import decide
from agent.policy.state import (
    Event,
    Nothing,
    NpuLost,
    Start,
    StartEnded,
    Stop,
)


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
    ) -> None:
        self._config = config
        self._roster = roster
        self._worker = worker
        self._tasks = tasks
        self._events = events
        self._upkeep = upkeep
        self._desk = desk

    def request(self, record: Record) -> Request:
        """How `record` would be started now."""
        neighbors = self._roster.neighbors(record, self._worker.claims)
        desk = self._desk
        renderer = self._config().renderer
        return Request(record.profile, renderer, desk.inventory, neighbors, desk.unfit)

    def feed_all(self, event: Event) -> None:
        for name in self._roster.names():
            self.feed(name, event)

    def take_start(self, done: StartDone) -> None:
        record = self._roster.get(done.instance)
        if record is None:
            return
        failure, lost = None, None
        record.started_at = done.ended_at
        match done.outcome:
            case Failure():
                failure = done.outcome
            case Started(running=Running() as running):
                record.running, record.npus = running, running.npus
                record.restarts += record.state.failure is not None
                lost = self._desk.why_lost(done.instance, running.npus)
                if done.outcome.refused:
                    self._events.note(done.instance, "quadlet-refused", done.outcome.refused)
            case Started():
                pass
        if lost is not None:
            self.feed(done.instance, NpuLost(lost))
        self.feed(done.instance, StartEnded(failure))

    def feed(self, name: str, event: Event) -> None:
        record = self._roster.get(name)
        if record is None:
            return
        before = record.state
        now = time.monotonic()
        chance = random.random()  # noqa: S311 - jitter needs no secrecy
        record.state, decision = decide(before, event, now, self._config().limits, chance)
        if record.state.phase is not before.phase:
            record.since = time.time()
            self._events.tell(name, before.phase, record.state)
            if record.state.phase is Phase.IDLE:
                self._upkeep.went_idle(record)
        self._follow_probe(record)
        match decision:
            case Start():
                self._begin(record, before.phase)
            case Stop():
                self._tasks.spawn(self._worker.stop(name))
            case Nothing():
                pass
            case _:
                assert_never(decision)

    def _begin(self, record: Record, before: Phase) -> None:
        """One action at a time for an instance: policy asks for the next when one has ended.

        Under a profile that is broken by now an engine that has died is started again, and none
        anew: whoever starts it is told what is wrong.
        """
        name = record.profile.name
        found = self._config().profile(name)
        if isinstance(found, BrokenProfile) and before in (Phase.IDLE, Phase.HELD):
            refusal = Failure(Code.CONFIG_INVALID, found.message, found.hint)
            self._worker.put(StartDone(name, refusal, time.monotonic()))
        elif self._config().mode is Mode.OBSERVE:
            self._worker.put(StartDone(name, observing(f"start {name}"), time.monotonic()))
        else:
            self._tasks.spawn(self._worker.start(name, lambda: self.request(record)))

    def _follow_probe(self, record: Record) -> None:
        """A probe runs exactly while the instance loads."""
        loading = record.state.phase is Phase.LOADING
        if loading and record.probe is None:
            record.probe = self._tasks.spawn(self._worker.watch(record.in_force))
            if not record.npus:
                self._tasks.spawn(self._worker.find_npus(record.profile))
        elif not loading and record.probe is not None:
            record.probe.cancel()
            record.probe = None


def observing(what: str) -> Failure:
    """In observe mode nothing is done."""
    return Failure(
        Code.OBSERVING,
        f'cannot {what}: mode is "observe"',
        'set mode = "act" in /etc/deepseek-agent/agent.toml',
    )
