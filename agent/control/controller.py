# SPDX-License-Identifier: MulanPSL-2.0
"""The one writer: takes messages from a queue, asks policy, lets actions run, publishes snapshots.

Everything that happens comes in as a message (`Message`); actions and probes are tasks that put
what came of them back into the queue. Nobody else changes the state.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import assert_never

from agent import __version__
from agent.action.start import Actions
from agent.config.kept import keep_last
from agent.config.values import Config, Mode
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
    NpuAsked,
    NpusFound,
    ResetDone,
    StartDone,
    Swept,
    SystemdSeen,
    UnitsSeen,
)
from agent.control.npu_desk import NpuDesk, Orders
from agent.control.npu_views import build_npu_views
from agent.control.pilot import Pilot, observing
from agent.control.record import build_view, processes, say_inventory, usable
from agent.control.roster import Roster
from agent.control.tasks import Tasks
from agent.control.upkeep import Upkeep
from agent.control.worker import Fronts, Probe, Worker
from agent.errors import Code, Failure
from agent.model import Inventory, Phase, ResetOutcome
from agent.policy.npu.kept import recall_fleet, remember_fleet
from agent.policy.npu.state import ResetNpus
from agent.policy.state import CauseChanged, NpuLost, Tick
from agent.ports import NpuDriver, ResetReport
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
    npud: NpuDriver
    fronts: Fronts
    probe: Probe
    turned: Callable[[Snapshot], None]
    keep: Callable[[Memory], None]  # called on every turn with what shall outlive the agent
    memory: Memory  # what the agent before this one has kept
    boot_id: str
    config_problem: Failure | None = None  # of the files, when `config` is not what they say
    started_at: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        self._queue: asyncio.Queue[Message] = asyncio.Queue()
        self.roster = Roster(self.actions.files, self.memory, self.boot_id)
        self._events = EventLog()
        self._tasks = Tasks(lambda error: self._events.note("", Code.INTERNAL, repr(error)))
        self._worker = Worker(self.actions, self.npud, self.fronts, self.probe, self.put)
        self._upkeep = Upkeep(self._worker, self._tasks, self._events)
        fleet = recall_fleet(self.memory.npus, time.monotonic(), time.time())
        orders = Orders(self._lose_npu, self._reset_npus, self._refresh_npus)
        self.desk = NpuDesk(lambda: self.config, fleet, self._events, orders)
        self.pilot = Pilot(
            lambda: self.config,
            self.roster,
            self._worker,
            self._tasks,
            self._events,
            self._upkeep,
            self.desk,
        )
        # Until systemd has been asked nothing is known, and nothing is done.
        self.systemd_problem: Failure | None = NOT_ASKED_YET
        self._take_config(self.config)
        self.board = Board(self._snapshot())

    def put(self, message: Message) -> None:
        """From any task of the loop."""
        self._queue.put_nowait(message)

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
        self._look_at_npus()
        for record in self.roster:
            self.pilot.feed(record.profile.name, Tick())
            if self._may_act():
                self._upkeep.turn(record)
        self.board.put(self._snapshot())
        self.turned(self.board.snapshot)
        npus = remember_fleet(self.desk.fleet, time.monotonic(), time.time())
        self.keep(self.roster.remembered(npus))

    def _may_act(self) -> bool:
        return self.config.mode is Mode.ACT and self.systemd_problem is None

    def _idle_s(self) -> float:
        """Until the next thing that has its time."""
        now = time.monotonic()
        due = [TURN_S, self.desk.due_s(now)]
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
                self.pilot.feed(message.instance, message.event)
            case StartDone():
                self.pilot.take_start(message)
            case ResetDone():
                self._npu_news(self.desk.take_reset(message))
            case NpuAsked():
                self._npu_news(self.desk.take(message.event))
                _done(message.answer)
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
                self.pilot.feed(message.instance, message.event)
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
        self.pilot.feed_all(CauseChanged())

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
        for file in config.faults.broken:
            self._events.note("", "faults-refused", file.message)
        for profile in config.profiles:
            record = self.roster.get(profile.name)
            if record is None:
                self.roster.add(profile, config.limits)
            elif record.profile != profile:
                record.profile = profile
                self.pilot.feed(profile.name, CauseChanged())

    def _take_units(self, seen: UnitsSeen) -> None:
        record = self.roster.get(seen.instance)
        if record is None:
            return
        first = record.engine is None
        for event in record.see(seen):
            self.pilot.feed(seen.instance, event)
        if first and not record.state.wished and seen.engine.load_state == "loaded":
            self._upkeep.went_idle(record)  # it ran once; nobody may have been there at its end

    def _take_inventory(self, inventory: Inventory) -> None:
        before, self.desk.inventory = self.desk.inventory, inventory
        if say_inventory(before) != say_inventory(inventory):
            self._events.note("", "npus", say_inventory(inventory))
        if usable(before) == usable(inventory) and processes(before) == processes(inventory):
            return
        self.pilot.feed_all(CauseChanged())

    # --- NPUs ------------------------------------------------------------------------------------

    def _look_at_npus(self) -> None:
        """Not before each instance has been seen: an engine that runs must be known to have its
        NPUs before anything is done about them."""
        if all(record.engine is not None for record in self.roster):
            self._npu_news(self.desk.look(self.roster.holdings(self._worker.claims)))

    def _npu_news(self, changed: bool) -> None:
        if changed:
            self.pilot.feed_all(CauseChanged())

    def _lose_npu(self, name: str, failure: Failure) -> None:
        self.pilot.feed(name, NpuLost(failure))

    def _reset_npus(self, wanted: ResetNpus) -> None:
        if self.config.mode is Mode.OBSERVE:
            report = ResetReport(ResetOutcome.BUSY, observing("reset it").message)
            self.put(ResetDone(wanted.npus, report))
        else:
            self._tasks.spawn(self._worker.reset(wanted, self._taken))

    def _taken(self) -> dict[str, tuple[int, ...]]:
        return {one.instance: one.npus for one in self.roster.holdings(self._worker.claims)}

    def _refresh_npus(self) -> None:
        self._tasks.spawn(self.npud.refresh())

    # --- telling ---------------------------------------------------------------------------------

    def _snapshot(self) -> Snapshot:
        now, wall = time.monotonic(), time.time()
        return Snapshot(
            schema=SCHEMA,
            version=__version__,
            mode=self.config.mode,
            at=wall,
            started_at=self.started_at,
            inventory=self.desk.inventory,
            instances=tuple(
                build_view(record, self.desk.inventory, now, wall) for record in self.roster
            ),
            config_problem=self.config_problem,
            broken=tuple(f"{one.name}: {one.message}" for one in self.config.broken),
            events=self._events.latest,
            systemd_problem=self.systemd_problem,
            npus=build_npu_views(
                self.desk.fleet,
                self.desk.inventory,
                self.desk.unfit,
                self.desk.rules,
                self.roster.holders(),
                now,
                wall,
            ),
            host_suspect=self.desk.fleet.suspect,
            faults_problem=tuple(one.message for one in self.config.faults.broken),
        )


def _done(answer: "asyncio.Future[None]") -> None:
    """The asker may be gone."""
    if not answer.done():
        answer.set_result(None)
