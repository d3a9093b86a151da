# SPDX-License-Identifier: MulanPSL-2.0
"""What the agent shows of itself: immutable values, and the place where the newest one hangs.

The JSON of `Snapshot` is the API: fields are added, never renamed or removed, under `schema` 1.
"""

import asyncio
from dataclasses import dataclass

from agent.errors import Failure
from agent.model import (
    DriverState,
    EngineWork,
    FaultSeverity,
    Hold,
    Inventory,
    NpuFault,
    NpuHealth,
    NpuProcess,
    NpuReadings,
    Phase,
    Step,
)
from agent.supplies import Progress, Supply

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Evidence:
    """How an NPU was when something was decided about it."""

    health: NpuHealth
    reason: str
    faults: tuple[NpuFault, ...]
    readings: NpuReadings
    processes: tuple[NpuProcess, ...]


@dataclass(frozen=True, slots=True)
class EventView:
    """Something that happened, oldest first in lists. `at`: seconds since the epoch."""

    at: float
    instance: str  # empty: about the host or the agent
    kind: str
    message: str
    npu: int | None = None  # logic id, where it is about one
    evidence: Evidence | None = None
    file: str = ""  # where what was seen of an engine is kept; root's alone
    id: int = 0  # grows, also over restarts of the agent; 0: an agent that does not count


@dataclass(frozen=True, slots=True)
class FaultView:
    """A fault of an NPU and what it means; a code that is in no file has no name and no advice."""

    code: str
    level: str  # as in docs/npu-health.md
    severity: FaultSeverity
    text: str  # the driver's own words
    name_en: str
    name_zh: str
    do_en: str
    do_zh: str
    since: float  # seconds since the epoch
    present: bool  # by the latest look
    counts: bool  # it is, or soon may be, a reason to act
    one_off: bool


@dataclass(frozen=True, slots=True)
class QuarantineView:
    """Why no plan takes an NPU."""

    reason: str
    since: float  # seconds since the epoch
    by: str  # "agent", or who
    code: str  # of the fault; empty: a person wants it
    release_after_s: float | None  # so long after its fault was last seen; None: by a person
    release_at: float | None  # seconds since the epoch, when its fault is away already


@dataclass(frozen=True, slots=True)
class NpuView:
    """An NPU: what the driver says, who has it, and what the agent makes of it."""

    logic_id: int
    card_id: int
    chip_id: int
    device: str
    device_present: bool
    product: str
    health: NpuHealth
    reason: str  # why `health` is unknown, or the chip is gone
    memory_mib: int
    memory_used_mib: int
    bus_id: str
    readings: NpuReadings
    processes: tuple[NpuProcess, ...]
    instance: str  # that has it; empty: none
    level: str  # of the worst fault that counts
    faults: tuple[FaultView, ...]
    quarantine: QuarantineView | None
    unfit: str  # why no plan takes it now; empty: one may
    resets: int  # since it was last well


@dataclass(frozen=True, slots=True)
class StartView:
    """How far the start of an engine has come, by its log; numbers where they can be told."""

    step: Step
    percent: int | None
    done: int | None
    total: int | None
    moved_at: float  # seconds since the epoch: when more of it was seen the last time
    gives_up_at: float  # then it is tried anew, should nothing more be seen
    budget_s: float


@dataclass(frozen=True, slots=True)
class FetchView:
    """What is being brought."""

    began_at: float  # seconds since the epoch
    progress: Progress | None  # None: nothing is known yet
    seconds_left: int | None  # None while nobody can tell


@dataclass(frozen=True, slots=True)
class FetchEnd:
    """How the latest order ended, since the agent began."""

    at: float  # seconds since the epoch
    failure: Failure | None
    image_id: str = ""
    image_digest: str = ""
    model_revision: str = ""


@dataclass(frozen=True, slots=True)
class UndoneView:
    """An update that was lost, and why."""

    at: float  # seconds since the epoch
    supply: Supply
    failure: Failure


@dataclass(frozen=True, slots=True)
class UpdateView:
    """Which image and model an instance runs on, and what became of the latest update."""

    fetching: bool
    current: Supply | None
    previous: Supply | None
    trial: Supply | None
    trial_until: float | None  # seconds since the epoch; None: it has not answered yet
    undone: UndoneView | None
    checked_at: float  # seconds since the epoch: the latest update brought nothing new; else 0
    restart_due: bool = False  # an engine that runs is to be replaced, by one on something else


@dataclass(frozen=True, slots=True)
class InstanceView:
    """One instance. Times are seconds since the epoch."""

    name: str
    phase: Phase
    wished: bool
    status: str  # one line for people
    since: float
    next_try_at: float | None
    failure: Failure | None
    failures: int
    served_name: str
    endpoint: str
    model: str
    image: str
    unit: str
    unit_file: str
    npus: tuple[int, ...]  # logic ids
    key_file: str = ""  # where root finds the API key that the engine wants; empty: none
    certificate: str = ""  # a copy of the PEM file that it shows; empty: plain HTTP
    certificate_expires_at: float | None = None  # the time of that copy is over then
    restarts: int = 0  # engines started in place of one that had failed, ever
    restart_pending: bool = False  # configuration, key or certificate have changed since its start
    degraded: str = ""  # why it has fewer NPUs than it should; empty: it has not
    trouble: Failure | None = None  # of an engine that serves, and is not well or not reached
    start: StartView | None = None  # while it loads
    fetch: FetchView | None = None  # while image or model is being brought
    fetch_end: FetchEnd | None = None
    update: UpdateView | None = None
    hold: Hold | None = None
    work: EngineWork | None = None  # while it serves, and says so
    uncounted: Failure | None = None  # what it says is not understood: a hang is found late
    refused: bool = False  # enabled, not started, and not tried again: a person has to start it


@dataclass(frozen=True, slots=True)
class DiskView:
    """A file system that the agent writes to, or has written to."""

    path: str  # a folder on it
    free_bytes: int  # for others than root
    size_bytes: int
    low: bool
    low_below_bytes: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything, at one moment."""

    schema: int
    version: str
    mode: str
    at: float
    started_at: float
    inventory: Inventory
    instances: tuple[InstanceView, ...]
    config_problem: Failure | None  # why the files on disk are not in force
    broken: tuple[str, ...]  # profiles that cannot be used, and why
    events: tuple[EventView, ...]
    systemd_problem: Failure | None = None  # why units are not seen now: what is said may be old
    npus: tuple[NpuView, ...] = ()
    host_suspect: str = ""  # why nothing is done about NPUs now; empty: it is
    faults_problem: tuple[str, ...] = ()  # files about faults that cannot be used, and why
    disks: tuple[DiskView, ...] = ()
    prunable_bytes: int | None = None  # by the latest look; None: there was none
    without_profile: tuple[str, ...] = ()  # instances that are to serve, by systemd

    def instance(self, name: str) -> InstanceView | None:
        return next((one for one in self.instances if one.name == name), None)


@dataclass(frozen=True, slots=True)
class InstancesAnswer:
    """The instances alone."""

    instances: tuple[InstanceView, ...]
    schema: int = SCHEMA


@dataclass(frozen=True, slots=True)
class NpusAnswer:
    """What `deepseekctl npus` shows."""

    schema: int
    at: float
    driver: DriverState
    detail: str
    driver_version: str
    source: str
    read_at: float
    host_suspect: str
    npus: tuple[NpuView, ...]


def npus_answer(snapshot: Snapshot) -> NpusAnswer:
    """The part of `snapshot` that is about NPUs."""
    inventory = snapshot.inventory
    return NpusAnswer(
        SCHEMA,
        snapshot.at,
        inventory.driver,
        inventory.detail,
        inventory.driver_version,
        inventory.source,
        inventory.read_at,
        snapshot.host_suspect,
        snapshot.npus,
    )


class Board:
    """Holds the newest snapshot; one writer puts, any number of readers look or wait."""

    def __init__(self, first: Snapshot) -> None:
        self._snapshot = first
        self._changed = asyncio.Event()
        self.closed = False

    @property
    def snapshot(self) -> Snapshot:
        return self._snapshot

    def put(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def close(self) -> None:
        """No more will come: whoever waits is told."""
        self.closed = True
        self._changed.set()

    async def wait(self, seen: Snapshot, deadline_s: float) -> Snapshot:
        """The newest one: at once when it is not `seen`, else after a change or `deadline_s`."""
        if self._snapshot is seen and not self.closed:
            try:
                async with asyncio.timeout(deadline_s):
                    await self._changed.wait()
            except TimeoutError:
                pass
        return self._snapshot
