# SPDX-License-Identifier: MulanPSL-2.0
"""Lines between npud and its workers: there and back, and what is no message."""

import json
import socket
from dataclasses import replace

import pytest

from agent.model import NpuProcess, NpuReadings, ResetOutcome
from agent.npud.dcmi.link import MAX_LINE, Garbage, clean, decode, decode_request, encode
from agent.npud.dcmi.messages import (
    Details,
    Done,
    FaultTold,
    Listed,
    Look,
    Refused,
    Request,
    ResetEnded,
    ResetOrder,
    Started,
    State,
    Told,
    Unusable,
)
from agent.npud.dcmi.numbers import UNTOLD

STATE = State((3, 0), 2, 0, ((0x80E01801, "multi bit"), (1, "漏电")), 12.5)
DETAILS = Details(
    chip=(3, 0),
    product="910B3",
    memory_mib=65536,
    memory_used_mib=3445,
    bus_id="0000:C4:00.0",
    board_id=0x33,
    processes=(NpuProcess(4711, "python", 5),),
    readings=NpuReadings(temperature_c=45, power_w=102.8),
)
EVENT = FaultTold(0x80E01801, 3, 2, 1, 1_700_000_000_000, "multi bit", 12.5)
MESSAGES: tuple[Told, ...] = (
    Started(False, "why"),
    Refused("dcmi_init", -8005),
    Unusable("there is none"),
    Listed(((3, 0, 3, 3), (4, 1, 9, UNTOLD)), "25.5.1"),
    STATE,
    replace(STATE, health=None, code=-8012, faults=None),
    DETAILS,
    replace(DETAILS, board_id=None, processes=(), readings=NpuReadings()),
    replace(DETAILS, processes=None),
    EVENT,
    Done(),
    ResetEnded(ResetOutcome.BUSY, "in use by process 3"),
)
REQUESTS = (
    Request(Look.ALL, leave_out=((1, -1), (2, 1))),
    Request(Look.CHIP, (3, 0)),
    ResetOrder((1, 1), (1, 0), ((1, 0), (1, 1)), (2, 3), "/dev", ("80FA4E00",), 150.0, 1.0),
)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_messages_there_and_back(message: Told) -> None:
    assert decode(encode(message)) == message


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda one: type(one).__name__)
def test_requests_there_and_back(request_: Request | ResetOrder) -> None:
    assert decode_request(encode(request_)) == request_


GARBAGE: dict[str, tuple[Told, str, object]] = {
    "a number too large for a clock": (EVENT, "raised_ms", 10**400),
    "a time too large for a float": (EVENT, "came_at", 10**400),
    "a number too large for a client": (DETAILS, "memory_mib", 2**64),
    "a time that is none": (STATE, "asked_at", float("nan")),
    "a time without end": (STATE, "asked_at", float("inf")),
    "half a character": (DETAILS, "product", "\ud800"),
    "a line break": (Listed((), ""), "driver_version", "1\nWATCHDOG=trigger"),
    "an outcome that is none": (ResetEnded(ResetOutcome.OK, ""), "outcome", "great"),
    "a reading that is none": (DETAILS, "readings", {"power_w": float("nan")}),
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_is_no_message(kind: str) -> None:
    """None of it may reach a client, systemd or a sum: NaN is no JSON, and npud would end."""
    message, field, value = GARBAGE[kind]
    line = json.loads(encode(message))
    assert field in line
    with pytest.raises(Garbage):
        decode(json.dumps({**line, field: value}).encode() + b"\n")


@pytest.mark.parametrize(
    "raw",
    [b"x" * 255, "漏".encode() * 85, "é".encode() * 127, b"\xff" * 255],
    ids=["English", "Chinese", "accents", "nonsense"],
)
def test_the_longest_state_fits_into_a_line(raw: bytes) -> None:
    """128 codes (facts: ascend 2), with as much text as libdcmi has room for, in any language."""
    faults = tuple((0x80E00000 + number, clean(raw)) for number in range(128))
    line = encode(replace(STATE, faults=faults))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        theirs.setblocking(False)
        theirs.sendall(line)
        assert decode(ours.recv(MAX_LINE)) == replace(STATE, faults=faults)


def test_what_a_driver_says_is_made_one_line() -> None:
    assert clean(b" one\n\ttwo\x1b[2J \xff\xc3\xa9 ") == "one two [2J ?é"
    assert clean("a\ud800b\r\n") == "a b"
