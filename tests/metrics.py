# SPDX-License-Identifier: MulanPSL-2.0
"""Two hosts as monitoring sees them, one healthy and one broken in every way that there is."""

import sys
from pathlib import Path

import pytest

from agent.control.npu_views import build_npu_views
from agent.errors import Code, Failure
from agent.facts import OwnProcess
from agent.model import DriverState, EngineWork, Hold, NpuHealth, NpuReadings, Phase
from agent.status.snapshot import (
    DiskView,
    FetchView,
    InstanceView,
    NpuView,
    Snapshot,
    UndoneView,
    UpdateView,
)
from agent.supplies import Item, Progress, Stage, Supply
from tests.build import build_inventory, build_snapshot, build_view
from tests.npus import Host

# Put beside Python by tests/prepare, out of Debian's package prometheus.
PROMTOOL = str(Path(sys.executable).with_name("promtool"))
needs_promtool = pytest.mark.skipif(
    not Path(PROMTOOL).exists(), reason="no promtool here: a build root of the package has none"
)
NOW = 1_700_000_090.0
GIB = 2**30
OWN = OwnProcess(12.5, 48 * 2**20)
COLD = NpuReadings(
    temperature_c=45,
    power_w=96.5,
    utilization_percent=12,
    memory_percent=5,
    hbm_temperature_c=41,
    ecc_single=2,
    ecc_double=0,
    isolated_pages=0,
)
WORK = EngineWork(3, 0, 1_250_000, 98_765_432, 4_321, 7, 0.25, 4_324, 1_081.5)
SUPPLY = Supply("quay.io/i:t", "0" * 64, "", "/var/lib/deepseek/models/m", "r1", 1_699_000_000.0)


def npu_views(host: Host, holders: dict[int, str]) -> tuple[NpuView, ...]:
    inventory = build_inventory(host.npus.values(), source="dcmi")
    unfit = host.unfit().values()
    return build_npu_views(host.fleet, inventory, unfit, host.rules, holders, host.now, NOW)


def build_healthy() -> Snapshot:
    """Two instances of which one serves, two NPUs."""
    host = Host.of(2)
    host.set(0, readings=COLD)
    host.set(1, readings=COLD)
    serving = build_view(work=WORK, update=UpdateView(False, SUPPLY, None, None, None, None, 0.0))
    return build_snapshot(
        serving,
        build_view(Phase.IDLE, name="14b", served_name="deepseek-r1:14b", npus=()),
        inventory=build_inventory(host.npus.values(), source="dcmi"),
        npus=npu_views(host, {0: "8b"}),
        disks=(DiskView("/var/lib/deepseek", 500 * GIB, 900 * GIB, False, 20 * GIB),),
        prunable_bytes=0,
    )


def build_broken() -> Snapshot:
    """What hurts, all at once."""
    host = Host.of(4)
    host.break_(0, "80E18402", health=NpuHealth.CRITICAL, readings=COLD)
    host.set(1, device_present=False, health=NpuHealth.UNKNOWN, memory_mib=0, reason="-8012")
    host.set(2, health=NpuHealth.WARNING, memory_mib=0)
    host.later(30)
    views = npu_views(host, {2: "8b", 3: 'odd "name"\\'})
    return build_snapshot(
        *broken_instances(),
        inventory=build_inventory(host.npus.values(), source="dcmi"),
        config_problem=Failure(Code.CONFIG_INVALID, "cannot use agent.toml", "correct it"),
        npus=views,
        mode="observe",
        broken=("7b: port: too big",),
        without_profile=("8bb",),
        faults_problem=("faults.d/a.toml: not TOML",),
        host_suspect="3 of 4 NPUs failed within 300 s",
        disks=(DiskView("/var/lib/deepseek", 12 * GIB, 900 * GIB, True, 20 * GIB),),
        prunable_bytes=7 * GIB,
    )


def broken_instances() -> tuple[InstanceView, ...]:
    undone = UndoneView(NOW - 60, SUPPLY, Failure(Code.ENGINE_DIED, "x"))
    hurt = build_view(
        trouble=Failure(Code.PORT_CUT, "cannot reach it"),
        degraded="2 NPUs instead of 4",
        restarts=5,
        failures=2,
        restart_pending=True,
        certificate_expires_at=NOW + 86_400,
        hold=Hold(NOW - 60, "root", "a new fan"),
        update=UpdateView(False, SUPPLY, SUPPLY, SUPPLY, NOW + 600, undone, 0.0),
    )
    fetching = build_view(
        Phase.FETCHING,
        name="14b",
        npus=(),
        fetch=FetchView(
            NOW - 60, Progress(Item.MODEL, Stage.FETCHING, "hub", 7 * GIB, 16 * GIB), 100
        ),
    )
    held = build_view(
        Phase.HELD,
        name='odd "name"\\',
        failure=Failure(Code.IMAGE_MISSING, "cannot run it: the image is not there"),
        fetch=FetchView(NOW - 60, Progress(Item.IMAGE, Stage.ASKING), None),
        model="/srv/line\nbreak",
    )
    refused = build_view(Phase.IDLE, name="7b", npus=(), refused=True)
    return hurt, fetching, held, refused


def build_blind() -> Snapshot:
    """systemd does not answer, npud is silent."""
    host = Host.of(1)
    host.break_(0, "80E18402")
    silent = build_inventory([], driver=DriverState.UNKNOWN, detail="npud: gone", source="")
    views = build_npu_views(host.fleet, silent, (), host.rules, {0: "8b"}, host.now, NOW)
    return build_snapshot(
        build_view(work=WORK),
        inventory=silent,
        npus=views,
        systemd_problem=Failure(Code.SYSTEMD_UNAVAILABLE, "cannot ask systemd"),
    )
