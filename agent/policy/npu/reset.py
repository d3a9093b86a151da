# SPDX-License-Identifier: MulanPSL-2.0
"""Which NPUs a reset takes with it, whether it may be done, and when. Pure."""

from collections.abc import Iterator
from dataclasses import replace

from agent.config.faults import FaultLevel
from agent.config.values import ResetScope
from agent.model import (
    UNKNOWN_CARD,
    Npu,
    NpuHealth,
    ProductLine,
    ResetOutcome,
    brother_card,
    product_line,
)
from agent.policy.npu.state import (
    CARD_DROP,
    Fleet,
    NpuState,
    Reset,
    ResetEnded,
    ResetNpus,
    Rules,
)

TRIES = 4
COOL_DOWN_S = 30.0  # between two resets, as the peer does it
BUSY_AGAIN_S = 2.0  # what uses the chip is most often an engine on its way down; twice as long ...
BUSY_AGAIN_MAX_S = 60.0  # ... each time, up to this
SETTLE_S = COOL_DOWN_S  # so long a chip that was reset may still look ill
# npud waits 150 s for the boot status and tells how it ended; when that never comes, it is over.
LOST_S = 600.0
RESETS = (FaultLevel.FREE_RESTART, FaultLevel.RESTART_NPU)
# Atlas 800I A2 without HCCS (facts: ascend, 6): each NPU is reset for itself.
WITHOUT_HCCS = (0x33, 0x3C)


def ring_of(fleet: Fleet, npu: Npu) -> tuple[int, ...]:
    """The NPUs that a reset of `npu` resets, of those that are there. With HCCS all of the host go
    together, and so does whatever nobody knows better. A chip of an A3 that the driver has not told
    of may be on the brother card."""
    chips = [state.npu for state in fleet.npus if state.npu is not None and state.is_present]
    board_id = fleet.inventory.board_id if fleet.inventory is not None else None
    match product_line(npu.product):
        case ProductLine.A3:
            cards = (npu.card_id, brother_card(npu.card_id))
            may_be = (*cards, UNKNOWN_CARD)
            return tuple(chip.logic_id for chip in chips if chip.card_id in may_be)
        case ProductLine.DUO:
            return tuple(chip.logic_id for chip in chips if chip.card_id == npu.card_id)
        case ProductLine.A2 if board_id in WITHOUT_HCCS:
            return (npu.logic_id,)
        case _:
            return tuple(chip.logic_id for chip in chips)


def why_no_reset(fleet: Fleet, state: NpuState, rules: Rules) -> str:
    """Empty when the settings allow it."""
    npu = state.npu
    if npu is None:
        return ""
    match rules.settings.reset:
        case ResetScope.NEVER:
            return 'no NPU is reset (reset = "never")'
        case ResetScope.CARD:
            beyond = [
                one
                for one in ring_of(fleet, npu)
                if one != state.logic_id and _is_on_another_card(fleet, one, npu)
            ]
            if beyond:
                return f'a reset would take the NPUs {beyond} with it (reset = "card")'
        case ResetScope.RING:
            pass
    return ""


def _is_on_another_card(fleet: Fleet, logic_id: int, npu: Npu) -> bool:
    """Not so one whose card is not known: that is waited for, and no reason to set one aside."""
    other = fleet.of(logic_id).npu
    return other is None or other.card_id not in (npu.card_id, UNKNOWN_CARD)


def reset_faulty(fleet: Fleet, at: float, rules: Rules) -> tuple[Fleet, ResetNpus | None]:
    """One reset at a time, of what nothing uses. One that could not be done keeps no other NPU
    from its own: there was none, so only that one waits."""
    ended_at = fleet.reset_ended_at
    if fleet.reset is not None or (ended_at is not None and at < ended_at + COOL_DOWN_S):
        return fleet, None
    for state in fleet.npus:
        if state.npu is not None and _is_due(state, at, rules):
            ring = ring_of(fleet, state.npu)
            if is_idle(fleet, ring):
                return _begin(fleet, state, ring, at, rules)
    return fleet, None


def _is_due(state: NpuState, at: float, rules: Rules) -> bool:
    if not wants_reset(state, rules) or state.tries >= TRIES or at < state.reset_not_before:
        return False
    return all(rules.is_gathered(fault, at) for fault in rules.in_force(state))


def wants_reset(state: NpuState, rules: Rules) -> bool:
    """Its fault is there by the latest look, and a reset may mend it; what is away cannot be
    reset."""
    if state.quarantine is not None or state.npu is None or not state.npu.device_present:
        return False
    return any(fault.listed and rules.level(fault) in RESETS for fault in rules.in_force(state))


def is_idle(fleet: Fleet, ring: tuple[int, ...]) -> bool:
    """Nothing uses any of them, as far as can be known. Of a chip that does not answer the driver
    lists no processes, so it has to be one that dropped."""
    for logic_id in ring:
        npu = fleet.of(logic_id).npu
        if npu is None or npu.processes or logic_id in fleet.others:
            return False
        dropped = any(fault.code == CARD_DROP for fault in npu.faults)
        if npu.health is NpuHealth.UNKNOWN and not dropped:
            return False
        if any(fleet.holders(logic_id)):
            return False
    return True


def _begin(
    fleet: Fleet, state: NpuState, ring: tuple[int, ...], at: float, rules: Rules
) -> tuple[Fleet, ResetNpus]:
    """It is a try for each of the ring that needs it."""
    codes = tuple(fault.code for fault in rules.in_force(state))
    for logic_id in ring:
        mate = fleet.of(logic_id)
        if wants_reset(mate, rules):
            fleet = fleet.with_npu(replace(mate, tries=mate.tries + 1))
    fleet = replace(fleet, reset=Reset(ring, at), settling=ring)
    number = f"try {state.tries + 1} of {TRIES}"
    reason = f"{', '.join(codes)} of NPU {state.logic_id}, {number}"
    return fleet, ResetNpus(ring, reason, state.logic_id, codes)


def end_reset(fleet: Fleet, event: ResetEnded, at: float) -> Fleet:
    """What did not happen is no try."""
    reset = fleet.reset
    if reset is None or set(reset.npus) != set(event.npus):
        return fleet  # of the agent before this one, or given up already
    fleet = replace(fleet, reset=None)
    for logic_id in reset.npus:
        fleet = fleet.with_npu(_after_reset(fleet.of(logic_id), event.outcome, at))
    if event.outcome is not ResetOutcome.BUSY:
        fleet = replace(fleet, reset_ended_at=at)
    if event.outcome in (ResetOutcome.BUSY, ResetOutcome.REFUSED):
        fleet = replace(fleet, settling=())
    return fleet


def _after_reset(state: NpuState, outcome: ResetOutcome, at: float) -> NpuState:
    tries = state.tries
    if outcome in (ResetOutcome.BUSY, ResetOutcome.REFUSED):
        tries = max(0, tries - 1)
    if outcome is not ResetOutcome.BUSY:
        return replace(state, tries=tries, busy=0, reset_not_before=0.0, missed_since=None, lost="")
    pause_s = min(BUSY_AGAIN_MAX_S, BUSY_AGAIN_S * 2.0 ** min(state.busy, 10))
    return replace(state, tries=tries, busy=state.busy + 1, reset_not_before=at + pause_s)


def give_up_lost(fleet: Fleet, at: float) -> Fleet:
    """A reset whose end nobody told."""
    if fleet.reset is None or at < fleet.reset.since + LOST_S:
        return fleet
    return replace(fleet, reset=None, reset_ended_at=at)


def under_reset(fleet: Fleet) -> Iterator[int]:
    return iter(fleet.reset.npus if fleet.reset is not None else ())


def well(state: NpuState) -> NpuState:
    """Nothing is left of the resets before: what comes now begins anew."""
    return replace(state, tries=0, busy=0, reset_not_before=0.0)
