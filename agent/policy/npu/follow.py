# SPDX-License-Identifier: MulanPSL-2.0
"""Follows the faults of the NPUs from one look to the next. Pure.

Only what a look says is believed: a chip whose health is UNKNOWN may have faults that are not
listed, and a driver that is not READY says nothing at all. What is known then stays in force.
"""

from dataclasses import replace

from agent.model import MEMORY_LEFT, FaultSeverity, Npu, NpuFault, NpuHealth
from agent.policy.npu.reset import SETTLE_S, well
from agent.policy.npu.state import CARD_DROP, Fleet, Followed, Note, NpuState, Rules


def follow(fleet: Fleet, at: float, rules: Rules) -> tuple[Fleet, list[Note]]:
    """The fleet after the latest look. Called again as time passes: npud tells only changes."""
    if fleet.inventory is None or not fleet.ready:
        return fleet, []
    numbers = {npu.logic_id for npu in fleet.inventory.npus}
    found = {npu.logic_id: npu for npu in fleet.inventory.npus if not _is_only_a_place(npu)}
    known = {state.logic_id: state for state in fleet.npus}
    notes: list[Note] = []
    npus: list[NpuState] = []
    for logic_id in sorted(numbers | known.keys()):
        before = after = known.get(logic_id, NpuState(logic_id))
        npu = found.get(logic_id)
        if not is_settling(fleet, logic_id, at):
            after = _look(before, npu, at, rules)
        elif npu is not None and fleet.reset is None:
            after = _look_again(before, npu, at, rules)
        notes += _notes(before, after, rules)
        npus.append(after)
    return replace(fleet, npus=tuple(npus)), notes


def _is_only_a_place(npu: Npu) -> bool:
    """Neither /dev nor the driver tells of it: what was told before is more."""
    return not npu.device_present and npu.card_id < 0


def is_settling(fleet: Fleet, logic_id: int, at: float) -> bool:
    """It is being reset, or was just now: whatever it says is about that."""
    if fleet.reset is not None and logic_id in fleet.reset.npus:
        return True
    ended_at = fleet.reset_ended_at
    return logic_id in fleet.settling and ended_at is not None and at < ended_at + SETTLE_S


def is_known(npu: Npu | None) -> bool:
    """Whether a fault that is not listed is not there."""
    return npu is not None and npu.device_present and npu.health is not NpuHealth.UNKNOWN


def _look(state: NpuState, npu: Npu | None, at: float, rules: Rules) -> NpuState:
    if state.npu is None and not (npu is not None and npu.device_present):
        # It has not been there yet: at a boot nodes come late. What is remembered stays.
        return state
    first = state.npu is None
    if npu is None and state.npu is not None:
        npu = replace(state.npu, device_present=False, faults=(), processes=())
    assert npu is not None  # noqa: S101 - for mypy: one of the two is there
    listed = _faults_of(npu)
    if npu is state.npu and not (state.faults or listed or state.tries or state.busy):
        return state  # as of most NPUs in most turns, and npud told nothing new
    known = is_known(npu)
    faults: list[Followed] = []
    hit_at = state.hit_at
    for fault in state.faults:
        after = _again(fault, listed.get(fault.code), known, at, rules)
        if after is not None:
            faults.append(after)
            hit_at = at if _has_come(fault, after, rules) else hit_at
    followed = {fault.code for fault in faults}
    for code, came in listed.items():
        if code not in followed:
            fault = _begin(came, at, rules, first=first)
            faults.append(fault)
            hit_at = at if _has_come(None, fault, rules) else hit_at
    after_look = replace(state, npu=npu, faults=tuple(faults), hit_at=hit_at)
    return well(after_look) if known and not rules.in_force(after_look) else after_look


def _look_again(state: NpuState, npu: Npu, at: float, rules: Rules) -> NpuState:
    """While it settles after a reset: what is over is over, and nothing new counts yet."""
    listed = _faults_of(npu)
    again = (
        _again(fault, listed.get(fault.code), is_known(npu), at, rules) for fault in state.faults
    )
    return replace(state, npu=npu, faults=tuple(one for one in again if one is not None))


def _faults_of(npu: Npu) -> dict[str, NpuFault]:
    """By code. What lasts counts, where the same has happened as a one-off event too."""
    found = {fault.code: fault for fault in sorted(npu.faults, key=lambda one: not one.one_off)}
    if not npu.device_present and CARD_DROP not in found:
        words = f"{npu.device or 'its device node'} does not exist"
        found[CARD_DROP] = NpuFault(CARD_DROP, FaultSeverity.CRITICAL, words, 0.0)
    return found


def _begin(fault: NpuFault, at: float, rules: Rules, *, first: bool) -> Followed:
    """One that flaps and is there at the first look was never away: a port without a cable is no
    fault, until it has been seen to work."""
    flaps = rules.catalogue.rule_of(fault).flaps
    return Followed(
        fault.code,
        fault.text,
        fault.severity,
        at,
        raised=not flaps,
        pardoned=flaps and first,
        one_off=fault.one_off,
        raised_at=fault.raised_at,
    )


def _again(
    fault: Followed, listed: NpuFault | None, known: bool, at: float, rules: Rules
) -> Followed | None:
    """The same fault at a later look; None when it is over."""
    flaps = rules.catalogue.rule_of(fault.as_fault()).flaps
    if listed is not None and fault.one_off and not listed.one_off:
        return _begin(listed, at, rules, first=False)
    if listed is not None and listed.one_off and not fault.one_off:
        listed = None  # it has happened again, and does not last any more
    if listed is not None:
        raised = fault.raised or at - fault.since >= rules.settings.flap_raise_s
        fault = replace(fault, text=listed.text, severity=_severity(fault, listed))
        return replace(fault, listed=True, gone_since=None, raised=raised)
    if not known:
        return replace(fault, listed=False)
    if not flaps or not fault.raised:
        return None
    gone_since = at if fault.gone_since is None else fault.gone_since
    if at - gone_since >= rules.settings.flap_clear_s:
        return None
    return replace(fault, listed=False, gone_since=gone_since)


def _severity(fault: Followed, listed: NpuFault) -> FaultSeverity:
    """Only events tell it, and npud forgets them when it ends; the fault is the same."""
    return fault.severity if listed.severity is FaultSeverity.UNKNOWN else listed.severity


def _has_come(before: Followed | None, after: Followed, rules: Rules) -> bool:
    """Whether it counts from now on, as one that may be the host's: what one engine leaves on all
    of its NPUs is not."""
    counts = after.raised and not (after.pardoned or after.one_off or after.code == MEMORY_LEFT)
    new = before is None or not before.raised or before.one_off
    return counts and new and rules.acts_on(rules.level(after))


def _notes(before: NpuState, after: NpuState, rules: Rules) -> list[Note]:
    """A fault came, or is over."""
    was = {fault.code for fault in before.faults}
    still = {fault.code for fault in after.faults}
    came = [fault for fault in after.faults if fault.code not in was]
    went = [fault for fault in before.faults if fault.code not in still and not fault.one_off]
    return [
        *(Note(after.logic_id, one.as_fault(), rules.level(one)) for one in came),
        *(Note(after.logic_id, one.as_fault(), rules.level(one), over=True) for one in went),
    ]
