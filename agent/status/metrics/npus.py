# SPDX-License-Identifier: MulanPSL-2.0
"""Of the NPUs."""

from collections.abc import Iterator
from dataclasses import dataclass

from agent.model import DriverState, NpuHealth
from agent.status.metrics.exposition import Family, Kind, Sample, one_of, sample
from agent.status.snapshot import NpuView, Snapshot

HEALTHY, ILL, UNKNOWN = "healthy", "ill", "unknown"
MIB = 2**20


@dataclass(frozen=True, slots=True)
class NpuSeen:
    """An NPU, and what of it is known now."""

    view: NpuView
    is_told: bool  # the driver tells of it; else what it measures is old
    is_asked: bool  # the driver answers; else nobody knows whether it is there
    holder: str  # the instance that has it; empty: none, or nobody knows


def see(snapshot: Snapshot) -> Iterator[NpuSeen]:
    told = {npu.logic_id for npu in snapshot.inventory.npus}
    asked = snapshot.inventory.driver is DriverState.READY
    for view in snapshot.npus:
        holder = view.instance if snapshot.systemd_problem is None else ""
        yield NpuSeen(view, view.logic_id in told, asked, holder)


def _info(seen: NpuSeen) -> Iterator[Sample]:
    view = seen.view
    if view.card_id >= 0:
        yield from sample(
            1,
            npu=view.logic_id,
            card=view.card_id,
            chip=view.chip_id,
            product=view.product,
            bus_id=view.bus_id,
        )


def _present(seen: NpuSeen) -> Iterator[Sample]:
    if seen.is_asked:
        yield from sample(seen.view.device_present, npu=seen.view.logic_id)


def _usable(seen: NpuSeen) -> Iterator[Sample]:
    if seen.is_asked:
        yield from sample(not seen.view.unfit, npu=seen.view.logic_id)


def _health(view: NpuView) -> str:
    match view.health:
        case NpuHealth.OK:
            return HEALTHY
        case NpuHealth.UNKNOWN:
            return UNKNOWN
        case NpuHealth.WARNING | NpuHealth.ALARM | NpuHealth.CRITICAL:
            return ILL


def _faults(seen: NpuSeen) -> Iterator[Sample]:
    """A code may come more than once, and a series must not."""
    counting = [one for one in seen.view.faults if one.present and one.counts]
    for code, level in dict.fromkeys((one.code, one.level) for one in counting):
        yield from sample(1, npu=seen.view.logic_id, code=code, level=level)


def _instance(seen: NpuSeen) -> Iterator[Sample]:
    if seen.holder:
        yield from sample(1, name=seen.holder, npu=seen.view.logic_id)


def _memory_size(seen: NpuSeen) -> Iterator[Sample]:
    yield from sample(_bytes(seen, seen.view.memory_mib), npu=seen.view.logic_id)


def _memory_used(seen: NpuSeen) -> Iterator[Sample]:
    yield from sample(_bytes(seen, seen.view.memory_used_mib), npu=seen.view.logic_id)


def _bytes(seen: NpuSeen, mib: int) -> int | None:
    """The driver says nothing of memory where it says no size."""
    return mib * MIB if seen.is_told and seen.view.memory_mib else None


def _temperatures(seen: NpuSeen) -> Iterator[Sample]:
    readings, npu = seen.view.readings, seen.view.logic_id
    yield from sample(readings.temperature_c, npu=npu, sensor="chip")
    yield from sample(readings.hbm_temperature_c, npu=npu, sensor="hbm")


def _ecc(seen: NpuSeen) -> Iterator[Sample]:
    readings, npu = seen.view.readings, seen.view.logic_id
    yield from sample(readings.ecc_single, npu=npu, bits="single")
    yield from sample(readings.ecc_double, npu=npu, bits="double")


def _utilization(seen: NpuSeen) -> Iterator[Sample]:
    percent = seen.view.readings.utilization_percent
    yield from sample(None if percent is None else percent / 100, npu=seen.view.logic_id)


NPUS: tuple[Family[NpuSeen], ...] = (
    Family("npu_info", Kind.GAUGE, "An NPU, by the number of /dev/davinciN.", _info),
    Family(
        "npu_present", Kind.GAUGE, "It has a device node, and the driver tells of it.", _present
    ),
    Family(
        "npu_health",
        Kind.GAUGE,
        "By the driver's word; ill: warning, alarm or critical.",
        lambda seen: one_of(
            (HEALTHY, ILL, UNKNOWN), _health(seen.view), "state", npu=seen.view.logic_id
        ),
    ),
    Family("npu_fault", Kind.GAUGE, "A fault that is there, and is a reason to act.", _faults),
    Family(
        "npu_quarantined",
        Kind.GAUGE,
        "It is set aside: no plan takes it.",
        lambda seen: sample(seen.view.quarantine is not None, npu=seen.view.logic_id),
    ),
    Family("npu_usable", Kind.GAUGE, "A plan may take it now.", _usable),
    Family(
        "npu_resets",
        Kind.GAUGE,
        "Resets since it was last well.",
        lambda seen: sample(seen.view.resets, npu=seen.view.logic_id),
    ),
    Family("instance_npu", Kind.GAUGE, "An instance has this NPU.", _instance),
    Family("npu_temperature_celsius", Kind.GAUGE, "Of the chip, and of its memory.", _temperatures),
    Family(
        "npu_power_watts",
        Kind.GAUGE,
        "What it takes.",
        lambda seen: sample(seen.view.readings.power_w, npu=seen.view.logic_id),
    ),
    Family("npu_utilization_ratio", Kind.GAUGE, "Of its AI cores.", _utilization),
    Family("npu_memory_size_bytes", Kind.GAUGE, "Its memory.", _memory_size),
    Family("npu_memory_used_bytes", Kind.GAUGE, "What of that is used.", _memory_used),
    Family(
        "npu_ecc_errors_total",
        Kind.COUNTER,
        "Errors of its memory: single bits are mended, double ones are not.",
        _ecc,
    ),
    Family(
        "npu_isolated_pages",
        Kind.GAUGE,
        "Pages of its memory that are not used any more.",
        lambda seen: sample(seen.view.readings.isolated_pages, npu=seen.view.logic_id),
    ),
)
