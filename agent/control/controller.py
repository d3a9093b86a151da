# SPDX-License-Identifier: MulanPSL-2.0
"""The one writer: takes messages from a queue, asks policy, lets actions run, publishes snapshots.

Everything that happens comes in as a message (`Message`); actions and probes are tasks that put
what came of them back into the queue. Nobody else changes the state.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Protocol, assert_never

import structlog

from agent import __version__
from agent.action.prepare import Prepared, Request, npus_of_container
from agent.action.start import Actions, Started
from agent.config.values import Config, Mode, Profile
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
    say_inventory,
    usable,
)
from agent.errors import AgentError, Code, Failure
from agent.model import (
    DriverState,
    Health,
    Inventory,
    Phase,
    container_name,
    front_unit,
)
from agent.policy.instance import (
    CauseChanged,
    EngineObserved,
    Event,
    InstanceState,
    Nothing,
    Probed,
    Start,
    StartEnded,
    Stop,
    StopEnded,
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


class Fronts(Protocol):
    """Starting a front unit again."""

    async def dispatch_start(self, unit: str) -> None: ...


Probe = Callable[[Profile], Awaitable[Health]]


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
        taken = frozenset(
            npu
            for other in self._records.values()
            if other is not record and other.state.phase in (Phase.LOADING, Phase.SERVING)
            for npu in other.npus
        )
        return Request(record.profile, self.config.renderer, self.inventory, taken)

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
        for name in self._records:
            self._feed(name, Tick())
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
            self._take_config(config)

    def _take_config(self, config: Config) -> None:
        self.config = config
        now = time.monotonic()
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
        detail = f"{seen.engine.result}, exit status {seen.engine.exit_status}"
        self._feed(seen.instance, EngineObserved(seen.engine.active, detail))
        self._feed(seen.instance, WishChanged(is_wished(seen.front)))
        if has_crashed(seen.front):
            self._revive(seen.instance, record)

    def _take_inventory(self, inventory: Inventory) -> None:
        before, self.inventory = self.inventory, inventory
        if usable(before) == usable(inventory):
            return
        self._note("", "npus", say_inventory(inventory))
        for name in self._records:
            self._feed(name, CauseChanged())

    def _take_start(self, done: StartDone) -> None:
        record = self._records.get(done.instance)
        if record is None:
            return
        failure: Failure | None = None
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
                self._begin(record, self._start(record))
            case Stop():
                self._begin(record, self._stop(record))
            case Nothing():
                pass
            case _:
                assert_never(decision)

    def _begin(self, record: Record, action: Coroutine[None, None, None]) -> None:
        """One action at a time for an instance: policy asks for the next when one has ended."""
        record.action = self._spawn(action)

    async def _start(self, record: Record) -> None:
        name = record.profile.name
        outcome: Started | Failure
        if self.config.mode is Mode.OBSERVE:
            outcome = Failure(
                Code.OBSERVING,
                f'cannot start {name}: mode is "observe"',
                'set mode = "act" in /etc/deepseek-agent/agent.toml',
            )
        else:
            outcome = await self.actions.start(
                self.request(record), lambda: self._front_is_up(record)
            )
        self.put(StartDone(name, outcome))

    async def _front_is_up(self, record: Record) -> bool:
        """The rendered unit may only start beside its front unit (Requisite=). One that was held
        has ended; it is started again here, and attach asks for the engine when it connects."""
        unit = front_unit(record.profile.name)
        status = await self.actions.units.status(unit)
        if status.active.is_up():
            return True
        if is_wished(status):
            await self.fronts.dispatch_start(unit)
        return False

    async def _stop(self, record: Record) -> None:
        failure = await self.actions.stop(record.profile.name)
        self.put(Happened(record.profile.name, StopEnded(failure)))

    def _revive(self, name: str, record: Record) -> None:
        """A front unit that crashed is started again; what runs behind it is left alone."""
        now = time.monotonic()
        if now - record.revived_at >= REVIVE_EVERY_S and self.config.mode is Mode.ACT:
            record.revived_at = now
            self._note(name, "front-revived", "the front unit had crashed")
            self._spawn(self._dispatch_front(name))

    async def _dispatch_front(self, name: str) -> None:
        try:
            await self.fronts.dispatch_start(front_unit(name))
        except AgentError as error:
            log.warning("front-not-revived", instance=name, reason=error.failure.message)

    # --- probes ----------------------------------------------------------------------------------

    def _follow_probe(self, record: Record) -> None:
        """A probe runs exactly while the instance loads."""
        loading = record.state.phase is Phase.LOADING
        if loading and record.probe is None:
            record.probe = self._spawn(self._watch(record.profile))
            if not record.npus:
                self._spawn(self._find_npus(record.profile))
        elif not loading and record.probe is not None:
            record.probe.cancel()
            record.probe = None

    async def _watch(self, profile: Profile) -> None:
        health = await self.probe(profile)
        self.put(Happened(profile.name, Probed(health)))

    async def _find_npus(self, profile: Profile) -> None:
        """Of a container that was there before this agent."""
        try:
            survey = await self.actions.podman.survey(profile.image)
        except AgentError as error:
            log.warning("adoption-incomplete", instance=profile.name, reason=error.failure.message)
            return
        found = npus_of_container(survey, container_name(profile.name))
        if found:
            self.put(NpusFound(profile.name, tuple(sorted(found))))

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
            instances=tuple(build_view(record, now, wall) for record in self._records.values()),
            config_problem=self.config_problem,
            broken=tuple(f"{one.name}: {one.message}" for one in self.config.broken),
            events=tuple(self._events),
        )


def _done(answer: "asyncio.Future[None]") -> None:
    """The asker may be gone."""
    if not answer.done():
        answer.set_result(None)
