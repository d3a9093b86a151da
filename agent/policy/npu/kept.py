# SPDX-License-Identifier: MulanPSL-2.0
"""What of the fleet outlives the agent, and how its time goes on. Pure.

Counted seconds go on over an absence by what the wall clock says of it, at least 0 and at most a
day: nobody can tell a long absence from a clock that was set. A host that was really off for a week
has its NPUs set aside for six days more than promised; one whose clock jumps by ten years, too.
"""

from dataclasses import dataclass, replace

from agent.config.faults import DAY_S
from agent.policy.npu.state import Act, Fleet, Followed, NpuState, Quarantine

# Written no more often than this because of the time alone.
STEP_S = 900.0


@dataclass(frozen=True, slots=True)
class NpuMemory:
    """Of one NPU."""

    logic_id: int
    quarantine: Quarantine | None = None
    acts: tuple[Act, ...] = ()
    tries: int = 0
    faults: tuple[Followed, ...] = ()  # those that were acted upon, or pardoned, and are not over
    lost: str = ""  # why no plan waits for it


@dataclass(frozen=True, slots=True)
class FleetMemory:
    """Of all of them. `counted_s` was the time when the wall clock was at `wall`."""

    counted_s: float = 0.0
    wall: float = 0.0
    suspect: str = ""
    npus: tuple[NpuMemory, ...] = ()


def remember_fleet(fleet: Fleet, now: float, wall: float) -> FleetMemory:
    """`now` is monotonic, `wall` in seconds since the epoch. Empty while there is nothing to be
    remembered."""
    found = (_of(state) for state in fleet.npus)
    npus = tuple(one for one in found if one != NpuMemory(one.logic_id))
    if not npus and not fleet.suspect:
        return FleetMemory()
    at = fleet.base + now
    counted_s = at // STEP_S * STEP_S
    return FleetMemory(counted_s, round(wall - (at - counted_s)), fleet.suspect, npus)


def recall_fleet(memory: FleetMemory, now: float, wall: float) -> Fleet:
    """The fleet as it was, before anything has been seen. A reset may have been under way."""
    at = memory.counted_s + min(max(0.0, wall - memory.wall), DAY_S + STEP_S)
    npus = tuple(_recall(one, at) for one in memory.npus)
    tried = any(state.tries for state in npus)
    return Fleet(
        tuple(sorted(npus, key=lambda state: state.logic_id)),
        reset_ended_at=at if tried else None,
        suspect=memory.suspect,
        base=at - now,
    )


def _of(state: NpuState) -> NpuMemory:
    faults = (
        replace(fault, listed=False, gone_since=None)
        for fault in state.faults
        if fault.acted_at is not None or fault.pardoned
    )
    tries = max(0, state.tries)
    return NpuMemory(state.logic_id, state.quarantine, state.acts, tries, tuple(faults), state.lost)


def _recall(memory: NpuMemory, at: float) -> NpuState:
    """Nothing lies in the future, whatever the file says."""
    aside = memory.quarantine
    if aside is not None:
        gone_since = None if aside.gone_since is None else min(at, aside.gone_since)
        aside = replace(aside, since=min(at, aside.since), gone_since=gone_since)
    return NpuState(
        memory.logic_id,
        faults=tuple(_until(fault, at) for fault in memory.faults),
        acts=tuple(replace(act, at=min(at, act.at)) for act in memory.acts),
        quarantine=aside,
        tries=memory.tries,
        busy=int(bool(memory.lost)),  # its reset is most likely as impossible as it was
        lost=memory.lost,
    )


def _until(fault: Followed, at: float) -> Followed:
    acted_at = None if fault.acted_at is None else min(at, fault.acted_at)
    return replace(fault, since=min(at, fault.since), acted_at=acted_at)
