# SPDX-License-Identifier: MulanPSL-2.0
"""All that the writer knows, as the snapshot that others see."""

import time
from dataclasses import dataclass

from agent import __version__
from agent.config.values import Config
from agent.control.npu_desk import NpuDesk
from agent.control.npu_views import build_npu_views
from agent.control.record import build_view
from agent.control.roster import Roster
from agent.errors import Failure
from agent.status.snapshot import SCHEMA, DiskView, EventView, Snapshot


@dataclass(frozen=True, slots=True)
class Shown:
    """Of the agent itself."""

    config: Config
    config_problem: Failure | None
    systemd_problem: Failure | None
    started_at: float  # seconds since the epoch
    events: tuple[EventView, ...]
    disks: tuple[DiskView, ...]
    prunable_bytes: int | None
    without_profile: tuple[str, ...]


def build_snapshot(shown: Shown, roster: Roster, desk: NpuDesk) -> Snapshot:
    """As it is now."""
    now, wall = time.monotonic(), time.time()
    config = shown.config
    return Snapshot(
        schema=SCHEMA,
        version=__version__,
        mode=config.mode,
        at=wall,
        started_at=shown.started_at,
        inventory=desk.inventory,
        instances=tuple(build_view(record, desk.inventory, now, wall) for record in roster),
        config_problem=shown.config_problem,
        broken=tuple(f"{one.name}: {one.message}" for one in config.broken),
        events=shown.events,
        systemd_problem=shown.systemd_problem,
        npus=build_npu_views(
            desk.fleet, desk.inventory, desk.unfit, desk.rules, roster.holders(), now, wall
        ),
        host_suspect=desk.fleet.suspect,
        faults_problem=tuple(one.message for one in config.faults.broken),
        disks=shown.disks,
        prunable_bytes=shown.prunable_bytes,
        without_profile=shown.without_profile,
    )
