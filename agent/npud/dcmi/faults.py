# SPDX-License-Identifier: MulanPSL-2.0
"""Which faults a chip has: events and queries come in, NpuFaults go out. Pure: time is an argument.

The union of both: an event comes at once but may be lost, a query is complete but late. A code
stays, with the moment it was raised, until an event says that it is over or a query lacks it.
"""

from dataclasses import dataclass, replace

from agent.model import FaultSeverity, NpuFault
from agent.npud.dcmi.messages import (
    FaultTold,
)

ONE_OFF_KEPT_S = 60.0
# A query this soon after an event may have been answered before the driver's books were right.
EVENT_STANDS_S = 1.0
MAX_REMEMBERED = 4096  # codes; a driver has some hundreds (facts: ascend 2)
MAX_FAULTS = 128  # of one chip: what a query can tell
MAX_CHIPS = 256
CARD_DROP = "40F84E00"  # the number that MindCluster gives it (facts: ascend 2, 3)

OVER, RAISED, ONE_OFF = 0, 1, 2  # an event's assertion
_SEVERITIES = (
    FaultSeverity.HINT,
    FaultSeverity.MINOR,
    FaultSeverity.MAJOR,
    FaultSeverity.CRITICAL,
)
_YEAR_2020 = 1_577_836_800.0
_DAY_S = 86400.0


@dataclass(frozen=True, slots=True)
class _Kept:
    fault: NpuFault
    until: float = float("inf")  # monotonic


class Faults:
    """Of all chips, by logic id: that is what an event names."""

    def __init__(self) -> None:
        self._kept: dict[int, dict[str, _Kept]] = {}
        self._told_at: dict[tuple[int, str], float] = {}  # latest event, monotonic
        self._severities: dict[str, FaultSeverity] = {}

    def of(self, logic_id: int) -> tuple[NpuFault, ...]:
        kept = self._kept.get(logic_id, {})
        return tuple(kept[code].fault for code in sorted(kept))

    def take_event(self, event: FaultTold, now: float, clock: float) -> None:
        """`now` is monotonic, `clock` is the time of day."""
        code = name_of_fault(event.code)
        kept = self._kept.setdefault(event.logic_id, {})
        if event.assertion not in (OVER, RAISED, ONE_OFF):
            return
        if event.assertion != ONE_OFF and len(self._told_at) < MAX_REMEMBERED:
            self._told_at[event.logic_id, code] = event.came_at
        known = code in self._severities or len(self._severities) < MAX_REMEMBERED
        if known and 0 <= event.severity < len(_SEVERITIES):
            self._severities[code] = _SEVERITIES[event.severity]
        if event.assertion == OVER:
            kept.pop(code, None)
            return
        before = kept.get(code)
        if event.assertion == ONE_OFF and before is not None and not before.fault.one_off:
            return  # it lasts already, which is more
        if before is None and len(kept) >= MAX_FAULTS:
            return
        fault = NpuFault(
            code=code,
            severity=self._severities.get(code, FaultSeverity.UNKNOWN),
            text=event.text or (before.fault.text if before else ""),
            raised_at=_raised_at(event.raised_ms, clock),
            one_off=event.assertion == ONE_OFF,
        )
        if before is not None and not before.fault.one_off:
            fault = replace(fault, raised_at=before.fault.raised_at)
        until = now + ONE_OFF_KEPT_S if fault.one_off else float("inf")
        kept[code] = _Kept(fault, until)

    def take_query(
        self, logic_id: int, codes: tuple[tuple[int, str], ...], asked_at: float, clock: float
    ) -> None:
        kept = self._kept.setdefault(logic_id, {})
        told = {name_of_fault(code): text for code, text in codes}
        for code in list(kept):
            stays = kept[code].fault.one_off or self._stands(logic_id, code, asked_at)
            if code not in told and not stays:
                del kept[code]
        for code, text in told.items():
            before = kept.get(code)
            if before is not None and not before.fault.one_off:
                kept[code] = _Kept(replace(before.fault, text=before.fault.text or text))
            elif not self._stands(logic_id, code, asked_at) and len(kept) < MAX_FAULTS:
                severity = self._severities.get(code, FaultSeverity.UNKNOWN)
                kept[code] = _Kept(NpuFault(code, severity, text, round(clock, 3)))
        for key in [key for key in self._told_at if key[0] == logic_id]:
            if not self._stands(*key, asked_at):
                del self._told_at[key]  # the query says as much, and is newer

    def take_drop(self, logic_id: int, clock: float) -> None:
        """The chip dropped off; what it had before is kept, nobody can ask it now."""
        drop = NpuFault(CARD_DROP, FaultSeverity.CRITICAL, "card dropped (-8012)", round(clock, 3))
        self._kept.setdefault(logic_id, {}).setdefault(CARD_DROP, _Kept(drop))

    def end_drop(self, logic_id: int) -> None:
        """It answers again; of what else it has nothing is known."""
        self._kept.get(logic_id, {}).pop(CARD_DROP, None)

    def expire(self, now: float) -> bool:
        """Whether a one-off event has had its time."""
        expired = False
        for kept in self._kept.values():
            for code in [code for code, one in kept.items() if now >= one.until]:
                del kept[code]
                expired = True
        return expired

    def next_at(self) -> float:
        times = (one.until for kept in self._kept.values() for one in kept.values())
        return min(times, default=float("inf"))

    def is_full(self) -> bool:
        """There are faults of more chips than a host can have."""
        return len(self._kept) >= MAX_CHIPS

    def forget(self, logic_id: int) -> None:
        """Another chip has that number now."""
        self._kept.pop(logic_id, None)
        for key in [key for key in self._told_at if key[0] == logic_id]:
            del self._told_at[key]

    def forget_all(self) -> None:
        """The driver went away: what comes back begins anew. Severities stay true."""
        self._kept.clear()
        self._told_at.clear()

    def _stands(self, logic_id: int, code: str, asked_at: float) -> bool:
        """Whether an event said more recently than the query how it is with this code."""
        return self._told_at.get((logic_id, code), float("-inf")) > asked_at - EVENT_STANDS_S


def name_of_fault(code: int) -> str:
    return f"{code & 0xFFFFFFFF:08X}"


def _raised_at(raised_ms: int, clock: float) -> float:
    seconds = raised_ms / 1000
    return round(seconds if _YEAR_2020 < seconds < clock + _DAY_S else clock, 3)
