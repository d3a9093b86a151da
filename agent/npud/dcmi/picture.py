# SPDX-License-Identifier: MulanPSL-2.0
"""All that workers told about the chips, joined: messages come in, Npus go out.

It outlives the workers, so that a new one need not tell what only an old one could know. Pure:
time is an argument.
"""

from collections.abc import Callable, Collection
from dataclasses import replace

from agent.model import Npu, ProductLine, product_line
from agent.npud.dcmi.abi import DROPPED
from agent.npud.dcmi.account import Chip, npu_of
from agent.npud.dcmi.faults import Faults
from agent.npud.dcmi.messages import (
    ChipKey,
    Details,
    FaultTold,
    Listed,
    State,
)

WhyLeftOut = Callable[[ChipKey], str]


class Picture:
    def __init__(self, why_left_out: WhyLeftOut) -> None:
        self._why_left_out = why_left_out
        self._chips: dict[ChipKey, Chip] = {}
        self._faults = Faults()
        self.version = ""

    def take_list(self, told: Listed) -> None:
        self.version = told.driver_version
        listed = {one[:2]: Chip(one[:2], *one[2:]) for one in told.chips}
        owners = {chip.logic_id: key for key, chip in listed.items()}
        numbers = {chip.number: key for key, chip in listed.items()}
        for key, chip in list(self._chips.items()):
            # Another one has its number now.
            if {owners.get(chip.logic_id, key), numbers.get(chip.number, key)} != {key}:
                del self._chips[key]
                self._faults.forget(chip.logic_id)
                continue
            there = key in listed or bool(self._why_left_out(key))  # it was not asked for that one
            self._chips[key] = replace(chip, listed=there)
        for key, chip in listed.items():
            before = self._chips.get(key)
            if before is None or not before.is_same(chip):
                self._chips[key] = chip

    def take_state(self, state: State, clock: float) -> bool:
        """Whether it is another one than before."""
        chip = self._chips.get(state.chip)
        if chip is None:
            return False
        faults = self._faults.of(chip.logic_id)
        self._chips[state.chip] = replace(chip, state=state)
        if state.code == DROPPED:
            self._faults.take_drop(chip.logic_id, clock)
        elif state.faults is not None:
            self._faults.take_query(chip.logic_id, state.faults, state.asked_at, clock)
        elif state.health is not None:
            # A driver that does not tell codes; but a chip that answers has not dropped off.
            self._faults.end_drop(chip.logic_id)
        before = chip.state
        same = before is not None and replace(before, asked_at=state.asked_at) == state
        return not same or self._faults.of(chip.logic_id) != faults

    def take_details(self, details: Details) -> bool:
        """Whether they are others than before; readings move with each look, and can wait for its
        end."""
        chip = self._chips.get(details.chip)
        if chip is None:
            return False
        self._chips[details.chip] = replace(chip, details=details)
        before = chip.details
        return before is None or replace(before, readings=details.readings) != details

    def take_event(self, event: FaultTold, now: float, clock: float) -> None:
        if self.key_of(event.logic_id) is None and self._faults.is_full():
            return
        self._faults.take_event(event, now, clock)

    def expire(self, now: float) -> bool:
        """Whether a one-off event has had its time."""
        return self._faults.expire(now)

    def next_at(self) -> float:
        return self._faults.next_at()

    def key_of(self, logic_id: int) -> ChipKey | None:
        """By libdcmi's number."""
        return next((key for key, one in self._chips.items() if one.logic_id == logic_id), None)

    def find_number(self, number: int) -> ChipKey | None:
        """By npud's: that of the node."""
        return next((key for key, one in self._chips.items() if one.number == number), None)

    def number_of(self, key: ChipKey) -> int:
        return self._chips[key].number

    def numbers(self) -> set[int]:
        """Of all that are known, also of those that are not listed now."""
        return {chip.number for chip in self._chips.values()}

    def on_card(self, card: int) -> tuple[ChipKey, ...]:
        return tuple(key for key in self._chips if key[0] == card)

    def is_duo(self, card: int) -> bool:
        """By any chip of it: one that has dropped does not say what it is."""
        details = (self._chips[key].details for key in self.on_card(card))
        products = [product_line(one.product) for one in details if one is not None]
        return ProductLine.DUO in products

    def is_a3(self) -> bool:
        """All chips of a host are of one kind, and one that has dropped does not say which."""
        details = (chip.details for chip in self._chips.values())
        return ProductLine.A3 in [product_line(one.product) for one in details if one is not None]

    def knows(self, key: ChipKey) -> bool:
        return key in self._chips

    def is_deaf(self) -> bool:
        """No chip can be asked: the driver may have been loaded anew, behind the worker's back.

        Of those that are asked at all: what is known of the others is of before, and one that has
        dropped off says nothing about the driver.
        """
        states = [chip.state for chip in self._chips.values() if self._is_asked(chip)]
        judged = [one for one in states if one is not None and one.code != DROPPED]
        return bool(judged) and all(one.health is None for one in judged)

    def _is_asked(self, chip: Chip) -> bool:
        return chip.listed and not self._why_left_out(chip.key)

    def is_any_ill(self) -> bool:
        """Or not asked, or not listed."""
        return any(not self._is_well(chip) for chip in self._chips.values())

    def mute(self) -> frozenset[ChipKey]:
        """Those that do not answer, so dcmi_init would leave them out now."""
        return frozenset(key for key, chip in self._chips.items() if not self._answers(chip))

    def _answers(self, chip: Chip) -> bool:
        return self._is_asked(chip) and chip.state is not None and chip.state.health is not None

    def _is_well(self, chip: Chip) -> bool:
        return self._is_asked(chip) and chip.state is not None and chip.state.health == 0

    def lacks_any(self, nodes: int) -> bool:
        """A chip is known, or has a device node, and is not listed."""
        listed = sum(chip.listed for chip in self._chips.values())
        return listed < max(nodes, len(self._chips))

    def npus(self) -> tuple[Npu, ...]:
        chips = sorted(self._chips.values(), key=lambda chip: chip.number)
        return tuple(self._npu(chip) for chip in chips)

    def _npu(self, chip: Chip) -> Npu:
        return npu_of(chip, self._faults.of(chip.logic_id), self._why_left_out(chip.key))

    def board_id(self) -> int | None:
        boards = (chip.details.board_id for chip in self._chips.values() if chip.details)
        return next((board for board in boards if board is not None), None)

    def forget_states(self, keys: Collection[ChipKey]) -> None:
        """They are others now; nobody has looked yet."""
        for key in keys:
            if key in self._chips:
                chip = self._chips[key]
                details = chip.details and replace(chip.details, processes=None)
                self._chips[key] = replace(chip, state=None, details=details)

    def forget(self) -> None:
        """The driver went away: what comes back begins anew."""
        self._chips.clear()
        self._faults.forget_all()
