# SPDX-License-Identifier: MulanPSL-2.0
"""What npud and its worker say to each other: values in, one JSON line each out, and back.

Nothing that arrives is believed: the worker has a vendor's library in its memory.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum

from agent.model import MAX_LOGIC_ID, NpuProcess, NpuReadings

MAX_LINE = 128 * 1024  # 128 codes with 256 characters each are a third of it
MAX_LIST = 256

ChipKey = tuple[int, int]  # card, chip; chip -1: the card as a whole


class Garbage(Exception):
    """It is no message of a worker."""


class Look(StrEnum):
    """How closely."""

    ALL = "all"  # which chips there are, and everything about each
    CHIP = "chip"  # everything about one
    STATES = "states"  # health and codes of all that are known
    RESET = "reset"  # of one chip, in a process of its own


@dataclass(frozen=True, slots=True)
class Request:
    look: Look
    chip: ChipKey = (-1, -1)
    leave_out: tuple[ChipKey, ...] = ()


# --- what a worker says --------------------------------------------------------------------------


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
    """Card, chip, logic id of every NPU."""

    chips: tuple[tuple[int, int, int], ...]
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
    board_id: int | None
    processes: tuple[NpuProcess, ...]
    readings: NpuReadings


@dataclass(frozen=True, slots=True)
class FaultTold:
    """A fault event."""

    code: int
    logic_id: int
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
    ok: bool
    detail: str


Told = Started | Refused | Unusable | Listed | State | Details | FaultTold | Done | ResetEnded


def encode(message: Told | Request) -> bytes:
    line = {"type": type(message).__name__, **asdict(message)}
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"


def decode(data: bytes) -> Told:
    """Raises Garbage."""
    try:
        line = json.loads(data)
        return _DECODERS[line["type"]](line)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Garbage(f"{type(error).__name__}: {error}") from error


def decode_request(data: bytes) -> Request:
    line = json.loads(data)
    leave_out = tuple((card, chip) for card, chip in line["leave_out"])
    card, chip = line["chip"]
    return Request(Look(line["look"]), (card, chip), leave_out)


def _int(value: object) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r:.40} is no integer")
    return value


def _float(value: object) -> float:
    if type(value) is not float and type(value) is not int:
        raise TypeError(f"{value!r:.40} is no number")
    return float(value)


def _bool(value: object) -> bool:
    if type(value) is not bool:
        raise TypeError(f"{value!r:.40} is neither true nor false")
    return value


def _text(value: object) -> str:
    if type(value) is not str:
        raise TypeError(f"{value!r:.40} is no text")
    return value


def _list(value: object) -> list[object]:
    if type(value) is not list or len(value) > MAX_LIST:
        raise TypeError(f"{value!r:.40} is no list")
    return value


def _optional_int(value: object) -> int | None:
    return None if value is None else _int(value)


def _optional_float(value: object) -> float | None:
    return None if value is None else _float(value)


def _integers(value: object, count: int) -> list[int]:
    numbers = [_int(number) for number in _list(value)]
    if len(numbers) != count:
        raise ValueError(f"{count} integers expected")
    return numbers


def _chip(value: object) -> ChipKey:
    card, chip = _integers(value, 2)
    return card, chip


def _listed(value: object) -> tuple[int, int, int]:
    card, chip, logic_id = _integers(value, 3)
    if not 0 <= logic_id <= MAX_LOGIC_ID:
        raise ValueError(f"logic id {logic_id}")
    return card, chip, logic_id


def _fault(value: object) -> tuple[int, str]:
    code, text = _list(value)
    return _int(code), _text(text)


Line = dict[str, object]


def _process(value: object) -> NpuProcess:
    if type(value) is not dict:
        raise TypeError("a process is an object")
    return NpuProcess(_int(value["pid"]), _text(value["name"]), _int(value["memory_mib"]))


def _readings(value: object) -> NpuReadings:
    if type(value) is not dict:
        raise TypeError("readings are an object")
    told: Line = dict(value)
    power_w = _optional_float(told.pop("power_w"))
    numbers = {name: _optional_int(number) for name, number in told.items()}
    return NpuReadings(**numbers, power_w=power_w)


def _state(line: Line) -> State:
    faults = line["faults"]
    return State(
        chip=_chip(line["chip"]),
        health=_optional_int(line["health"]),
        code=_int(line["code"]),
        faults=None if faults is None else tuple(_fault(fault) for fault in _list(faults)),
        asked_at=_float(line["asked_at"]),
    )


def _details(line: Line) -> Details:
    return Details(
        chip=_chip(line["chip"]),
        product=_text(line["product"]),
        memory_mib=_int(line["memory_mib"]),
        memory_used_mib=_int(line["memory_used_mib"]),
        board_id=_optional_int(line["board_id"]),
        processes=tuple(_process(process) for process in _list(line["processes"])),
        readings=_readings(line["readings"]),
    )


def _fault_told(line: Line) -> FaultTold:
    return FaultTold(
        code=_int(line["code"]),
        logic_id=_int(line["logic_id"]),
        severity=_int(line["severity"]),
        assertion=_int(line["assertion"]),
        raised_ms=_int(line["raised_ms"]),
        text=_text(line["text"]),
        came_at=_float(line["came_at"]),
    )


_DECODERS: dict[str, Callable[[Line], Told]] = {
    "Started": lambda line: Started(_bool(line["subscribed"]), _text(line["detail"])),
    "Refused": lambda line: Refused(_text(line["call"]), _int(line["code"])),
    "Unusable": lambda line: Unusable(_text(line["detail"])),
    "Listed": lambda line: Listed(
        tuple(_listed(chip) for chip in _list(line["chips"])), _text(line["driver_version"])
    ),
    "State": _state,
    "Details": _details,
    "FaultTold": _fault_told,
    "Done": lambda _line: Done(),
    "ResetEnded": lambda line: ResetEnded(_bool(line["ok"]), _text(line["detail"])),
}
