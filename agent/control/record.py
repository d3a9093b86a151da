# SPDX-License-Identifier: MulanPSL-2.0
"""What the writer knows of one instance, and how that is shown."""

import asyncio
from dataclasses import dataclass, field, replace

from agent.action.running import Running
from agent.config.values import Profile
from agent.control.fetching import FetchSeen, build_fetch_view
from agent.control.messages import UnitsSeen
from agent.control.start_seen import StartSeen, build_start_view
from agent.control.update_seen import UpdateSeen, build_update_view
from agent.control.work_seen import WorkSeen
from agent.errors import Failure
from agent.facts import ContainerFacts
from agent.model import Hold, Inventory, Phase, UnitActive, UnitStatus, engine_unit
from agent.policy.state import EngineObserved, Event, InstanceState, WishChanged
from agent.policy.wish import is_refused, is_wished, was_stopped_when_failed
from agent.ports import Server
from agent.render.workload import bracketed, certificate_copy, key_file
from agent.status.snapshot import InstanceView
from agent.status.text import describe

# Phases in which an engine runs, as far as is known.
RUNS = (Phase.LOADING, Phase.SERVING, Phase.STOPPING)
UP = (Phase.LOADING, Phase.SERVING)


@dataclass
class Sweep:
    """Clearing what an engine left behind."""

    tries: int = 0  # left; none is due at 0
    not_before: float = 0.0  # monotonic
    under_way: bool = False


@dataclass
class FileCheck:
    """Looking after the unit file of a running engine."""

    checked_at: float = 0.0  # monotonic
    under_way: bool = False
    told: str = ""  # what cannot be mended, as it was noted


@dataclass
class Renewal:
    """Looking after the files that a running engine has read at its start."""

    of: Running | None = None  # that one; the very object
    paths: tuple[str, ...] = ()  # of those that are other ones by now
    looked_at: float = 0.0  # monotonic
    under_way: bool = False
    expires_at: float | None = None  # its certificate; seconds since the epoch
    end_told: int = 0  # that it is near: 1; over: 2


@dataclass
class UnwantedSeen:
    """An engine that nobody wants and that nothing stops."""

    since: float | None = None  # monotonic; None: it is wanted, down, or being stopped
    told: bool = False


@dataclass
class PortCare:
    """Looking after the way to an engine's port."""

    trouble: Failure | None = None  # why users cannot reach it, though the engine works
    tries: int = 0  # to mend it, in a row
    not_before: float = 0.0  # monotonic
    under_way: bool = False


@dataclass
class Record:
    """What the writer knows of one instance."""

    profile: Profile
    state: InstanceState
    since: float  # wall clock of state.since
    front: UnitStatus | None = None
    engine: UnitStatus | None = None
    running: Running | None = None  # what the engine was started with
    npus: tuple[int, ...] = ()
    probe: "asyncio.Task[None] | None" = None
    guard: "asyncio.Task[None] | None" = None
    container: ContainerFacts | None = None  # that the engine runs in, once Podman has told
    search_over: asyncio.Event = field(default_factory=asyncio.Event)  # nobody looks for it
    metrics: str = ""  # of the engine, by which it was seen not to work
    ill: Failure | None = None  # why it would be replaced, were the mode not "observe"
    port: PortCare = field(default_factory=PortCare)
    uncounted: Failure | None = None  # its counters are not understood
    started_at: float = 0.0  # monotonic, when the latest start ended
    revived_at: float = float("-inf")  # monotonic
    revivals: int = 0  # of the front unit, since it was up
    crash_told: str = ""  # of the front unit, since it was up
    stopped: str = ""  # the invocation of the front unit that was stopped after it had failed
    runs_as: str = ""  # the invocation of its engine that was seen up last, after a start of ours
    answered_as: str = ""  # the invocation of the engine's unit that has served
    restarts: int = 0  # engines started in place of one that had failed, ever
    hold: Hold | None = None  # a person wants it stopped
    sweep: Sweep = field(default_factory=Sweep)
    file: FileCheck = field(default_factory=FileCheck)
    renewal: Renewal = field(default_factory=Renewal)
    start: StartSeen = field(default_factory=StartSeen)
    fetch: FetchSeen = field(default_factory=FetchSeen)
    update: UpdateSeen = field(default_factory=UpdateSeen)
    work: WorkSeen = field(default_factory=WorkSeen)
    unwanted: UnwantedSeen = field(default_factory=UnwantedSeen)

    @property
    def name(self) -> str:
        return self.profile.name

    def missed(self, seen: UnitsSeen) -> UnitsSeen | None:
        """The look that nobody had before this one, if there was one to be had: `systemctl restart`
        of an engine has it down for less time than a look takes (systemd 257, seen)."""
        engine = seen.engine
        if self.state.phase not in UP or self.engine is None or seen.asked_at < self.started_at:
            return None
        same = engine.invocation_id in ("", self.runs_as)
        if not engine.active.is_up() or same or not self.runs_as:
            return None
        down = replace(
            self.engine, active=UnitActive.INACTIVE, sub_state="dead", invocation_id=self.runs_as
        )
        return replace(seen, engine=down, job_ended=False)

    def see(self, seen: UnitsSeen) -> list[Event]:
        """Takes what systemd says of the two units, and tells what of it is news to policy."""
        before, engine = self.front, seen.engine.active
        front = self._note_stop(seen.front, seen.job_ended)
        self.front, self.engine = front, seen.engine
        wish = WishChanged(is_wished(front))
        ended = f"{seen.engine.result}, exit status {seen.engine.exit_status}"
        answered = self.answered_as != "" and self.answered_as == seen.engine.invocation_id
        observed = EngineObserved(engine, ended, answered)
        if _is_another_start(before, front) and engine.is_down():
            # Stopped and started while nobody looked: the stop took the engine down.
            return [WishChanged(False), observed, wish]
        if seen.asked_at < self.started_at:
            return [wish]  # the engine's state is older than our own start
        if engine.is_up():
            self.runs_as = seen.engine.invocation_id
        # An engine that is down because nobody wants it has not died.
        return [observed, wish] if wish.wished else [wish, observed]

    def _note_stop(self, front: UnitStatus, job_ended: bool) -> UnitStatus:
        """A stop of a front unit that had failed leaves no trace in systemd, so it is kept here."""
        if job_ended and self.front is not None and was_stopped_when_failed(self.front, front):
            self.stopped = front.invocation_id
        if self.stopped and self.stopped == front.invocation_id:
            return replace(front, stop_asked=True)
        return front

    @property
    def renewed(self) -> tuple[str, ...]:
        """Paths of what the engine that runs has read, and is another one by now."""
        return self.renewal.paths if self._is_looked_at else ()

    @property
    def certificate_end(self) -> float | None:
        """Of the one that the engine shows; seconds since the epoch."""
        return self.renewal.expires_at if self._is_looked_at else None

    @property
    def _is_looked_at(self) -> bool:
        known = self.running is not None and self.running is self.renewal.of
        return known and self.state.phase in RUNS

    @property
    def is_going_down(self) -> bool:
        """Its engine, by systemd."""
        return self.engine is not None and self.engine.active is UnitActive.DEACTIVATING

    @property
    def in_force(self) -> Profile:
        """That of the engine which runs, and otherwise that of the next one."""
        if self.running is not None and self.state.phase in RUNS:
            return self.running.profile
        return self.profile


def _is_another_start(before: UnitStatus | None, now: UnitStatus) -> bool:
    """Whether a front unit that was up has been started since."""
    return (
        before is not None
        and before.active.is_up()
        and before.invocation_id != ""
        and before.invocation_id != now.invocation_id
    )


def build_view(record: Record, inventory: Inventory, now: float, wall: float) -> InstanceView:
    """How `record` is shown; `now` is monotonic, `wall` seconds since the epoch."""
    state, profile, running = record.state, record.in_force, record.running
    work = record.work.view(now)
    waits = state.phase in (Phase.BACKOFF, Phase.WAITING, Phase.HELD)
    wait_s = max(0.0, state.not_before - now)
    trouble = record.ill or record.port.trouble
    refused = record.front is not None and is_refused(record.front)
    return InstanceView(
        name=profile.name,
        phase=state.phase,
        wished=state.wished,
        status=describe(
            state.phase,
            now - state.since,
            state.failure or trouble,
            wait_s,
            record.start.progress,
            record.fetch.progress,
            refused=refused,
        ),
        since=record.since,
        next_try_at=wall + wait_s if waits else None,
        failure=state.failure,
        failures=state.failures,
        served_name=profile.served_name,
        endpoint=endpoint(profile),
        model=profile.model,
        image=profile.image_for(inventory),
        unit=engine_unit(profile.name),
        unit_file=running.path if running is not None else "",
        npus=record.npus,
        key_file=key_file(profile.name) if profile.api_key_file else "",
        certificate=server(profile).certificate,
        certificate_expires_at=record.certificate_end,
        restarts=record.restarts,
        restart_pending=profile != record.profile or bool(record.renewed),
        trouble=trouble,
        degraded=running.degraded if running is not None and state.phase in RUNS else "",
        start=build_start_view(record.start, state.phase, now, wall),
        fetch=build_fetch_view(record.fetch),
        fetch_end=record.fetch.end,
        update=build_update_view(record.update),
        hold=record.hold,
        work=work,
        uncounted=record.uncounted if work is None else None,
        refused=refused,
    )


def local_address(profile: Profile) -> str:
    """Where this host reaches the instance: listening everywhere includes loopback."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(profile.listen, profile.listen)  # noqa: S104


def server(profile: Profile) -> Server:
    """Where this host reaches the instance."""
    certificate = certificate_copy(profile.name) if profile.tls_certificate else ""
    return Server(local_address(profile), profile.port, certificate)


def endpoint(profile: Profile) -> str:
    """The same as a URL, without the path."""
    scheme = "https" if profile.tls_certificate else "http"
    return f"{scheme}://{bracketed(local_address(profile))}:{profile.port}"


def usable(inventory: Inventory) -> object:
    """What of an inventory can be the cause of waiting or holding."""
    chips = tuple(
        (npu.logic_id, npu.device_present, npu.health, npu.has_memory_left())
        for npu in inventory.npus
    )
    return inventory.driver, inventory.manager_devices, chips


def processes(inventory: Inventory) -> object:
    """Who holds memory of the NPUs: the end of one can be what an instance waits for."""
    return tuple(
        (npu.logic_id, tuple(sorted(process.pid for process in npu.processes)))
        for npu in inventory.npus
    )


def say_inventory(inventory: Inventory) -> str:
    there = sum(npu.device_present for npu in inventory.npus)
    detail = f", {inventory.detail}" if inventory.detail else ""
    return f"driver {inventory.driver}, {there} NPUs{detail}"
