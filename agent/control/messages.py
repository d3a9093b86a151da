# SPDX-License-Identifier: MulanPSL-2.0
"""What the writer takes from its queue: everything that can happen, as frozen values."""

import asyncio
from dataclasses import dataclass

from agent.action.running import Running
from agent.action.start import Started
from agent.config.values import Config
from agent.disks import DiskFacts, PruneOrder, PruneReport
from agent.errors import Failure
from agent.facts import ContainerFacts
from agent.model import Hold, Inventory, StartProgress, UnitStatus
from agent.plan.supply import Lacking
from agent.policy.npu.state import NpuEvent
from agent.policy.state import Event
from agent.policy.update_state import UpdateEvent
from agent.ports import ResetReport
from agent.supplies import Order, Progress, Report


@dataclass(frozen=True, slots=True)
class UnitsSeen:
    """What systemd says of the two units of an instance."""

    instance: str
    front: UnitStatus
    engine: UnitStatus
    asked_at: float  # monotonic, before systemd was asked: what it says may be as old as this
    job_ended: bool = False  # a job of the front unit has, with "done", since it was looked at last


@dataclass(frozen=True, slots=True)
class InventorySeen:
    """What npud says, or that it says nothing."""

    inventory: Inventory


@dataclass(frozen=True, slots=True)
class SystemdSeen:
    """Why systemd cannot be asked now; None when it can."""

    problem: Failure | None


@dataclass(frozen=True, slots=True)
class ConfigSeen:
    """The configuration was read again: what is in force from now on, or why it stays as it was."""

    config: Config | Failure
    answer: "asyncio.Future[None]"


@dataclass(frozen=True, slots=True)
class Happened:
    """Something about one instance, in policy's words."""

    instance: str
    event: Event


@dataclass(frozen=True, slots=True)
class StartDone:
    """The start action of an instance has ended."""

    instance: str
    outcome: Started | Lacking | Failure
    ended_at: float  # monotonic


@dataclass(frozen=True, slots=True)
class StartMoved:
    """An engine that loads has come further."""

    instance: str
    progress: StartProgress
    at: float  # monotonic


@dataclass(frozen=True, slots=True)
class FetchMoved:
    """What is being brought for an instance has come further."""

    instance: str
    progress: Progress


@dataclass(frozen=True, slots=True)
class FetchDone:
    """An order has been carried out, or why not."""

    instance: str
    order: Order
    outcome: Report | Failure


@dataclass(frozen=True, slots=True)
class PullAsked:
    """A person wants what an instance lacks brought, whether it shall serve or not."""

    instance: str
    order: Order | None  # None: nothing is missing
    answer: "asyncio.Future[None]"


@dataclass(frozen=True, slots=True)
class HoldAsked:
    """A person wants an instance to be stopped until it is released; `hold` None: it is."""

    instance: str
    hold: Hold | None
    answer: "asyncio.Future[None]"


@dataclass(frozen=True, slots=True)
class UpdateHappened:
    """Something about the update of one instance, in policy's words. `answer`: who asked waits."""

    instance: str
    event: UpdateEvent
    answer: "asyncio.Future[None] | None" = None


@dataclass(frozen=True, slots=True)
class FailureRead:
    """As much as can be told by now of why the engine on trial has died."""

    instance: str


@dataclass(frozen=True, slots=True)
class DisksSeen:
    """How much room there is."""

    disks: tuple[DiskFacts, ...]


@dataclass(frozen=True, slots=True)
class PruneAsked:
    """A person wants what nobody uses removed, or to know what that is."""

    dry_run: bool
    answer: "asyncio.Future[PruneReport | Failure]"


@dataclass(frozen=True, slots=True)
class PruneDone:
    """What came of an order to prune."""

    order: PruneOrder
    outcome: PruneReport | Failure


@dataclass(frozen=True, slots=True)
class ContainerFound:
    """The container that an engine runs in."""

    instance: str
    container: ContainerFacts
    npus: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class EngineSeen:
    """What the watch of an engine that serves has found; None: it works again."""

    instance: str
    failure: Failure | None
    metrics: str = ""  # its counters, by which that was seen


@dataclass(frozen=True, slots=True)
class EvidenceKept:
    """What was seen of an engine is in this file."""

    instance: str
    file: str


@dataclass(frozen=True, slots=True)
class EngineKilled:
    """So many processes of an engine that did not work had to be killed."""

    instance: str
    processes: int


@dataclass(frozen=True, slots=True)
class PortMended:
    """The way to an engine's port was set up anew, or why not."""

    instance: str
    failure: Failure | None


@dataclass(frozen=True, slots=True)
class ResetDone:
    """The reset of these NPUs has ended."""

    npus: tuple[int, ...]
    report: ResetReport


@dataclass(frozen=True, slots=True)
class NpuAsked:
    """A request about NPUs from the socket, answered when it has been taken."""

    event: NpuEvent
    answer: "asyncio.Future[None]"


@dataclass(frozen=True, slots=True)
class Swept:
    """What an engine had left behind has been cleared, or not."""

    instance: str
    failure: Failure | None


@dataclass(frozen=True, slots=True)
class FileChecked:
    """The unit file of a running engine has been looked at."""

    instance: str
    mended: str  # what was wrong with it; empty when nothing was
    failure: Failure | None  # why it could not be mended


@dataclass(frozen=True, slots=True)
class RenewalsSeen:
    """The key and the certificate of a running engine have been looked at."""

    instance: str
    of: Running
    paths: tuple[str, ...]  # of those that are other ones by now


@dataclass(frozen=True, slots=True)
class FileTrouble:
    """A file of the agent's own cannot be written or was damaged; None: it can be written again."""

    failure: Failure | None


@dataclass(frozen=True, slots=True)
class MetricsPortSeen:
    """Why Prometheus cannot be served at its port; None: it is, after it was not."""

    failure: Failure | None


@dataclass(frozen=True, slots=True)
class Asked:
    """A request from the socket, answered when it has been taken."""

    instance: str
    event: Event
    answer: "asyncio.Future[None]"


OfFetch = FetchMoved | FetchDone | PullAsked
OfUpdate = UpdateHappened | FailureRead
OfEngine = ContainerFound | EngineSeen | EvidenceKept | EngineKilled | PortMended

OfDisks = DisksSeen | PruneAsked | PruneDone

Message = (
    UnitsSeen
    | SystemdSeen
    | InventorySeen
    | ConfigSeen
    | Happened
    | StartDone
    | StartMoved
    | ResetDone
    | NpuAsked
    | FileTrouble
    | MetricsPortSeen
    | Asked
    | HoldAsked
    | OfEngine
    | OfFetch
    | OfUpdate
    | OfDisks
    | Swept
    | FileChecked
    | RenewalsSeen
)
