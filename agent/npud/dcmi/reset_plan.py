# SPDX-License-Identifier: MulanPSL-2.0
"""A client's wish comes in, an order goes out: which chips go together, which is named. Pure."""

from agent.model import brother_card
from agent.npud.dcmi.left_out import LeftOut
from agent.npud.dcmi.messages import ChipKey, ResetOrder
from agent.npud.dcmi.picture import Picture
from agent.npud.devices import Devices, who_is_not_told
from agent.npud.requests import Reset
from agent.npud.source import ResetLimits


def plan_reset(
    request: Reset, picture: Picture, left_out: LeftOut, limits: ResetLimits, devices: Devices
) -> ResetOrder | str:
    """The order, or why it cannot be given now."""
    asked: list[ChipKey] = []
    for number in request.ring:
        key = picture.find_number(number)
        if key is None:
            return f"libdcmi knows no NPU {number} now"
        asked.append(key)
    # What is on the same card goes with it, whatever was asked for; on an A3 its brother, too.
    cards = {card for card, _chip in asked}
    if picture.is_a3():
        if why := who_is_not_told(devices.chips, picture.numbers()):
            return why
        cards |= {brother_card(card) for card in cards}
    ring = tuple(sorted(mate for card in cards for mate in picture.on_card(card)))
    for key in ring:
        if left_out.why(key):
            return f"chip {key[0]}.{key[1]}: {left_out.why(key)}"
    chip = asked[request.ring.index(request.logic_id)]
    return ResetOrder(
        chip=chip,
        through=_through(chip, ring, picture),
        ring=ring,
        numbers=tuple(picture.number_of(key) for key in ring),
        folder=devices.folder,
        codes=request.codes,
        boot_s=limits.boot_s,
        look_s=limits.look_s,
    )


def _through(chip: ChipKey, ring: tuple[ChipKey, ...], picture: Picture) -> ChipKey:
    """A Duo is reset through device 0 only (facts: ascend 2)."""
    first = (chip[0], 0)
    return first if first in ring and picture.is_duo(chip[0]) else chip
