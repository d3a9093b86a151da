# SPDX-License-Identifier: MulanPSL-2.0
"""Notices memory of a chip that stays in use though no process uses any: readings come in, a fault
of npud's own goes out. Pure: time is an argument.

An engine that was killed may leave that behind (facts: serving-health, vllm-ascend #9888), and the
next one finds too little. What is being given back is waited for, what moves is used, and so is a
chip whose device node is open: not every driver lists the processes of containers.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from agent.model import MEMORY_LEFT, FaultSeverity, Inventory, Npu, NpuFault

LASTS_S = 60.0
# Between two readings of a chip that nobody uses there are a few MiB.
STILL_MIB = 64


@dataclass(frozen=True, slots=True)
class _Seen:
    """Since the first of the readings that say the same."""

    used_mib: int
    since: float  # monotonic
    fault: NpuFault
    lasts: bool = False


# Of the chips that a process has open, by logic id; None: nobody knows.
FindOpen = Callable[[], Collection[int] | None]


class LeftMemory:
    def __init__(self, find_open: FindOpen) -> None:
        self._find_open = find_open  # asked only when it matters
        self._seen: dict[int, _Seen] = {}

    def take(self, account: Inventory, now: float, clock: float) -> None:
        """A full reading; what it does not say about a chip begins anew."""
        self._seen = {
            npu.logic_id: self._look(npu, now, clock) for npu in account.npus if _is_left(npu)
        }
        lasting = {number for number, seen in self._seen.items() if seen.lasts}
        if lasting:
            found = self._find_open()
            for number in lasting if found is None else lasting.intersection(found):
                self._seen[number] = replace(self._seen[number], lasts=False)

    def mark(self, account: Inventory) -> Inventory:
        """With the fault, on chips where it still is so."""
        return replace(account, npus=tuple(self._mark(npu) for npu in account.npus))

    def _look(self, npu: Npu, now: float, clock: float) -> _Seen:
        seen = self._seen.get(npu.logic_id)
        if seen is None or abs(npu.memory_used_mib - seen.used_mib) > STILL_MIB:
            return _Seen(npu.memory_used_mib, now, _fault(npu, clock))
        return replace(seen, lasts=now - seen.since >= LASTS_S)

    def _mark(self, npu: Npu) -> Npu:
        seen = self._seen.get(npu.logic_id)
        if seen is None or not seen.lasts or not _is_left(npu):
            return npu
        return replace(npu, faults=(seen.fault, *npu.faults))


def _is_left(npu: Npu) -> bool:
    return npu.has_memory_left() and not npu.readings.utilization_percent


def _fault(npu: Npu, clock: float) -> NpuFault:
    """Minor: where no file says more about the code, it is an event."""
    used, size = npu.memory_used_mib, npu.memory_mib
    text = f"{used} of {size} MiB are used, and the driver lists no process"
    return NpuFault(MEMORY_LEFT, FaultSeverity.MINOR, text, round(clock, 3))
