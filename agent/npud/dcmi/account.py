# SPDX-License-Identifier: MulanPSL-2.0
"""The driver's account, put together from what workers told about each chip. Pure."""

from dataclasses import dataclass, replace

from agent.model import ABSENT, NOT_LISTED, Npu, NpuFault, NpuHealth, NpuReadings
from agent.npud.dcmi.abi import DROPPED, name_of_code
from agent.npud.dcmi.messages import (
    ChipKey,
    Details,
    State,
)
from agent.npud.dcmi.numbers import UNTOLD, number_of
from agent.npud.inventory import unknown_npu

_HEALTHS = (NpuHealth.OK, NpuHealth.WARNING, NpuHealth.ALARM, NpuHealth.CRITICAL)
DROP_REASON = f"card dropped ({DROPPED})"
_ABSENT = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Chip:
    """What is known about one; None: nothing yet."""

    key: ChipKey
    logic_id: int  # libdcmi's own: an event names it
    node: int  # N of its /dev/davinciN, or UNTOLD
    listed: bool = True  # by the newest list
    state: State | None = None
    details: Details | None = None

    @property
    def number(self) -> int:
        return number_of(self.logic_id, self.node)

    def is_same(self, listed: "Chip") -> bool:
        """A node that was told once, and is not told this time, is still its own."""
        return self.logic_id == listed.logic_id and listed.node in (self.node, UNTOLD)


def npu_of(chip: Chip, faults: tuple[NpuFault, ...], left_out: str) -> Npu:
    """`left_out` says why it is not asked at present, "" when it is."""
    health, reason = (NpuHealth.UNKNOWN, left_out) if left_out else _health(chip)
    npu = replace(
        unknown_npu(chip.number, ""),
        card_id=chip.key[0],
        chip_id=chip.key[1],
        health=health,
        reason=reason,
        faults=faults,
        node_told=chip.node != UNTOLD,
    )
    if chip.details is None:
        return npu
    return replace(
        npu,
        product=chip.details.product,
        bus_id=chip.details.bus_id,
        memory_mib=chip.details.memory_mib,
        memory_used_mib=chip.details.memory_used_mib,
        processes=chip.details.processes or (),
        # Those of a chip that does not answer any more are not those of today.
        processes_told=chip.details.processes is not None and not reason,
        readings=NpuReadings() if reason else chip.details.readings,
    )


def _health(chip: Chip) -> tuple[NpuHealth, str]:
    state = chip.state
    if not chip.listed:
        return NpuHealth.UNKNOWN, NOT_LISTED
    if state is None:
        return NpuHealth.UNKNOWN, "not read yet"
    if state.code == DROPPED:
        return NpuHealth.UNKNOWN, DROP_REASON
    if state.health is None:
        return NpuHealth.UNKNOWN, f"get_device_health: {name_of_code(state.code)}"
    if 0 <= state.health < len(_HEALTHS):
        return _HEALTHS[state.health], ""
    if state.health == _ABSENT:
        return NpuHealth.UNKNOWN, ABSENT
    return NpuHealth.UNKNOWN, f"the driver says health {state.health}"
