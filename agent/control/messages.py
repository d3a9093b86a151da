# SPDX-License-Identifier: MulanPSL-2.0
"""What the writer takes from its queue: everything that can happen, as frozen values."""

import asyncio
from dataclasses import dataclass

from agent.action.start import Started
from agent.config.values import Config
from agent.errors import Failure
from agent.model import Inventory, UnitStatus
from agent.policy.npu.state import NpuEvent
from agent.policy.state import Event
from agent.ports import ResetReport


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
    outcome: Started | Failure
    ended_at: float  # monotonic


@dataclass(frozen=True, slots=True)
class NpusFound:
    """An adopted container holds these NPUs."""

    instance: str
    npus: tuple[int, ...]


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
class FileTrouble:
    """A file of the agent's own cannot be written or was damaged; None: it can be written again."""

    failure: Failure | None


@dataclass(frozen=True, slots=True)
class Asked:
    """A request from the socket, answered when it has been taken."""

    instance: str
    event: Event
    answer: "asyncio.Future[None]"


Message = (
    UnitsSeen
    | SystemdSeen
    | InventorySeen
    | ConfigSeen
    | Happened
    | StartDone
    | NpusFound
    | ResetDone
    | NpuAsked
    | Swept
    | FileChecked
    | FileTrouble
    | Asked
)
