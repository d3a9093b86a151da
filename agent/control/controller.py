# SPDX-License-Identifier: MulanPSL-2.0
"""The one writer: takes messages from a queue, asks policy, lets actions run, publishes snapshots.

Everything that happens comes in as a message (`Message`); actions and probes are tasks that put
what came of them back into the queue. Nobody else changes the state.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import assert_never

import structlog

from agent import __version__
from agent.action.prepare import Prepared, Request
from agent.action.start import Actions, Started
from agent.config.kept import keep_last
from agent.config.values import BrokenProfile, Config, Mode
from agent.control.messages import (
    Asked,
    ConfigSeen,
    Happened,
    InventorySeen,
    Message,
    NpusFound,
    StartDone,
    UnitsSeen,
)
from agent.control.record import (
    REVIVE_EVERY_S,
    Record,
    build_view,
    processes,
    say_inventory,
    usable,
)
from agent.control.worker import Fronts, Probe, Worker
from agent.errors import Code, Failure
from agent.facts import Neighbor
from agent.model import HOLDING, DriverState, Inventory, Phase
from agent.policy.instance import (
    CauseChanged,
    EngineObserved,
    Event,
    InstanceState,
    Nothing,
    Start,
    StartEnded,
    Stop,
    Tick,
    WishChanged,
    decide,
)
from agent.policy.wish import has_crashed, is_wished
from agent.status.snapshot import SCHEMA, Board, EventView, Snapshot

log = structlog.get_logger(__name__)

# The loop turns at least this often: watchdog, backoff, the elapsed time in STATUS=.
TURN_S = 5.0
EVENTS_KEPT = 200


@dataclass
class Controller:
    """Owns the state. `probe` waits until an instance answers; `turned` is called on every turn."""

    config: Config
    actions: Actions
    fronts: Fronts
    probe: Probe
    turned: Callable[[Snapshot], None]
    config_problem: Failure | None = None  # of the files, when `config` is not what they say
    started_at: float = field(default_factory=time.time)
    inventory: Inventory = field(
        default_factory=lambda: Inventory(DriverState.UNKNOWN, detail="npud has not answered yet")
    )

    def __post_init__(self) -> None:
        self._queue: asyncio.Queue[Message] = asyncio.Queue()
        self._records: dict[str, Record] = {}
        self._events: deque[EventView] = deque(maxlen=EVENTS_KEPT)
        self._tasks: set[asyncio.Task[None]] = set()
        self._worker = Worker(self.actions, self.fronts, self.probe, self.put)
        self._take_config(self.config)
        self.board = Board(self._snapshot())

    def put(self, message: Message) -> None:
        """From any task of the loop."""
        self._queue.put_nowait(message)

    def record(self, instance: str) -> Record | None:
        """For reading only."""
        return self._records.get(instance)

    def request(self, record: Record) -> Request:
        """How `record` would be started now."""
        neighbors = tuple(
            Neighbor(
                other.profile.name,
                (*other.npus, *self._worker.claims.get(other.profile.name, ())),
                other.profile.listen,
                other.profile.port,
            )
            for other in self._records.values()
            if other is not record and other.state.phase in HOLDING
        )
        return Request(record.profile, self.config.renderer, self.inventory, neighbors)

    async def run(self) -> None:
        """Ends only by cancellation; tasks that it started end with it."""
        try:
            while True:
                await self._turn()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _turn(self) -> None:
        message: Message | None = None
        try:
            async with asyncio.timeout(self._idle_s()):
                message = await self._queue.get()
        except TimeoutError:
            pass
        if message is not None:
            self._handle(message)
        for name, record in self._records.items():
            self._feed(name, Tick())
            self._revive(record)
        self.board.put(self._snapshot())
        self.turned(self.board.snapshot)

    def _idle_s(self) -> float:
        """Until the next thing that has its time."""
        now = time.monotonic()
        due = [
            record.state.not_before - now
            for record in self._records.values()
            if record.state.phase in (Phase.BACKOFF, Phase.WAITING, Phase.HELD)
        ]
        due += [
            record.revived_at + REVIVE_EVERY_S - now
            for record in self._records.values()
            if record.front is not None and has_crashed(record.front)
        ]
        return max(0.0, min([TURN_S, *due]))

    # --- taking messages in ----------------------------------------------------------------------

    def _handle(self, message: Message) -> None:
        match message:
            case UnitsSeen():
                self._take_units(message)
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
                if message.instance in self._records:
                    self._records[message.instance].npus = message.npus
            case Asked():
                self._feed(message.instance, message.event)
                _done(message.answer)
            case _:
                assert_never(message)

    def _take_reload(self, config: Config | Failure) -> None:
        if isinstance(config, Failure):
            self.config_problem = config
            self._note("", "config-refused", config.message)
        else:
            self.config_problem = None
            self._take_config(keep_last(config, self.config))

    def _take_config(self, config: Config) -> None:
        self.config = config
        now = time.monotonic()
        for broken in config.broken:
            self._note(broken.name, "profile-refused", broken.message)
        for profile in config.profiles:
            record = self._records.get(profile.name)
            if record is None:
                self._records[profile.name] = Record(profile, InstanceState(since=now), time.time())
            elif record.profile != profile:
                record.profile = profile
                self._feed(profile.name, CauseChanged())

    def _take_units(self, seen: UnitsSeen) -> None:
        record = self._records.get(seen.instance)
        if record is None:
            return
        record.front, record.engine = seen.front, seen.engine
        wish = WishChanged(is_wished(seen.front))
        detail = f"{seen.engine.result}, exit status {seen.engine.exit_status}"
        events: list[Event] = [EngineObserved(seen.engine.active, detail), wish]
        if not wish.wished:
            events.reverse()  # an engine that is down because nobody wants it has not died
        if seen.asked_at < record.started_at:
            events.remove(events[0] if wish.wished else events[1])  # older than our own start
        for event in events:
            self._feed(seen.instance, event)
        self._revive(record)

    def _take_inventory(self, inventory: Inventory) -> None:
        before, self.inventory = self.inventory, inventory
        if usable(before) != usable(inventory):
            self._note("", "npus", say_inventory(inventory))
        elif processes(before) == processes(inventory):
            return
        for name in self._records:
            self._feed(name, CauseChanged())

    def _take_start(self, done: StartDone) -> None:
        record = self._records.get(done.instance)
        if record is None:
            return
        failure: Failure | None = None
        record.started_at = done.ended_at
        match done.outcome:
            case Failure():
                failure = done.outcome
            case Started(prepared=Prepared() as prepared, file=file):
                record.npus = tuple(npu.logic_id for npu in prepared.plan.npus)
                if file is not None:
                    record.unit_file = str(file.path)
                    if file.refused:
                        self._note(done.instance, "quadlet-refused", file.refused)
            case Started():
                pass
        self._feed(done.instance, StartEnded(failure))

    # --- policy ----------------------------------------------------------------------------------

    def _feed(self, name: str, event: Event) -> None:
        record = self._records.get(name)
        if record is None:
            return
        before = record.state
        now = time.monotonic()
        chance = random.random()  # noqa: S311 - jitter needs no secrecy
        record.state, decision = decide(before, event, now, self.config.limits, chance)
        if record.state.phase is not before.phase:
            record.since = time.time()
            self._tell(record, before)
        self._follow_probe(record)
        match decision:
            case Start():
                self._begin(record, before.phase)
            case Stop():
                self._spawn(self._worker.stop(name))
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
            self._spawn(self._worker.start(name, lambda: self.request(record)))

    def _revive(self, record: Record) -> None:
        """A front unit that crashed is started again; what runs behind it is left alone."""
        if record.front is None or not has_crashed(record.front):
            return
        now = time.monotonic()
        if now - record.revived_at >= REVIVE_EVERY_S and self.config.mode is Mode.ACT:
            record.revived_at = now
            self._note(record.profile.name, "front-revived", "the front unit had crashed")
            self._spawn(self._worker.revive(record.profile.name))

    # --- probes ----------------------------------------------------------------------------------

    def _follow_probe(self, record: Record) -> None:
        """A probe runs exactly while the instance loads."""
        loading = record.state.phase is Phase.LOADING
        if loading and record.probe is None:
            record.probe = self._spawn(self._worker.watch(record.profile))
            if not record.npus:
                self._spawn(self._worker.find_npus(record.profile))
        elif not loading and record.probe is not None:
            record.probe.cancel()
            record.probe = None

    def _spawn(self, work: Coroutine[None, None, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._reap)
        return task

    def _reap(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("internal-error", error=repr(error), exc_info=error)
            self._note("", Code.INTERNAL, repr(error))

    # --- telling ---------------------------------------------------------------------------------

    def _tell(self, record: Record, before: InstanceState) -> None:
        """A new phase. Looking again while nothing has changed is no news: it may go on for days,
        and would push out what is."""
        state = record.state
        waits = (Phase.WAITING, Phase.HELD)
        if state.phase is Phase.STARTING and before.phase in waits:
            return
        if state.phase in waits and state.failure == record.told:
            return
        record.told = state.failure if state.phase in waits else None
        stuck = state.phase in (*waits, Phase.BACKOFF)
        text = state.failure.message if stuck and state.failure else ""
        self._note(record.profile.name, state.phase, text)

    def _note(self, instance: str, kind: str, message: str) -> None:
        self._events.append(EventView(time.time(), instance, kind, message))
        log.info(str(kind), instance=instance, reason=message)

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
                build_view(record, self.inventory, now, wall) for record in self._records.values()
            ),
            config_problem=self.config_problem,
            broken=tuple(f"{one.name}: {one.message}" for one in self.config.broken),
            events=tuple(self._events),
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
