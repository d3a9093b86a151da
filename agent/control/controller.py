# SPDX-License-Identifier: MulanPSL-2.0
"""The one writer: takes messages from a queue, asks policy, lets actions run, publishes snapshots.

Everything that happens comes in as a message (`Message`); actions and probes are tasks that put
what came of them back into the queue. Nobody else changes the state.
"""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import assert_never

from agent import __version__
from agent.action.prepare import Request
from agent.action.running import Running
from agent.action.start import Actions, Started
from agent.config.kept import keep_last
from agent.config.values import BrokenProfile, Config, Mode
from agent.control.events import EventLog
from agent.control.memory import Memory
from agent.control.messages import (
    Asked,
    ConfigSeen,
    FileChecked,
    FileTrouble,
    Happened,
    InventorySeen,
    Message,
    NpusFound,
    StartDone,
    Swept,
    SystemdSeen,
    UnitsSeen,
)
from agent.control.record import Record, build_view, processes, say_inventory, usable
from agent.control.roster import Roster
from agent.control.tasks import Tasks
from agent.control.upkeep import Upkeep
from agent.control.worker import Fronts, Probe, Worker
from agent.errors import Code, Failure
from agent.model import DriverState, Inventory, Phase
from agent.policy.instance import decide
from agent.policy.state import (
    CauseChanged,
    Event,
    Nothing,
    Start,
    StartEnded,
    Stop,
    Tick,
)
from agent.status.snapshot import SCHEMA, Board, Snapshot

# The loop turns at least this often: watchdog, backoff, the elapsed time in STATUS=.
TURN_S = 5.0
NOT_ASKED_YET = Failure(
    Code.SYSTEMD_UNAVAILABLE, "cannot tell yet: systemd has not been asked", "try again"
)


@dataclass
class Controller:
    """Owns the state. `probe` waits until an instance answers; `turned` is called on every turn."""

    config: Config
    actions: Actions
    fronts: Fronts
    probe: Probe
    turned: Callable[[Snapshot], None]
    keep: Callable[[Memory], None]  # called on every turn with what shall outlive the agent
    memory: Memory  # what the agent before this one has kept
    boot_id: str
    config_problem: Failure | None = None  # of the files, when `config` is not what they say
    started_at: float = field(default_factory=time.time)
    inventory: Inventory = field(
        default_factory=lambda: Inventory(DriverState.UNKNOWN, detail="npud has not answered yet")
    )

    def __post_init__(self) -> None:
        self._queue: asyncio.Queue[Message] = asyncio.Queue()
        self.roster = Roster(self.actions.files, self.memory, self.boot_id)
        self._events = EventLog()
        self._tasks = Tasks(lambda error: self._events.note("", Code.INTERNAL, repr(error)))
        self._worker = Worker(self.actions, self.fronts, self.probe, self.put)
        self._upkeep = Upkeep(self._worker, self._tasks, self._events)
        # Until systemd has been asked nothing is known, and nothing is done.
        self.systemd_problem: Failure | None = NOT_ASKED_YET
        self._take_config(self.config)
        self.board = Board(self._snapshot())

    def put(self, message: Message) -> None:
        """From any task of the loop."""
        self._queue.put_nowait(message)

    def request(self, record: Record) -> Request:
        """How `record` would be started now."""
        neighbors = self.roster.neighbors(record, self._worker.claims)
        return Request(record.profile, self.config.renderer, self.inventory, neighbors)

    async def run(self) -> None:
        """Ends only by cancellation; tasks that it started end with it."""
        try:
            while True:
                await self._turn()
        finally:
            await self._tasks.end()

    async def _turn(self) -> None:
        message: Message | None = None
        try:
            async with asyncio.timeout(self._idle_s()):
                message = await self._queue.get()
        except TimeoutError:
            pass
        if message is not None:
            self._handle(message)
        for record in self.roster:
            self._feed(record.profile.name, Tick())
            if self._may_act():
                self._upkeep.turn(record)
        self.board.put(self._snapshot())
        self.turned(self.board.snapshot)
        self.keep(self.roster.remembered())

    def _may_act(self) -> bool:
        return self.config.mode is Mode.ACT and self.systemd_problem is None

    def _idle_s(self) -> float:
        """Until the next thing that has its time."""
        now = time.monotonic()
        due = [TURN_S]
        for record in self.roster:
            if record.state.phase in (Phase.BACKOFF, Phase.WAITING, Phase.HELD):
                due.append(record.state.not_before - now)
            due += self._upkeep.due_s(record, now)
        return max(0.0, min(due))

    # --- taking messages in ----------------------------------------------------------------------

    def _handle(self, message: Message) -> None:
        match message:
            case UnitsSeen():
                self._take_units(message)
            case SystemdSeen():
                self._take_systemd(message.problem)
            case InventorySeen():
                self._take_inventory(message.inventory)
            case ConfigSeen():
                self._take_reload(message.config)
                _done(message.answer)
            case Happened():
                self._feed(message.instance, message.event)
            case StartDone():
                self._take_start(message)
            case NpusFound():
                if (record := self.roster.get(message.instance)) is not None:
                    record.npus = message.npus
            case Swept():
                if (record := self.roster.get(message.instance)) is not None:
                    self._upkeep.take_swept(record, message)
            case FileChecked():
                if (record := self.roster.get(message.instance)) is not None:
                    self._upkeep.take_file_check(record, message)
            case FileTrouble():
                self._take_trouble(message.failure)
            case Asked():
                self._feed(message.instance, message.event)
                _done(message.answer)
            case _:
                assert_never(message)

    def _take_systemd(self, problem: Failure | None) -> None:
        before, self.systemd_problem = self.systemd_problem, problem
        if before == problem or (before is NOT_ASKED_YET and problem is None):
            return
        if problem is not None:
            if before is None or before is NOT_ASKED_YET:
                self._events.note("", problem.code, problem.message)
            return
        self._events.note("", "systemd-answers", "")
        for name in self.roster.names():
            self._feed(name, CauseChanged())

    def _take_trouble(self, failure: Failure | None) -> None:
        if failure is None:
            self._events.note("", "file-written", "the files of the agent are written again")
        else:
            self._events.note("", failure.code, failure.message)

    def _take_reload(self, config: Config | Failure) -> None:
        if isinstance(config, Failure):
            self.config_problem = config
            self._events.note("", "config-refused", config.message)
        else:
            self.config_problem = None
            self._take_config(keep_last(config, self.config))

    def _take_config(self, config: Config) -> None:
        self.config = config
        for broken in config.broken:
            self._events.note(broken.name, "profile-refused", broken.message)
        for profile in config.profiles:
            record = self.roster.get(profile.name)
            if record is None:
                self.roster.add(profile, config.limits)
            elif record.profile != profile:
                record.profile = profile
                self._feed(profile.name, CauseChanged())

    def _take_units(self, seen: UnitsSeen) -> None:
        record = self.roster.get(seen.instance)
        if record is None:
            return
        first = record.engine is None
        for event in record.see(seen):
            self._feed(seen.instance, event)
        if first and not record.state.wished and seen.engine.load_state == "loaded":
            self._upkeep.went_idle(record)  # it ran once; nobody may have been there at its end

    def _take_inventory(self, inventory: Inventory) -> None:
        before, self.inventory = self.inventory, inventory
        if usable(before) != usable(inventory):
            self._events.note("", "npus", say_inventory(inventory))
        elif processes(before) == processes(inventory):
            return
        for name in self.roster.names():
            self._feed(name, CauseChanged())

    def _take_start(self, done: StartDone) -> None:
        record = self.roster.get(done.instance)
        if record is None:
            return
        failure: Failure | None = None
        record.started_at = done.ended_at
        match done.outcome:
            case Failure():
                failure = done.outcome
            case Started(running=Running() as running):
                record.running, record.npus = running, running.npus
                record.restarts += record.state.failures > 0
                if done.outcome.refused:
                    self._events.note(done.instance, "quadlet-refused", done.outcome.refused)
            case Started():
                pass
        self._feed(done.instance, StartEnded(failure))

    # --- policy ----------------------------------------------------------------------------------

    def _feed(self, name: str, event: Event) -> None:
        record = self.roster.get(name)
        if record is None:
            return
        before = record.state
        now = time.monotonic()
        chance = random.random()  # noqa: S311 - jitter needs no secrecy
        record.state, decision = decide(before, event, now, self.config.limits, chance)
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
        found = self.config.profile(name)
        if isinstance(found, BrokenProfile) and before in (Phase.IDLE, Phase.HELD):
            refusal = Failure(Code.CONFIG_INVALID, found.message, found.hint)
            self.put(StartDone(name, refusal, time.monotonic()))
        elif self.config.mode is Mode.OBSERVE:
            self.put(StartDone(name, observing(f"start {name}"), time.monotonic()))
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

    # --- telling ---------------------------------------------------------------------------------

    def _snapshot(self) -> Snapshot:
        now, wall = time.monotonic(), time.time()
        return Snapshot(
            schema=SCHEMA,
            version=__version__,
            mode=self.config.mode,
            at=wall,
            started_at=self.started_at,
            inventory=self.inventory,
            instances=tuple(
                build_view(record, self.inventory, now, wall) for record in self.roster
            ),
            config_problem=self.config_problem,
            broken=tuple(f"{one.name}: {one.message}" for one in self.config.broken),
            events=self._events.latest,
            systemd_problem=self.systemd_problem,
        )


def observing(what: str) -> Failure:
    """In observe mode nothing is done."""
    return Failure(
        Code.OBSERVING,
        f'cannot {what}: mode is "observe"',
        'set mode = "act" in /etc/deepseek-agent/agent.toml',
    )


def _done(answer: "asyncio.Future[None]") -> None:
    """The asker may be gone."""
    if not answer.done():
        answer.set_result(None)
