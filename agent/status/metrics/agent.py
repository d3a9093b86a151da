# SPDX-License-Identifier: MulanPSL-2.0
"""Of the agent and its host."""

from collections.abc import Iterator

from agent.facts import OwnProcess
from agent.model import DriverState
from agent.status.metrics.exposition import Family, Kind, Sample, one_of, sample
from agent.status.snapshot import Snapshot

MODES = ("act", "observe")


def _driver_info(seen: Snapshot) -> Iterator[Sample]:
    inventory = seen.inventory
    if inventory.driver is DriverState.READY:
        yield from sample(1, version=inventory.driver_version, source=inventory.source)


def _npus(seen: Snapshot) -> Iterator[Sample]:
    """A silent npud is no host without NPUs."""
    if seen.inventory.driver in (DriverState.READY, DriverState.ABSENT):
        yield from sample(sum(npu.device_present for npu in seen.inventory.npus))


def _without_profile(seen: Snapshot) -> Iterator[Sample]:
    for name in seen.without_profile:
        yield from sample(1, name=name)


def _disk_free(seen: Snapshot) -> Iterator[Sample]:
    for disk in seen.disks:
        yield from sample(disk.free_bytes, path=disk.path)


def _disk_size(seen: Snapshot) -> Iterator[Sample]:
    for disk in seen.disks:
        yield from sample(disk.size_bytes, path=disk.path)


def _disk_mark(seen: Snapshot) -> Iterator[Sample]:
    for disk in seen.disks:
        yield from sample(disk.low_below_bytes, path=disk.path)


def _disk_low(seen: Snapshot) -> Iterator[Sample]:
    for disk in seen.disks:
        yield from sample(disk.low, path=disk.path)


AGENT: tuple[Family[Snapshot], ...] = (
    Family("up", Kind.GAUGE, "The agent answers.", lambda seen: sample(1)),
    Family(
        "info",
        Kind.GAUGE,
        "The agent's version.",
        lambda seen: sample(1, version=seen.version),
    ),
    Family(
        "mode",
        Kind.GAUGE,
        "Whether it acts, or only watches.",
        lambda seen: one_of(MODES, seen.mode, "mode"),
    ),
    Family(
        "snapshot_timestamp_seconds",
        Kind.GAUGE,
        "When these numbers were put together; every 5 s at least.",
        lambda seen: sample(seen.at),
    ),
    Family(
        "config_in_force",
        Kind.GAUGE,
        "The files of the configuration are in force as they are on the disk.",
        lambda seen: sample(seen.config_problem is None),
    ),
    Family(
        "profiles_refused",
        Kind.GAUGE,
        "Profiles that cannot be used.",
        lambda seen: sample(len(seen.broken)),
    ),
    Family(
        "instance_without_profile",
        Kind.GAUGE,
        "It is to serve, by systemd, and there is no profile of its name.",
        _without_profile,
    ),
    Family(
        "fault_files_refused",
        Kind.GAUGE,
        "Files about faults of NPUs that cannot be used.",
        lambda seen: sample(len(seen.faults_problem)),
    ),
    Family(
        "systemd_seen",
        Kind.GAUGE,
        "systemd can be asked; while it cannot, nothing is told of instances.",
        lambda seen: sample(seen.systemd_problem is None),
    ),
    Family(
        "driver_state",
        Kind.GAUGE,
        "Whether the Ascend driver answers.",
        lambda seen: one_of(DriverState, seen.inventory.driver, "state"),
    ),
    Family("driver_info", Kind.GAUGE, "The driver, and by what it is asked.", _driver_info),
    Family("npus", Kind.GAUGE, "NPUs with a device node.", _npus),
    Family(
        "host_suspected",
        Kind.GAUGE,
        "Most NPUs failed at once: nothing is done about NPUs.",
        lambda seen: sample(bool(seen.host_suspect)),
    ),
    Family("disk_free_bytes", Kind.GAUGE, "Free, for others than root.", _disk_free),
    Family("disk_size_bytes", Kind.GAUGE, "Size of the file system.", _disk_size),
    Family("disk_low_below_bytes", Kind.GAUGE, "It is low below this.", _disk_mark),
    Family("disk_low", Kind.GAUGE, "There is too little room on it.", _disk_low),
    Family(
        "prunable_bytes",
        Kind.GAUGE,
        "Of models and images that nobody uses, by the latest look.",
        lambda seen: sample(seen.prunable_bytes),
    ),
    Family(
        "process_start_time_seconds",
        Kind.GAUGE,
        "When the agent began.",
        lambda seen: sample(seen.started_at),
    ),
)

PROCESS: tuple[Family[OwnProcess], ...] = (
    Family(
        "process_cpu_seconds_total",
        Kind.COUNTER,
        "CPU time of the agent, without that of its children.",
        lambda own: sample(own.cpu_s),
    ),
    Family(
        "process_resident_memory_bytes",
        Kind.GAUGE,
        "Memory of the agent.",
        lambda own: sample(own.resident_bytes),
    ),
)
