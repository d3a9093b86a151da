# SPDX-License-Identifier: MulanPSL-2.0
"""What to do about the NPUs: `decide_npus(fleet, event, now, rules) -> (fleet, decisions)`. Pure.

`now` is in seconds, monotonic. The order of every turn: believe what is seen, look whether it is
the host, set aside and stop, release, reset. Nothing is done while the driver is not READY.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import assert_never

from agent.config.faults import FaultLevel
from agent.model import DriverState, ResetOutcome, Unfit
from agent.policy.npu.act import act, count_reset
from agent.policy.npu.breaker import trust_again, watch_host
from agent.policy.npu.follow import follow, is_known, is_settling
from agent.policy.npu.lost import watch_lost
from agent.policy.npu.reset import (
    RESETS,
    end_reset,
    give_up_lost,
    reset_faulty,
    under_reset,
    well,
)
from agent.policy.npu.state import (
    AGENT,
    ClearAsked,
    Fleet,
    HostCleared,
    NpuDecision,
    NpuEvent,
    NpusSeen,
    NpuState,
    NpuTick,
    Quarantine,
    QuarantineAsked,
    Release,
    ResetEnded,
    Rules,
    SetAside,
)


def decide_npus(
    fleet: Fleet, event: NpuEvent, now: float, rules: Rules
) -> tuple[Fleet, tuple[NpuDecision, ...]]:
    """The next fleet, and what to do in this order."""
    at = fleet.base + now
    fleet, first = _take(fleet, event, at, rules)
    fleet = give_up_lost(fleet, at)
    fleet, notes = follow(fleet, at, rules)
    fleet, host = watch_host(fleet, at, rules)
    decisions: list[NpuDecision] = [*first, *notes, *host]
    if not fleet.ready or fleet.suspect:
        return watch_lost(fleet, at, rules), tuple(decisions)
    fleet, acted = act(fleet, at, rules)
    fleet, released = _release(fleet, at, rules)
    fleet = watch_lost(fleet, at, rules)
    fleet, reset = reset_faulty(fleet, at, rules)
    decisions += [*acted, *released]
    if reset is not None:
        fleet = count_reset(fleet, reset.npus, at, rules)
        decisions.append(reset)
    return fleet, tuple(decisions)


def _take(
    fleet: Fleet, event: NpuEvent, at: float, rules: Rules
) -> tuple[Fleet, Iterable[NpuDecision]]:
    match event:
        case NpusSeen():
            ready = event.inventory.driver is DriverState.READY
            inventory = event.inventory if ready else fleet.inventory
            return replace(
                fleet,
                inventory=inventory,
                ready=ready,
                holdings=event.holdings,
                others=event.others,
            ), ()
        case ResetEnded():
            return _take_reset(fleet, event, at, rules)
        case QuarantineAsked():
            return _take_quarantine(fleet, event, at)
        case ClearAsked():
            return _take_clear(fleet, event, at)
        case HostCleared():
            return trust_again(fleet, event.by)
        case NpuTick():
            return fleet, ()
        case _:
            assert_never(event)


def _take_reset(
    fleet: Fleet, event: ResetEnded, at: float, rules: Rules
) -> tuple[Fleet, Iterable[NpuDecision]]:
    """Where it is not possible at all it is not tried again: the NPU waits for a person, or for its
    fault to go."""
    ours = fleet.reset is not None and set(fleet.reset.npus) == set(event.npus)
    fleet = end_reset(fleet, event, at)
    told: list[NpuDecision] = []
    if not ours or event.outcome is not ResetOutcome.REFUSED:
        return fleet, told
    for logic_id in event.npus:
        state = fleet.of(logic_id)
        faults = [one for one in rules.in_force(state) if rules.level(one) in RESETS]
        if faults and state.quarantine is None:
            words = f"{faults[0].code}; a reset is refused: {event.detail}"
            clear_s = rules.settings.flap_clear_s
            aside = Quarantine(words, at, AGENT, faults[0].code, clear_s)
            fleet = fleet.with_npu(replace(state, quarantine=aside))
            told.append(SetAside(logic_id, aside))
    return fleet, told


# --- quarantine ----------------------------------------------------------------------------------


def _take_quarantine(
    fleet: Fleet, event: QuarantineAsked, at: float
) -> tuple[Fleet, Iterable[NpuDecision]]:
    """An instance that serves on it stays there until its next start."""
    told = []
    for logic_id in event.npus:
        aside = Quarantine(event.reason or f"{event.by} wants it", at, event.by)
        fleet = fleet.with_npu(replace(fleet.of(logic_id), quarantine=aside))
        told.append(SetAside(logic_id, aside))
    return fleet, told


def _take_clear(fleet: Fleet, event: ClearAsked, at: float) -> tuple[Fleet, Iterable[NpuDecision]]:
    """All begins anew, and the faults that are there now are no reason to act until they come
    again: a person knows better."""
    told = []
    for state in [one for one in fleet.npus if one.logic_id in event.npus]:
        if state.quarantine is not None:
            told.append(Release(state.logic_id, f"{event.by} says so"))
        pardoned = tuple(replace(fault, pardoned=True) for fault in state.faults)
        lost = "" if state.npu is None else state.lost  # one that was taken out does not come
        state = replace(state, faults=pardoned, acts=(), quarantine=None, hit_at=None, lost=lost)
        fleet = fleet.with_npu(well(state))
    return fleet, told


def _release(fleet: Fleet, at: float, rules: Rules) -> tuple[Fleet, list[Release]]:
    """Those whose time has come, of which the driver says that they are well."""
    told = []
    for state in fleet.npus:
        aside = state.quarantine
        if aside is None or is_settling(fleet, state.logic_id, at):
            continue
        known = is_known(state.npu)
        aside = _seen_again(aside, state, known, at, rules)
        waited_s = 0.0 if aside.gone_since is None else at - aside.gone_since
        if known and aside.release_after_s is not None and waited_s >= aside.release_after_s:
            told.append(Release(state.logic_id, "its fault has stayed away"))
            fleet = fleet.with_npu(replace(state, quarantine=None))
        elif aside != state.quarantine:
            fleet = fleet.with_npu(replace(state, quarantine=aside))
    return fleet, told


def _seen_again(
    aside: Quarantine, state: NpuState, known: bool, at: float, rules: Rules
) -> Quarantine:
    """With since when no fault of the NPU asks for anything, or soon may."""
    if rules.waiting(state):
        return replace(aside, gone_since=None)
    if known and aside.gone_since is None:
        return replace(aside, gone_since=at)
    return aside


def gathered_at(fleet: Fleet, now: float, rules: Rules) -> float:
    """When the next fault will have waited for others; monotonic, infinity when none does."""
    ends = (
        fault.since + rules.gather_s - fleet.base
        for state in fleet.npus
        for fault in rules.in_force(state)
        if not rules.is_gathered(fault, fleet.base + now)
    )
    return min(ends, default=float("inf"))


# --- what the planner asks -----------------------------------------------------------------------


def unfit(fleet: Fleet, rules: Rules) -> tuple[Unfit, ...]:
    """The NPUs that no plan may choose, and why. While the host is suspected only what was set
    aside before: to keep a model from starting is acting, too (an alarm: `plan.npus`)."""
    resetting = set(under_reset(fleet))
    found = (_unfit(state, state.logic_id in resetting, fleet, rules) for state in fleet.npus)
    return tuple(one for one in found if one is not None)


def _unfit(state: NpuState, resetting: bool, fleet: Fleet, rules: Rules) -> Unfit | None:
    if state.quarantine is not None:
        return Unfit(state.logic_id, f"set aside: {state.quarantine.reason}", passing=False)
    if state.lost and not fleet.suspect:
        return Unfit(state.logic_id, state.lost, passing=False)
    if resetting:
        return Unfit(state.logic_id, "it is being reset", passing=True)
    faults = rules.in_force(state)
    if fleet.suspect or not faults or rules.level(faults[0]) not in RESETS:
        return None
    codes = ", ".join(fault.code for fault in faults)
    if fleet.inventory is None:
        return Unfit(state.logic_id, f"it has not been seen yet ({codes})", passing=True)
    if not state.is_present:
        return Unfit(state.logic_id, f"it is gone ({codes})", passing=False)
    return Unfit(state.logic_id, f"it waits for a reset ({codes})", passing=True)


def level_of(state: NpuState, rules: Rules) -> FaultLevel:
    """The level that is in force, for those who look."""
    faults = rules.in_force(state)
    return rules.level(faults[0]) if faults else FaultLevel.NOT_HANDLE
