# SPDX-License-Identifier: MulanPSL-2.0
"""Has written down what can be seen of an engine that does not work, or has died. Raises nothing
that is ours: what follows must not fail with it, nor wait for it longer than its deadline.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from agent.errors import Failure
from agent.model import Inventory, Npu
from agent.ports import Evidence, EvidenceNotes, NpuDriver

# The bound of all of it: the engine stays hung meanwhile.
EXAMINE_DEADLINE_S = 5.0
# npud answers within milliseconds, unless the driver hangs: then what is known is noted.
NPUS_DEADLINE_S = 0.5


@dataclass(frozen=True, slots=True)
class Patient:
    """An engine that is about to be ended, or has ended."""

    instance: str
    failure: Failure  # what is wrong with it
    container_id: str  # empty: not known
    metrics: str  # its counters, when they were read last
    npus: tuple[int, ...]  # logic ids


async def examine(
    patient: Patient, npud: NpuDriver, inventory: Callable[[], Inventory], evidence: Evidence
) -> str | None:
    """The file, or None when there is none."""
    with suppress(TimeoutError):
        async with asyncio.timeout(NPUS_DEADLINE_S):
            await npud.refresh()
    notes = EvidenceNotes(
        f"{patient.failure.code}: {patient.failure.message}",
        patient.container_id,
        patient.metrics,
        describe_npus(inventory(), patient.npus),
    )
    deadline_s = EXAMINE_DEADLINE_S - NPUS_DEADLINE_S
    return await evidence.gather(patient.instance, notes, deadline_s)


def describe_npus(inventory: Inventory, npus: tuple[int, ...]) -> str:
    """The driver's word on the NPUs of an engine; on all of them where it is not known which."""
    head = f"driver {inventory.driver} {inventory.driver_version} {inventory.detail}".rstrip()
    chips = [npu for npu in inventory.npus if not npus or npu.logic_id in npus]
    return "\n".join((head, *(line for npu in chips for line in _lines(npu))))


def _lines(npu: Npu) -> Iterator[str]:
    there = "" if npu.device_present else ", device node gone"
    reason = f" ({npu.reason})" if npu.reason else ""
    yield f"NPU {npu.logic_id} {npu.product}: {npu.health}{reason}{there}"
    seen = npu.readings
    yield (
        f"  memory {npu.memory_used_mib}/{npu.memory_mib} MiB, "
        f"AI core {seen.utilization_percent} %, {seen.temperature_c} C, "
        f"HBM {seen.hbm_temperature_c} C, {seen.power_w} W"
    )
    for fault in npu.faults:
        yield f"  fault {fault.code} {fault.severity} {fault.text}"
    for process in npu.processes:
        yield f"  process {process.pid} {process.name} {process.memory_mib} MiB"
