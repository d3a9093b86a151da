# SPDX-License-Identifier: MulanPSL-2.0
"""Which NPUs no plan waits for any more: their reset does not come, or they are not there. Pure.

Nothing is done about such an NPU. It is not set aside: it is reset as soon as that can be done, and
used as soon as it is well. But a model that fewer can serve does not wait for it.
"""

from dataclasses import replace

from agent.model import ABSENT, NOT_LISTED, Inventory, Npu, NpuHealth
from agent.policy.npu.follow import is_settling
from agent.policy.npu.reset import RESETS, is_idle, ring_of, wants_reset
from agent.policy.npu.state import Fleet, NpuState, Rules

# Longer than an engine needs to go down, a chip to boot, and a reset to be tried ten times.
PATIENCE_S = 600.0


def watch_lost(fleet: Fleet, at: float, rules: Rules) -> Fleet:
    """While the driver is silent or the host suspected no time is counted."""
    counts = fleet.ready and not fleet.suspect
    absent = _absent(fleet)
    for state in fleet.npus:
        if not is_settling(fleet, state.logic_id, at):
            why = absent.get(state.logic_id) or _why_not_reset(fleet, state, rules)
            after = _wait(state, why, at, counts=counts)
            fleet = fleet if after == state else fleet.with_npu(after)
    return fleet


def _wait(state: NpuState, why: str, at: float, *, counts: bool) -> NpuState:
    if not why:
        # What the agent before this one knew holds until the NPU has been seen.
        lost = state.lost if state.npu is None else ""
        return replace(state, missed_since=None, lost=lost)
    if not counts:
        return replace(state, missed_since=None)
    since = at if state.missed_since is None else state.missed_since
    over = bool(state.lost) or at - since >= PATIENCE_S
    return replace(state, missed_since=since, lost=why if over else "")


def _why_not_reset(fleet: Fleet, state: NpuState, rules: Rules) -> str:
    """Empty when it needs none, or has its turn as soon as the others are done. What could not be
    reset the last time is asked for again each minute, and most likely in vain."""
    faults = rules.in_force(state)
    if not faults or rules.level(faults[0]) not in RESETS or state.quarantine is not None:
        return ""
    if state.npu is None or not state.is_present or any(fleet.holders(state.logic_id)):
        return ""
    if not state.busy and wants_reset(state, rules) and is_idle(fleet, ring_of(fleet, state.npu)):
        return ""
    return f"it could not be reset for long ({', '.join(fault.code for fault in faults)})"


def _absent(fleet: Fleet) -> dict[int, str]:
    """Why, by logic id. Most at once are the host or the driver, and no NPU."""
    if fleet.inventory is None:
        return {}
    found = {npu.logic_id: _why_absent(npu, fleet) for npu in fleet.inventory.npus}
    absent = {logic_id: why for logic_id, why in found.items() if why}
    return {} if _are_most(absent, fleet.inventory) else absent


def _are_most(absent: dict[int, str], inventory: Inventory) -> bool:
    return 2 * len(absent) > len(inventory.npus)


def _why_absent(npu: Npu, fleet: Fleet) -> str:
    """By what the driver says, not by what nobody knows: a probe may hang for days. Whose node was
    there and is not has a fault for that."""
    if any(fleet.holders(npu.logic_id)):
        return ""
    if not npu.device_present:
        return f"{npu.device} does not exist" if fleet.of(npu.logic_id).npu is None else ""
    if npu.health is not NpuHealth.UNKNOWN:
        return ""
    if npu.card_id < 0:  # a node, and the driver has never told of its chip, or not which it is
        return npu.reason or "the driver does not list it"
    return npu.reason if npu.reason in (ABSENT, NOT_LISTED) else ""
