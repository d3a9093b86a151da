# SPDX-License-Identifier: MulanPSL-2.0
"""What npud and its workers say to each other: the values; link.py makes lines of them."""

from dataclasses import dataclass
from enum import StrEnum

from agent.model import NpuProcess, NpuReadings, ResetOutcome
from agent.npud.dcmi.numbers import Numbered

ChipKey = tuple[int, int]  # card, chip; chip -1: the card as a whole


class Look(StrEnum):
    """How closely."""

    ALL = "all"  # which chips there are, and everything about each
    CHIP = "chip"  # everything about one
    STATES = "states"  # health and codes of all that are known


@dataclass(frozen=True, slots=True)
class Request:
    look: Look
    chip: ChipKey = (-1, -1)
    leave_out: tuple[ChipKey, ...] = ()


@dataclass(frozen=True, slots=True)
class ResetOrder:
    """To a worker of its own, which does nothing else."""

    chip: ChipKey  # whose faults `codes` are
    through: ChipKey  # the chip that libdcmi wants to be named
    ring: tuple[ChipKey, ...]  # all that go with it, `chip` and `through` among them
    numbers: tuple[int, ...]  # of the nodes of `ring`
    folder: str  # of the device nodes
    codes: tuple[str, ...]  # one of them has to be there; none: not looked at
    boot_s: float  # how long to wait for the boot
    look_s: float  # between two looks at it


# --- what a worker says --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ready:
    """dcmi_init is over; it waits to be asked."""


@dataclass(frozen=True, slots=True)
class Started:
    """libdcmi is there and the driver answers."""

    subscribed: bool
    detail: str  # why not


@dataclass(frozen=True, slots=True)
class Refused:
    """libdcmi was called, and says why it cannot do anything at all."""

    call: str
    code: int


@dataclass(frozen=True, slots=True)
class Unusable:
    """There is no libdcmi, or it does not know this kind of NPU: npu-smi has to do."""

    detail: str


@dataclass(frozen=True, slots=True)
class Listed:
    """Every NPU."""

    chips: tuple[Numbered, ...]
    driver_version: str


@dataclass(frozen=True, slots=True)
class State:
    """Health and codes of one chip."""

    chip: ChipKey
    health: int | None  # None: `code` says why
    code: int
    faults: tuple[tuple[int, str], ...] | None  # error code and text; None: not told
    asked_at: float  # CLOCK_MONOTONIC, before the codes were asked for


@dataclass(frozen=True, slots=True)
class Details:
    """All else about one chip; comes right after its State."""

    chip: ChipKey
    product: str
    memory_mib: int
    memory_used_mib: int
    bus_id: str
    board_id: int | None
    processes: tuple[NpuProcess, ...] | None  # None: not told
    readings: NpuReadings


@dataclass(frozen=True, slots=True)
class FaultTold:
    """A fault event."""

    code: int
    logic_id: int  # libdcmi's own
    severity: int
    assertion: int
    raised_ms: int
    text: str
    came_at: float  # CLOCK_MONOTONIC


@dataclass(frozen=True, slots=True)
class Done:
    """The request is answered."""


@dataclass(frozen=True, slots=True)
class ResetEnded:
    outcome: ResetOutcome
    detail: str


Told = (
    Ready | Started | Refused | Unusable | Listed | State | Details | FaultTold | Done | ResetEnded
)
