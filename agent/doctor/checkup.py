# SPDX-License-Identifier: MulanPSL-2.0
"""All that was seen of a host, as checks take it. A value."""

from dataclasses import dataclass
from datetime import UTC, datetime

from agent.config.values import Config, Profile
from agent.disks import DiskFacts
from agent.doctor.looks import (
    Clock,
    DriverFiles,
    Firmware,
    Kernel,
    ModelFiles,
    Reached,
    Seen,
    Selinux,
)
from agent.facts import Facts, FileFacts, ModelFacts, PodmanStore, PodmanSurvey
from agent.model import Inventory, UnitStatus
from agent.status.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Patient:
    """One model that is asked about."""

    name: str
    profile: Seen[Profile]
    model: Seen[ModelFacts]
    files: Seen[ModelFiles]
    keys: Seen[tuple[FileFacts, ...]]
    room: tuple[Seen[DiskFacts], ...]  # for what has to be fetched: the model's place, the image's
    sources: Seen[tuple[Reached, ...]]  # where what is missing would come from


@dataclass(frozen=True, slots=True)
class Checkup:
    """What was seen of the host, and of the models that are asked about."""

    version: str  # of what is installed
    is_root: bool
    python: tuple[int, int, int]
    kernel: Seen[Kernel]
    selinux: Seen[Selinux]
    clock: Seen[Clock]
    systemd: Seen[int]  # its version
    driver: Seen[DriverFiles]
    inventory: Seen[Inventory]
    firmware: Seen[tuple[Firmware, ...]]
    open_nodes: Seen[tuple[tuple[int, str], ...]]  # NPUs, and words about who has each open
    podman: Seen[tuple[int, int, int]]
    quadlet: Seen[bool]  # its generator is there
    survey: Seen[PodmanSurvey]
    store: Seen[PodmanStore]
    disks: Seen[tuple[DiskFacts, ...]]
    config: Seen[Config]
    facts: Seen[Facts]
    units: Seen[tuple[UnitStatus, ...]]
    snapshot: Seen[Snapshot]  # of the agent
    patients: tuple[Patient, ...]

    def unit(self, name: str) -> UnitStatus | None:
        """None when it was not seen, or systemd does not know it."""
        found = find_unit(self.units, name)
        return None if found is None or found.load_state == "not-found" else found


def find_unit(units: Seen[tuple[UnitStatus, ...]], name: str) -> UnitStatus | None:
    seen = units if isinstance(units, tuple) else ()
    return next((one for one in seen if one.name == name), None)


def day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")
