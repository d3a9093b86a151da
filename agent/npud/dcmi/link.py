# SPDX-License-Identifier: MulanPSL-2.0
"""Messages between npud and its workers: values in, one JSON line each out, and back.

Nothing that arrives is believed: the worker has a vendor's library in its memory.
"""

import json
from collections.abc import Callable
from dataclasses import asdict

from agent.model import MAX_LOGIC_ID, NpuProcess, NpuReadings, ResetOutcome
from agent.npud.dcmi.messages import (
    ChipKey,
    Details,
    Done,
    FaultTold,
    Listed,
    Look,
    Ready,
    Refused,
    Request,
    ResetEnded,
    ResetOrder,
    Started,
    State,
    Told,
    Unusable,
)
from agent.npud.dcmi.numbers import UNTOLD, Numbered

MAX_LINE = 128 * 1024  # 128 codes with 255 bytes of text each are less, however it is escaped
MAX_LIST = 256
MAX_INTEGER = 2**63  # what a client of npud's takes


class Garbage(Exception):
    """It is no message of a worker."""


def encode(message: Told | Request | ResetOrder) -> bytes:
    line = {"type": type(message).__name__, **asdict(message)}
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"


def clean(raw: bytes | str) -> str:
    """One printable line, whatever a driver says; never more bytes than it has said."""
    text = raw.decode("utf-8", "replace").replace("\ufffd", "?") if isinstance(raw, bytes) else raw
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())


def decode(data: bytes) -> Told:
    """Raises Garbage."""
    try:
        line = json.loads(data)
        return _DECODERS[line["type"]](line)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Garbage(f"{type(error).__name__}: {error}") from error


def decode_request(data: bytes) -> Request | ResetOrder:
    """From npud: that is believed."""
    line = json.loads(data)
    if line.pop("type") == ResetOrder.__name__:
        line["ring"] = tuple(_chip(key) for key in line["ring"])
        line["numbers"] = tuple(line["numbers"])
        line["through"], line["codes"] = _chip(line["through"]), tuple(line["codes"])
        return ResetOrder(**{**line, "chip": _chip(line["chip"])})
    leave_out = tuple(_chip(key) for key in line["leave_out"])
    return Request(Look(line["look"]), _chip(line["chip"]), leave_out)


def _int(value: object) -> int:
    if type(value) is not int or not -MAX_INTEGER <= value < MAX_INTEGER:
        raise TypeError(f"{value!r:.40} is no integer")
    return value


def _float(value: object) -> float:
    if type(value) is not float and type(value) is not int:
        raise TypeError(f"{value!r:.40} is no number")
    # Nor is NaN; and the largest integers are beyond it as floats.
    if not (-MAX_INTEGER <= value < MAX_INTEGER and float(value) < MAX_INTEGER):
        raise ValueError(f"{value!r:.40} is no finite number")
    return float(value)


def _bool(value: object) -> bool:
    if type(value) is not bool:
        raise TypeError(f"{value!r:.40} is neither true nor false")
    return value


def _text(value: object) -> str:
    if type(value) is not str or not value.isprintable():
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


def _listed(value: object) -> Numbered:
    card, chip, logic_id, node = _integers(value, 4)
    if not 0 <= logic_id <= MAX_LOGIC_ID or not UNTOLD <= node <= MAX_LOGIC_ID:
        raise ValueError(f"logic id {logic_id}, node {node}")
    return card, chip, logic_id, node


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
    processes = line["processes"]
    return Details(
        chip=_chip(line["chip"]),
        product=_text(line["product"]),
        memory_mib=_int(line["memory_mib"]),
        memory_used_mib=_int(line["memory_used_mib"]),
        bus_id=_text(line["bus_id"]),
        board_id=_optional_int(line["board_id"]),
        processes=None if processes is None else tuple(map(_process, _list(processes))),
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
    "Ready": lambda _line: Ready(),
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
    "ResetEnded": lambda line: ResetEnded(
        ResetOutcome(_text(line["outcome"])), _text(line["detail"])
    ),
}
