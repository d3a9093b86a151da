# SPDX-License-Identifier: MulanPSL-2.0
"""What a driver says: npu-smi's tables, libdcmi's structs, the lines of the process that has it in
its memory; and the lines between npud and who asks it."""

import ctypes
from contextlib import suppress

import msgspec

from agent.host.npu import NpuFollower
from agent.model import MAX_LOGIC_ID, DriverState, Inventory
from agent.npud.dcmi import abi
from agent.npud.dcmi.link import Garbage, clean, decode, encode
from agent.npud.dcmi.messages import Details, FaultTold, Listed, State
from agent.npud.dcmi.picture import Picture
from agent.npud.dcmi.reader import bus_id_of
from agent.npud.inotify import InotifyLost, parse_events
from agent.npud.inventory import build_account, inventory_message
from agent.npud.npu_smi import MAX_TEXT, first_words, parse_mapping, parse_refusal, parse_table
from agent.npud.requests import MAX_RING, Reset, parse_request
from tests.fuzz.target import Target, text_of


def _told(inventory: Inventory) -> Inventory:
    """What a client makes of it: the same, but for the times."""
    heard: list[Inventory] = []
    NpuFollower("", heard.append)._take(inventory_message(inventory))
    return heard[0]


def check_npu_smi(data: bytes) -> None:
    """The mapping, a line of dashes, the table."""
    first, _, second = text_of(data).partition("\n---\n")
    mapping, table = parse_mapping(first), parse_table(second)
    assert len({chip.logic_id for chip in mapping}) == len(mapping)
    assert max(map(len, (parse_refusal(second), first_words(second)))) <= MAX_TEXT
    if table is not None:
        inventory = build_account(mapping, table)
        assert len(inventory.npus) == len(mapping)
        assert len(_told(inventory).npus) == len(mapping)


def check_dcmi_link(data: bytes) -> None:
    """One line of a worker after the other, joined to a picture that a client understands."""
    picture = Picture(lambda _: "")
    for clock, line in enumerate(data.split(b"\n")[:20]):
        try:
            message = decode(line)
        except Garbage:
            continue
        assert decode(encode(message)) == message
        match message:
            case Listed():
                picture.take_list(message)
            case State():
                picture.take_state(message, float(clock))
            case Details():
                picture.take_details(message)
            case FaultTold():
                picture.take_event(message, float(clock), float(clock))
            case _:
                pass
    picture.expire(1e9)
    npus = picture.npus()
    assert all(0 <= npu.logic_id <= MAX_LOGIC_ID for npu in npus)
    assert _told(Inventory(driver=DriverState.READY, npus=npus)).npus == npus


def check_dcmi_structs(data: bytes) -> None:
    """Memory that libdcmi has filled with anything."""
    for kind in (abi.PcieInfo, abi.ChipInfo, abi.Event):
        raw = data[: ctypes.sizeof(kind)].ljust(ctypes.sizeof(kind), b"\0")
        value = kind.from_buffer_copy(raw)
        if isinstance(value, abi.PcieInfo):
            assert len(bus_id_of(value)) in (0, 12)
        if isinstance(value, abi.ChipInfo):
            text = clean(value.chip_name)
            assert text.isprintable()
            assert len(text.encode()) <= 32
    with suppress(InotifyLost):
        parse_events(data)


def check_npud_request(data: bytes) -> None:
    request = parse_request(data)
    if isinstance(request, Reset):
        assert request.logic_id in request.ring
        assert list(request.ring) == sorted(set(request.ring))
        assert len(request.ring) <= MAX_RING
        assert all(0 <= number <= MAX_LOGIC_ID for number in request.ring)


def check_npud_message(data: bytes) -> None:
    """As agentd takes it: NpuFollower calls these three npud's own trouble."""
    heard: list[Inventory] = []
    follower = NpuFollower("", heard.append)
    with suppress(OSError, ValueError, msgspec.MsgspecError):
        follower._take(data)


TARGETS = (
    Target("npu-smi", check_npu_smi, 8192),
    Target("dcmi-link", check_dcmi_link, is_json=True),
    Target("dcmi-structs", check_dcmi_structs, 1024),
    Target("npud-request", check_npud_request, 1024, is_json=True),
    Target("npud-message", check_npud_message, is_json=True),
)
