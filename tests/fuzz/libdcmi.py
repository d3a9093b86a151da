# SPDX-License-Identifier: MulanPSL-2.0
"""A libdcmi that fills all that it is given with the fuzzer's bytes, and what npud makes of that.

From the first call to what a client of npud's hears, without the fork: its end would be the find.
"""

import ctypes
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import cycle, islice
from typing import TypeVar, cast

from agent.host.npu import NpuFollower
from agent.model import MAX_LOGIC_ID, DriverState, Inventory, Npu
from agent.npud.dcmi import abi
from agent.npud.dcmi.calls import CallNote
from agent.npud.dcmi.library import Library
from agent.npud.dcmi.link import MAX_LINE, decode, encode
from agent.npud.dcmi.messages import Details, FaultTold, Listed, State, Told
from agent.npud.dcmi.numbers import UNTOLD
from agent.npud.dcmi.picture import Picture
from agent.npud.dcmi.reader import DriverRefused, Reader
from agent.npud.dcmi.worker import Worker
from agent.npud.inventory import inventory_message, status_line
from tests.fuzz.target import Target

KEY, LOGIC_ID = (0, 0), 3
CLOCK = 1_800_000_000.0
MOST_MIB = 4 * 1024 * 1024
MOST_PID = 4 * 1024 * 1024  # PID_MAX_LIMIT of Linux
ALL_ONES = 0xFFFFFFFF
REFUSALS = tuple(abi.CODE_NAMES)

Message = TypeVar("Message", bound=Told)


class Noise:
    """In the place of a Library. Bytes of 0x80 to 0x8F refuse a call; else it says that all is
    well. When the bytes are at their end they begin anew."""

    def __init__(self, data: bytes) -> None:
        self._bytes = cycle(data or b"\0")

    def has(self, name: str) -> bool:
        return name in abi.SIGNATURES

    def call(self, _name: str, *arguments: object, card: int = -1, chip: int = -1) -> int:
        del card, chip
        word = next(self._bytes)
        if word & 0xF0 == 0x80:
            return REFUSALS[word & 0x0F]
        for argument in arguments:
            self._fill(getattr(argument, "_obj", argument))
        return abi.OK

    def _fill(self, target: object) -> None:
        if isinstance(target, ctypes.Structure | ctypes.Array | ctypes._SimpleCData):
            size = ctypes.sizeof(target)
            ctypes.memmove(ctypes.addressof(target), bytes(islice(self._bytes, size)), size)


def check_libdcmi(data: bytes) -> None:
    check_dcmi_list(data)
    check_dcmi_chip(data)
    check_dcmi_event(data)


def check_dcmi_list(data: bytes) -> None:
    """Which chips a worker says there are."""
    picture = Picture(lambda _: "")
    with suppress(DriverRefused):
        picture.take_list(_carried(_reader(data).list_chips(()), Listed))
    npus = picture.npus()
    assert len({npu.logic_id for npu in npus}) == len(npus), "two chips with one number"
    assert len({(npu.card_id, npu.chip_id) for npu in npus}) == len(npus)
    for npu in npus:
        assert 0 <= npu.logic_id <= MAX_LOGIC_ID
        assert npu.card_id >= 0
        assert npu.chip_id >= 0
    _check_heard(picture)


def check_dcmi_chip(data: bytes) -> None:
    """What a worker says of a chip, and what comes of it."""
    reader, picture = _reader(data), Picture(lambda _: "")
    picture.take_list(Listed(((*KEY, LOGIC_ID, UNTOLD),), ""))
    picture.take_state(_carried(reader.read_state(KEY), State), CLOCK)
    picture.take_details(_carried(reader.read_details(KEY), Details))
    (npu,) = picture.npus()
    _check_npu(npu)
    _check_heard(picture)


def check_dcmi_event(data: bytes) -> None:
    """An event goes through the callback that libdcmi has, and comes to a chip."""
    event = abi.Event()
    Noise(data)._fill(event)
    event.type = abi.DMS_FAULT_EVENT
    picture = Picture(lambda _: "")
    picture.take_list(Listed(((*KEY, LOGIC_ID, UNTOLD),), ""))
    for number in (event.dms_event.deviceid, LOGIC_ID):
        event.dms_event.deviceid = number
        with _worker() as (worker, link):
            worker._on_event(ctypes.pointer(event))
            told = decode(link.recv(MAX_LINE))
        assert isinstance(told, FaultTold)
        picture.take_event(told, time.monotonic(), CLOCK)
    (npu,) = picture.npus()
    for fault in npu.faults:
        assert 0 < fault.raised_at < CLOCK + 100_000, fault
        assert fault.text.isprintable()
    _check_heard(picture)


def _reader(data: bytes) -> Reader:
    return Reader(cast("Library", Noise(data)))


@contextmanager
def _worker() -> Iterator[tuple[Worker, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    note = CallNote()
    with ours, theirs:
        yield Worker("", theirs, note), ours
    note.close()


def _carried(message: Message, kind: type[Message]) -> Message:
    """By the link: what is no message of a worker there would be the end of the worker."""
    line = encode(message)
    assert len(line) <= MAX_LINE, len(line)
    told = decode(line)
    assert isinstance(told, kind)
    assert told == message
    return told


def _check_npu(npu: Npu) -> None:
    told = npu.readings
    for temperature in (told.temperature_c, told.hbm_temperature_c):
        assert temperature is None or -100 <= temperature <= 300, npu
    for percent in (told.utilization_percent, told.memory_percent):
        assert percent is None or 0 <= percent <= 100, npu
    for count in (told.ecc_single, told.ecc_double):
        assert count is None or 0 <= count < ALL_ONES, npu
    assert told.isolated_pages is None or 0 <= told.isolated_pages < 2 * ALL_ONES, npu
    assert told.power_w is None or 0 <= told.power_w < 10_000, npu
    assert told.boot_status is None or 0 <= told.boot_status <= 0xFF, npu
    assert 0 <= npu.memory_used_mib <= npu.memory_mib <= MOST_MIB, npu
    assert len(npu.bus_id) in (0, 12)
    assert (npu.product + npu.bus_id + npu.reason).isprintable()
    assert len(npu.faults) <= abi.MAX_CODES
    for process in npu.processes:
        assert 0 < process.pid <= MOST_PID, npu
        assert 0 <= process.memory_mib <= MOST_MIB, npu


def _check_heard(picture: Picture) -> None:
    """A client of npud's understands it, and hears the same."""
    inventory = Inventory(DriverState.READY, npus=picture.npus(), board_id=picture.board_id())
    assert status_line(inventory).isprintable()
    heard: list[Inventory] = []
    NpuFollower("", heard.append)._take(inventory_message(inventory))
    assert heard[0].npus == inventory.npus


TARGETS = (Target("libdcmi", check_libdcmi),)
