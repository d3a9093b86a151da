# SPDX-License-Identifier: MulanPSL-2.0
"""What the faults of an NPU lead to, by their level. Pure.

However often something comes back, it stops an instance at most `times` in `within_s` (by default
twice in a day): the last time the NPU is set aside as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from agent.config.faults import TIMES, FaultLevel, FaultRule
from agent.model import Phase
from agent.policy.npu.follow import is_settling
from agent.policy.npu.reset import RESETS, why_no_reset
from agent.policy.npu.reset import TRIES as RESET_TRIES
from agent.policy.npu.state import (
    AGENT,
    Act,
    Fleet,
    Followed,
    Holding,
    NpuState,
    Quarantine,
    Rules,
    SetAside,
    StopInstance,
)

ACTS_KEPT = 64  # of an NPU
RESTARTS = (FaultLevel.RESTART_REQUEST, FaultLevel.RESTART_BUSINESS)
# Phases in which an instance can be stopped; in STOPPING it is on its way.
STOPPABLE = (Phase.STARTING, Phase.LOADING, Phase.SERVING)
# What a chip of these levels still computes is trusted until it fails: "no new jobs" is what
# PreSeparate means. A model that serves is not stopped for what may never come (design, 7).
SPARES_SERVING = (FaultLevel.SUB_HEALTH, FaultLevel.PRE_SEPARATE)


@dataclass
class Deed:
    """What is decided in one turn."""

    fleet: Fleet
    at: float
    rules: Rules
    decisions: list[SetAside | StopInstance]


def act(fleet: Fleet, at: float, rules: Rules) -> tuple[Fleet, list[SetAside | StopInstance]]:
    """Sets NPUs aside and stops instances. Resets come after that, when nothing uses the chip."""
    deed = Deed(fleet, at, rules, [])
    for logic_id in [state.logic_id for state in fleet.npus]:
        _act_on(deed, deed.fleet.of(logic_id))
    return deed.fleet, deed.decisions


def _act_on(deed: Deed, state: NpuState) -> None:
    rules = deed.rules
    faults = [
        fault
        for fault in rules.in_force(state)
        if fault.listed and rules.is_gathered(fault, deed.at)
    ]
    if not faults:
        return
    level = rules.level(faults[0])
    holders = _stoppable(deed.fleet, state, level)
    if level in RESETS and (why := _why_not_mended(deed, state, faults)):
        _set_aside(deed, state.logic_id, faults[0], *why)
        first = [] if holders else [fault for fault in faults if fault.acted_at is None]
        _mark(deed, state.logic_id, first)
        state = deed.fleet.of(state.logic_id)
    due = [fault for fault in faults if _is_due(fault, level, holders, deed)]
    if not due:
        return
    worst = [fault for fault in due if _count(state, fault, deed) + 1 >= _rule(fault, deed).times]
    stops = [fault for fault in due if _count(state, fault, deed) < _rule(fault, deed).times]
    _mark(deed, state.logic_id, due)
    if worst:
        _set_aside(deed, state.logic_id, worst[0], *_repeated(worst[0], deed))
    elif level not in (*RESTARTS, *RESETS):
        _set_aside(deed, state.logic_id, due[0], *_by_level(due[0], level, deed))
    for holder in holders if stops else ():
        _stop(deed, holder, state.logic_id, stops[0])


def _stoppable(fleet: Fleet, state: NpuState, level: FaultLevel) -> list[Holding]:
    return [
        holder
        for holder in fleet.holders(state.logic_id)
        if holder.phase in STOPPABLE
        and level not in (FaultLevel.SUB_HEALTH, FaultLevel.FREE_RESTART)
        and not (level in SPARES_SERVING and holder.phase is Phase.SERVING)
    ]


def _is_due(fault: Followed, level: FaultLevel, holders: Sequence[Holding], deed: Deed) -> bool:
    """Whether it is time to do something, for the first time or again."""
    wait_s = deed.rules.settings.restart_after_s
    if level in RESTARTS:
        since = fault.since if fault.acted_at is None else max(fault.since, fault.acted_at)
        return bool(holders) and deed.at >= since + wait_s
    if fault.acted_at is None:
        return bool(holders) or level not in RESETS
    # It was to be stopped, and is not: by the same fault, or it took the NPU all the same.
    return bool(holders) and deed.at >= fault.acted_at + wait_s


def _rule(fault: Followed, deed: Deed) -> FaultRule:
    return deed.rules.catalogue.rule_of(fault.as_fault())


def _count(state: NpuState, fault: Followed, deed: Deed) -> int:
    """How often it was acted upon within the window."""
    since = deed.at - _rule(fault, deed).within_s
    return sum(one.code == fault.code and one.at > since for one in state.acts)


def count_reset(fleet: Fleet, logic_ids: Sequence[int], at: float, rules: Rules) -> Fleet:
    """A reset is the first thing that is done about a fault on an NPU that nothing used."""
    deed = Deed(fleet, at, rules, [])
    for logic_id in logic_ids:
        first = [
            fault
            for fault in rules.in_force(fleet.of(logic_id))
            if rules.level(fault) in RESETS and fault.acted_at is None
        ]
        _mark(deed, logic_id, first)
    return deed.fleet


def _mark(deed: Deed, logic_id: int, acted: Sequence[Followed]) -> None:
    state, codes = deed.fleet.of(logic_id), {fault.code for fault in acted}
    faults = tuple(
        replace(fault, acted_at=deed.at) if fault.code in codes else fault for fault in state.faults
    )
    acts = (*state.acts, *(Act(code, deed.at) for code in sorted(codes)))
    state = replace(state, faults=faults, acts=_latest(acts, deed.rules))
    deed.fleet = deed.fleet.with_npu(state)


def _latest(acts: Sequence[Act], rules: Rules) -> tuple[Act, ...]:
    """As many of each code as its rule counts: a year of faults must not fill the memory."""
    kept: list[Act] = []
    for one in reversed(acts):
        rule = rules.catalogue.rules.get(one.code)
        if sum(other.code == one.code for other in kept) < (rule.times if rule else TIMES):
            kept.append(one)
    return tuple(reversed(kept[:ACTS_KEPT]))


# --- quarantine ----------------------------------------------------------------------------------


def _why_not_mended(
    deed: Deed, state: NpuState, faults: Sequence[Followed]
) -> tuple[str, float] | None:
    """Why no reset will come; and for how long after the fault the NPU stays set aside."""
    settings = deed.rules.settings
    for fault in faults:
        count = _count(state, fault, deed)
        if fault.acted_at is None and count + 1 >= _rule(fault, deed).times:
            return _repeated(fault, deed)
    if why := why_no_reset(deed.fleet, state, deed.rules):
        return f"{_name(faults[0], deed)}; {why}", settings.flap_clear_s
    over = deed.fleet.reset is None and not is_settling(deed.fleet, state.logic_id, deed.at)
    if state.tries >= RESET_TRIES and over:
        words = f"{_name(faults[0], deed)} is still there after {RESET_TRIES} resets"
        return words, _release_after_s(_rule(faults[0], deed), deed)
    return None


def _repeated(fault: Followed, deed: Deed) -> tuple[str, float]:
    rule = _rule(fault, deed)
    hours = round(rule.within_s / 3600)
    words = f"{_name(fault, deed)} for the {_ordinal(rule.times)} time in {hours} h"
    return words, _release_after_s(rule, deed)


def _ordinal(number: int) -> str:
    return {1: "first", 2: "second", 3: "third"}.get(number, f"{number}th")


def _by_level(fault: Followed, level: FaultLevel, deed: Deed) -> tuple[str, float]:
    """Beyond repair, as is known: for long. Otherwise as long as the fault is there; when it comes
    back within the day, `_repeated` has the say. Of a code that is in no file nobody knows more
    than that the driver calls it major."""
    rule = _rule(fault, deed)
    words = f"{_name(fault, deed)} ({level})"
    if level is FaultLevel.SEPARATE and rule.set_in:
        return words, _release_after_s(rule, deed)
    return words, deed.rules.settings.flap_clear_s


def _release_after_s(rule: FaultRule, deed: Deed) -> float:
    said = rule.release_after_s
    return deed.rules.settings.release_after_s if said is None else said


def _name(fault: Followed, deed: Deed) -> str:
    return f"{fault.code} {_rule(fault, deed).name_en or fault.text}".strip()


def _set_aside(
    deed: Deed, logic_id: int, fault: Followed, reason: str, release_after_s: float
) -> None:
    """A reason that lasts longer replaces another one of ours; a person's stays."""
    state = deed.fleet.of(logic_id)
    old = state.quarantine
    aside = Quarantine(reason, deed.at, AGENT, fault.code, release_after_s)
    if old is not None:
        lasts_s = old.release_after_s
        if lasts_s is None or lasts_s >= release_after_s:
            return
        aside = replace(aside, since=old.since)
    deed.fleet = deed.fleet.with_npu(replace(state, quarantine=aside))
    deed.decisions.append(SetAside(logic_id, aside))


# --- instances -----------------------------------------------------------------------------------


def _stop(deed: Deed, holder: Holding, logic_id: int, fault: Followed) -> None:
    """A restart serves all faults on its NPUs that ask for one: their time begins anew."""
    reason = f"NPU {logic_id}: {_name(fault, deed)} ({deed.rules.level(fault)})"
    deed.decisions.append(StopInstance(holder.instance, (logic_id,), fault.code, reason))
    stopping = replace(holder, phase=Phase.STOPPING)
    holdings = tuple(stopping if one == holder else one for one in deed.fleet.holdings)
    deed.fleet = replace(deed.fleet, holdings=holdings)
    for npu in holder.npus:
        state = deed.fleet.of(npu)
        faults = tuple(
            replace(one, acted_at=deed.at) if deed.rules.level(one) in RESTARTS else one
            for one in state.faults
        )
        deed.fleet = deed.fleet.with_npu(replace(state, faults=faults))
