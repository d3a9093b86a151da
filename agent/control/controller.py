# SPDX-License-Identifier: MulanPSL-2.0
"""The one writer: takes messages from a queue, asks policy, lets actions run, publishes snapshots.

Everything that happens comes in as a message (`Message`); actions and probes are tasks that put
what came of them back into the queue. Nobody else changes the state.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import assert_never

from agent.action.start import Actions
from agent.config.kept import keep_last
from agent.config.values import Config, Mode
from agent.control.disks import DiskCare
from agent.control.events import EventLog
from agent.control.fetching import Fetching
from agent.control.keeping import build_keep
from agent.control.loading import Loading
from agent.control.memory import Memory
from agent.control.messages import (
    Asked,
    ConfigSeen,
    ContainerFound,
    DisksSeen,
    EngineKilled,
    EngineSeen,
    EvidenceKept,
    FailureRead,
    FetchDone,
    FetchMoved,
    FileChecked,
    FileTrouble,
    Happened,
    HoldAsked,
    InventorySeen,
    Message,
    MetricsPortSeen,
    NpuAsked,
    PortMended,
    PruneAsked,
    PruneDone,
    PullAsked,
    RenewalsSeen,
    ResetDone,
    StartDone,
    StartMoved,
    Swept,
    SystemdSeen,
    UnitsSeen,
    UpdateHappened,
)
from agent.control.npu_desk import NpuDesk, Orders
from agent.control.observers import Observers
from agent.control.pilot import Pilot, observing
from agent.control.record import processes, say_inventory, usable
from agent.control.renewals import Renewals
from agent.control.roster import Roster
from agent.control.showing import Shown, build_snapshot
from agent.control.strangers import Strangers
from agent.control.tasks import Tasks
from agent.control.unwanted import Unwanted
from agent.control.updating import Updating
from agent.control.upkeep import Upkeep
from agent.control.vitals import Vitals
from agent.control.worker import Fronts, Worker
from agent.errors import Code, Failure
from agent.model import Inventory, Phase, ResetOutcome
from agent.policy.npu.kept import recall_fleet, remember_fleet
from agent.policy.npu.state import ResetNpus
from agent.policy.state import CauseChanged, NpuLost, Tick
from agent.ports import Disks, EventKeeper, NpuDriver, ResetReport, StoredEvent, Supplier
from agent.status.snapshot import Board, Snapshot

# The loop turns at least this often: watchdog, backoff, the elapsed time in STATUS=.
TURN_S = 5.0
NOT_ASKED_YET = Failure(
    Code.SYSTEMD_UNAVAILABLE, "cannot tell yet: systemd has not been asked", "try again"
)

OVER = {
    "file-written": "the files of the agent are written again",
    "metrics-served": "Prometheus can ask at its port again",
}


@dataclass
class Controller:
    """Owns the state. `turned` is called on every turn."""

    config: Config
    actions: Actions
    npud: NpuDriver
    fronts: Fronts
    observers: Observers
    supplier: Supplier
    disks: Disks
    turned: Callable[[Snapshot], None]
    keep: Callable[[Memory], None]  # called on every turn with what shall outlive the agent
    memory: Memory  # what the agent before this one has kept
    boot_id: str
    history: EventKeeper
    told_before: Sequence[StoredEvent] = ()  # the latest events of the agent before this one
    config_problem: Failure | None = None  # of the files, when `config` is not what they say
    started_at: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        self._queue: asyncio.Queue[Message] = asyncio.Queue()
        self.roster = Roster(self.actions.files, self.memory, self.boot_id)
        self.events = EventLog(self.history, self.told_before)
        self.strangers = Strangers(self.roster, self.events)
        self._tasks = Tasks(self._note_error)
        self._worker = Worker(self.actions, self.npud, self.fronts, self.observers, self.put)
        self._upkeep = Upkeep(self._worker, self._tasks, self.events)
        self._renewals = Renewals(self.actions.files, self.put, self._tasks, self.events)
        fleet = recall_fleet(self.memory.npus, time.monotonic(), time.time())
        orders = Orders(self._lose_npu, self._reset_npus, self._refresh_npus)
        self.desk = NpuDesk(lambda: self.config, fleet, self.events, orders)
        fetching = Fetching(self.supplier, self.put, self._tasks, self.events)
        self.pilot = Pilot(
            lambda: self.config,
            self.roster,
            self._worker,
            self._tasks,
            self.events,
            self._upkeep,
            self.desk,
            Loading(
                self.observers.logs,
                self.actions.units.status,
                self.put,
                self._tasks,
                self.events,
            ),
            fetching,
            Updating(
                self.supplier,
                self.put,
                self._tasks,
                self.events,
                fetching,
                lambda record: any(one.logic_id in record.npus for one in self.desk.unfit),
                self.boot_id,
            ),
        )
        self._vitals = Vitals(
            lambda: self.config, self._worker, self._tasks, self.events, self.pilot.feed
        )
        self._unwanted = Unwanted(lambda: self.config, self.events, self.pilot.feed)
        self._disk_care = DiskCare(
            lambda: self.config,
            lambda: build_keep(self.config, self.config_problem, self.roster, self.strangers.names),
            self.disks,
            self.put,
            self._tasks,
            self.events,
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
        if self.config_problem is None:
            self.strangers.look(self.config)
        for record in self.roster:
            self.pilot.feed(record.profile.name, Tick())
            self.pilot.check_start(record)
            self._renewals.turn(record)
            self._unwanted.turn(record, systemd_answers=self.systemd_problem is None)
            if self._may_act():
                self._upkeep.turn(record)
                self._vitals.turn(record)
                self.pilot.check_update(record)
        self._disk_care.turn(self._may_act())
        self.board.put(self._snapshot())
        self.turned(self.board.snapshot)
        npus = remember_fleet(self.desk.fleet, time.monotonic(), time.time())
        self.keep(self.roster.remembered(npus))

    def _note_error(self, error: BaseException) -> None:
        self.events.note("", Code.INTERNAL, repr(error))

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
            due += self.pilot.loading.due_s(record, now)
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
            case StartMoved():
                self.pilot.take_moved(message)
            case FetchMoved() | FetchDone():
                self.pilot.take_fetch(message)
            case PullAsked():
                self.pilot.take_fetch(message)
                _done(message.answer)
            case HoldAsked():
                self.pilot.take_hold(message)
                _done(message.answer)
            case UpdateHappened():
                self.pilot.take_update(message)
                if message.answer is not None:
                    _done(message.answer)
            case FailureRead():
                self.pilot.take_update(message)
            case DisksSeen() | PruneAsked() | PruneDone():
                self._disk_care.take(message)
            case ResetDone():
                self._npu_news(self.desk.take_reset(message))
            case NpuAsked():
                self._npu_news(self.desk.take(message.event))
                _done(message.answer)
            case ContainerFound() | EngineSeen() | EvidenceKept() | EngineKilled() | PortMended():
                if (record := self.roster.get(message.instance)) is not None:
                    self._vitals.take(record, message)
            case Swept() | FileChecked():
                if (record := self.roster.get(message.instance)) is not None:
                    self._upkeep.take(record, message)
            case RenewalsSeen():
                if (record := self.roster.get(message.instance)) is not None:
                    self._renewals.take(record, message)
            case FileTrouble():
                self._take_trouble(message.failure, "file-written")
            case MetricsPortSeen():
                self._take_trouble(message.failure, "metrics-served")
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
                self.events.note("", problem.code, problem.message)
            return
        self.events.note("", "systemd-answers", "")
        self.pilot.feed_all(CauseChanged())

    def _take_trouble(self, failure: Failure | None, over: str) -> None:
        """Of the agent's own. `over`: the event that tells of its end."""
        if failure is None:
            self.events.note("", over, OVER[over])
        else:
            self.events.note("", failure.code, failure.message)

    def _take_reload(self, config: Config | Failure) -> None:
        if isinstance(config, Failure):
            # What is read again by itself is told once.
            told = config == self.config_problem and config.code is Code.CONFIG_UNREAD
            self.config_problem = config
            if not told:
                self.events.note("", "config-refused", config.message)
        else:
            self.config_problem = None
            self._take_config(keep_last(config, self.config))

    def _take_config(self, config: Config) -> None:
        """Whoever waits looks again: a person has changed something, and expects to see it."""
        before, self.config = self.config, config
        for broken in config.broken:
            self.events.note(broken.name, "profile-refused", broken.message)
        for file in config.faults.broken:
            self.events.note("", "faults-refused", file.message)
        for profile in config.profiles:
            record = self.roster.get(profile.name)
            if record is None:
                self.roster.add(profile, config.limits)
            else:
                record.profile = profile
        if config != before:
            self.pilot.feed_all(CauseChanged())

    def _take_units(self, seen: UnitsSeen) -> None:
        record = self.roster.get(seen.instance)
        if record is None:
            self.strangers.take(seen)
            return
        first = record.engine is None
        missed = record.missed(seen)
        for look in (seen,) if missed is None else (missed, seen):
            for event in record.see(look):
                self.pilot.feed(seen.instance, event)
        if first and not record.state.wished and seen.engine.load_state == "loaded":
            self._upkeep.went_idle(record)  # it ran once; nobody may have been there at its end

    def _take_inventory(self, inventory: Inventory) -> None:
        before, self.desk.inventory = self.desk.inventory, inventory
        if say_inventory(before) != say_inventory(inventory):
            self.events.note("", "npus", say_inventory(inventory))
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
        # Files that cannot be read say of nobody that it has no profile.
        without_profile = self.strangers.names if self.config_problem is None else ()
        shown = Shown(
            self.config,
            self.config_problem,
            self.systemd_problem,
            self.started_at,
            self.events.latest,
            self._disk_care.views(),
            self._disk_care.prunable_bytes,
            without_profile,
        )
        return build_snapshot(shown, self.roster, self.desk)


def _done(answer: "asyncio.Future[None]") -> None:
    """The asker may be gone."""
    if not answer.done():
        answer.set_result(None)
