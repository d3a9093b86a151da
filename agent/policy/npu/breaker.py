# SPDX-License-Identifier: MulanPSL-2.0
"""The circuit breaker: when most NPUs fail at once it is not the NPUs. Pure.

A power supply, a driver, a new firmware that raises a code nobody knows: setting one NPU aside
after the other would end all serving, and help nothing.
"""

from dataclasses import replace

from agent.model import MEMORY_LEFT
from agent.policy.npu.state import AGENT, Fleet, NpuState, Release, Rules, SuspectHost, TrustHost


def watch_host(
    fleet: Fleet, at: float, rules: Rules
) -> tuple[Fleet, list[SuspectHost | TrustHost | Release]]:
    """Suspects the host, or trusts it again."""
    since = at - rules.settings.breaker_window_s
    seen = [state for state in fleet.npus if state.npu is not None]
    hit = [state for state in seen if state.hit_at is not None and state.hit_at >= since]
    many = 2 * len(hit) > len(seen) and _cards(hit) >= 2
    if not fleet.suspect and many:
        return _suspect(fleet, hit, since, len(seen))
    # One that stays ill is that NPU, and is dealt with as such. An agent that has just begun may
    # not have seen most of them yet.
    most = 2 * len(seen) > len(fleet.npus)
    if fleet.suspect and not many and most and fleet.ready:
        ill = [
            state
            for state in seen
            if any(fault.code != MEMORY_LEFT for fault in rules.in_force(state))
        ]
        if _cards(ill) <= 1:
            reason = "the faults are gone" if not ill else "the other NPUs are well again"
            return replace(fleet, suspect=""), [TrustHost(reason)]
    return fleet, []


def trust_again(fleet: Fleet, by: str) -> tuple[Fleet, list[TrustHost]]:
    """A person says so: what there is now counts no more as a sign of the host."""
    npus = tuple(replace(state, hit_at=None) for state in fleet.npus)
    told = [TrustHost(f"{by} says so")] if fleet.suspect else []
    return replace(fleet, npus=npus, suspect=""), told


def _cards(states: list[NpuState]) -> int:
    """The chips of one card share what breaks."""
    return len({state.npu.card_id for state in states if state.npu is not None})


def _suspect(
    fleet: Fleet, hit: list[NpuState], since: float, number: int
) -> tuple[Fleet, list[SuspectHost | TrustHost | Release]]:
    """The first ones of these minutes were set aside for what was wrong with the host. That their
    instances were stopped still counts: a restart is a restart."""
    reason = f"{len(hit)} of {number} NPUs failed at once"
    decisions: list[SuspectHost | TrustHost | Release] = [SuspectHost(reason)]
    for state in hit:
        aside = state.quarantine
        if aside is not None and aside.by == AGENT and aside.since >= since:
            fleet = fleet.with_npu(replace(state, quarantine=None))
            decisions.append(Release(state.logic_id, "the host is suspected, not this NPU"))
    return replace(fleet, suspect=reason), decisions
