# SPDX-License-Identifier: MulanPSL-2.0
"""The page of `deepseekctl npus`: what a worried person reads."""

from dataclasses import replace

from agent.control.npu_views import build_npu_views
from agent.model import (
    DriverState,
    FaultSeverity,
    Inventory,
    NpuFault,
    NpuHealth,
    NpuProcess,
    NpuReadings,
)
from agent.policy.npu.state import Fleet, Quarantine
from agent.status.npus import show_npus
from agent.status.snapshot import npus_answer
from agent.status.verdict import verdict
from tests.build import build_inventory, build_npu, build_snapshot, build_view
from tests.npus import Host, build_rules

NOW = 1_700_000_090.0
READ = NpuReadings(temperature_c=45, power_w=96.5, utilization_percent=12, hbm_temperature_c=41)


def show_host(host: Host, holders: dict[int, str] | None = None, suspect: str = "") -> list[str]:
    inventory = build_inventory(host.npus.values(), source="dcmi")
    unfit = host.unfit().values()
    views = build_npu_views(host.fleet, inventory, unfit, host.rules, holders or {}, host.now, NOW)
    snapshot = build_snapshot(inventory=inventory, npus=views, host_suspect=suspect)
    return show_npus(npus_answer(snapshot), NOW).splitlines()


def test_readings_and_users() -> None:
    host = Host.of(3)
    host.set(0, readings=READ)
    host.set(1, processes=(NpuProcess(4711, "python", 9), NpuProcess(4712, "", 9)))
    lines = show_host(host, {0: "8b"})
    assert lines[0] == "NPU driver 24.1.rc2: ready, by dcmi"
    assert [" ".join(line.split()) for line in lines[2:]] == [
        "NPU product health temp HBM power AI core memory used by",
        "0 910B3 ok 45 °C 41 °C 96.5 W 12 % 3000/65536 MiB 8b",
        "1 910B3 ok - - - - 3000/65536 MiB python (4711), process (4712)",
        "2 910B3 ok - - - - 3000/65536 MiB free",
    ]
    assert len({line.index("910B3") for line in lines[3:]}) == 1  # in columns


def test_a_fault_is_explained() -> None:
    host = Host.of(3)
    host.break_(1, "80E18402", health=NpuHealth.CRITICAL)
    host.later(30)
    lines = [line.strip() for line in show_host(host)]
    assert lines[5] == "set aside by agent 30 s ago; used again 7 d 0 h after its fault"
    assert lines[6].startswith("80E18402 HBM: isolated rows have reached the limit of 64 (Separate")
    assert lines[6].endswith("- text of 80E18402")
    assert lines[7] == "Have the NPU replaced, then: deepseekctl quarantine clear N."
    host.mend(1)
    host.later(3600)
    assert "used again in 6 d 23 h" in show_host(host)[5]


def test_one_that_is_gone_and_one_that_hangs() -> None:
    host = Host.of(3)
    host.set(0, device_present=False)
    host.set(1, health=NpuHealth.UNKNOWN, reason="probe hangs: get_device_health")
    lines = [" ".join(line.split()) for line in show_host(host)]
    assert lines[3].startswith("0 910B3 gone")
    assert lines[4] == "/dev/davinci0 does not exist"
    assert "unknown: probe hangs: get_device_health" in lines


def test_a_person_set_it_aside() -> None:
    host = Host.of(1)
    aside = Quarantine("smoke", host.now, "root")
    host.fleet = host.fleet.with_npu(replace(host.fleet.of(0), quarantine=aside))
    assert show_host(host)[-1].strip() == (
        "set aside by root 0 s ago: smoke; until: deepseekctl quarantine clear 0"
    )


def test_a_suspected_host() -> None:
    lines = show_host(Host.of(1), suspect="8 of 8 NPUs failed at once")
    assert lines[1].startswith("the host is suspected: 8 of 8 NPUs failed at once")
    assert lines[2].strip() == "once it is well: deepseekctl quarantine clear host"


def test_a_driver_that_is_gone_leaves_what_is_remembered() -> None:
    """Nothing is said of today about NPUs that nobody sees."""
    host = Host.of(1)
    host.break_(0, "80E18402")
    views = build_npu_views(host.fleet, Inventory("absent"), (), build_rules(), {}, host.now, NOW)  # type: ignore[arg-type]
    (view,) = views
    assert (view.health, view.device_present) == (NpuHealth.UNKNOWN, False)
    assert view.quarantine is not None
    assert view.readings == NpuReadings()


def test_a_silent_npud_makes_nothing_gone() -> None:
    host = Host.of(2)
    silent = Inventory(DriverState.UNKNOWN, detail="npud has said nothing for 16 s")
    views = build_npu_views(host.fleet, silent, (), build_rules(), {}, host.now, NOW)
    assert [(view.health, view.device_present) for view in views] == [(NpuHealth.UNKNOWN, True)] * 2
    row = verdict(build_snapshot(build_view(), inventory=silent, npus=views))
    assert (row.label, row.text) == ("serving, but: ", "NPU driver unknown")


def test_nothing_is_known_yet_but_what_was_kept() -> None:
    aside = Quarantine("smoke", 0.0, "root")
    fleet = Fleet()
    fleet = fleet.with_npu(replace(fleet.of(5), quarantine=aside))
    (view,) = build_npu_views(fleet, build_inventory(0), (), build_rules(), {}, 10.0, NOW)
    assert (view.logic_id, view.device) == (5, "/dev/davinci5")
    assert view.quarantine is not None
    assert view.quarantine.since == NOW - 10


def test_the_severity_and_age_of_a_fault() -> None:
    host = Host.of(1)
    fault = NpuFault("80E01809", FaultSeverity.MINOR, "words", NOW - 7200)
    host.npus[0] = build_npu(0, faults=(fault,))
    host.see()
    assert "(NotHandle, minor), for 2 h 0 min - words" in show_host(host)[-1]
