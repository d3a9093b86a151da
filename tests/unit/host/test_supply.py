# SPDX-License-Identifier: MulanPSL-2.0
"""The unit that brings things: ordered once, followed to its end, also by an agent that comes
later; and what is read of it may be anything."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import pytest

from agent.errors import AgentError, Code, Failure, HostUnavailable
from agent.host.supply import STILL_S, SupplyUnit
from agent.model import JobResult, UnitActive, UnitStatus
from agent.policy.instance import died
from agent.supplies import Item, ModelOrder, Order, Progress, Purpose, Report, Stage
from tests.build import build_front
from tests.scenario.clock import run

ORDER = Order("8b", None, ModelOrder("/var/lib/deepseek/models/m", ()))
OTHER = replace(ORDER, parallel=9)
UNIT = "deepseek-supply@8b.service"
HALF = Progress(Item.MODEL, Stage.FETCHING, "hub.example", 5, 10, 2.0, at=1.0)
WHOLE = replace(HALF, done_bytes=10)
REPORT = Report(None, model_revision="abc", at=2.0)


@dataclass
class Units:
    """systemd; `script` is what the program does, a step each time it is looked at."""

    folder: Path
    unit: str = UNIT
    stem: str = "8b"
    script: list[Callable[[], None]] = field(default_factory=list)
    active: UnitActive = UnitActive.INACTIVE
    result: JobResult = JobResult.DONE
    jobs: list[str] = field(default_factory=list)
    bus_is_away: int = 0

    def write(self, kind: str, value: object) -> Callable[[], None]:
        def step() -> None:
            (self.folder / f"{self.stem}.{kind}.json").write_bytes(msgspec.json.encode(value))

        return step

    def ends(self) -> None:
        self.active = UnitActive.INACTIVE

    async def status(self, unit: str) -> UnitStatus:
        assert unit == self.unit
        if self.bus_is_away:
            self.bus_is_away -= 1
            raise HostUnavailable(Code.SYSTEMD_UNAVAILABLE, "the bus is gone")
        if self.active.is_up() and self.script:
            self.script.pop(0)()
        return replace(build_front(self.active), name=unit)

    async def start(self, unit: str, deadline_s: float) -> JobResult:
        self.jobs.append("start")
        assert json.loads((self.folder / f"{self.stem}.order.json").read_text())["instance"] == "8b"
        if self.result is JobResult.DONE:
            self.active = UnitActive.ACTIVE
        return self.result

    async def stop(self, unit: str, deadline_s: float) -> JobResult:
        self.jobs.append("stop")
        self.active = UnitActive.FAILED
        return JobResult.DONE

    async def reset_failed(self, unit: str) -> None:
        self.jobs.append("forget")

    async def reload(self) -> None:
        raise NotImplementedError


@pytest.fixture
def units(tmp_path: Path) -> Units:
    return Units(tmp_path)


def bring(units: Units, order: Order = ORDER) -> tuple[Report, list[Progress]]:
    told: list[Progress] = []
    supplier = SupplyUnit(units, units.folder, look_every_s=0.0)
    return run(supplier.bring(order, told.append)), told


def test_an_order_is_followed_to_its_report(units: Units) -> None:
    units.script = [
        units.write("progress", HALF),
        units.write("progress", HALF),
        units.write("progress", WHOLE),
        units.write("report", REPORT),
        units.ends,
    ]
    assert bring(units) == (REPORT, [HALF, WHOLE])
    assert units.jobs == ["start"]


def test_a_report_of_an_earlier_order_is_none_of_this(units: Units) -> None:
    units.write("report", REPORT)()
    units.write("progress", WHOLE)()
    units.script = [units.ends]
    with pytest.raises(AgentError) as caught:
        bring(units)
    assert caught.value.failure.code is Code.SOURCE_UNREACHABLE
    assert UNIT in caught.value.failure.hint


def test_a_new_agent_follows_what_is_under_way(units: Units) -> None:
    units.write("order", ORDER)()
    units.active = UnitActive.ACTIVE
    units.script = [units.write("progress", HALF), units.write("report", REPORT), units.ends]
    assert bring(units) == (REPORT, [HALF])
    assert units.jobs == []


def test_another_order_takes_its_place(units: Units) -> None:
    units.write("order", OTHER)()
    units.active = UnitActive.ACTIVE
    units.script = [lambda: None, lambda: None, units.write("report", REPORT), units.ends]
    assert bring(units)[0] == REPORT
    assert units.jobs == ["stop", "forget", "start"]
    assert msgspec.json.decode((units.folder / "8b.order.json").read_bytes(), type=Order) == ORDER


def test_without_the_bus_it_goes_on(units: Units) -> None:
    def lose_bus() -> None:
        units.bus_is_away = 3

    units.script = [lose_bus, units.write("report", REPORT), units.ends]
    assert bring(units)[0] == REPORT
    assert units.jobs == ["start"]


@pytest.mark.parametrize("text", [b"", b"{", b"[" * 100_000, b"[]", b'{"item": "x"}', b"\xff"])
def test_what_makes_no_sense_is_passed_over(units: Units, text: bytes) -> None:
    def damage() -> None:
        (units.folder / "8b.progress.json").write_bytes(text)

    units.script = [damage, units.write("report", REPORT), units.ends]
    assert bring(units) == (REPORT, [])


def test_a_failure_comes_in_the_report(units: Units) -> None:
    report = Report(Failure(Code.DISK_TOO_FULL, "cannot fetch it: full", "make room"))
    units.script = [units.write("report", report), units.ends]
    assert bring(units)[0] == report


@pytest.mark.parametrize("result", sorted(set(JobResult) - {JobResult.DONE}))
def test_a_unit_that_cannot_be_started(units: Units, result: JobResult) -> None:
    """No engine has ended by that: no log of one tells more, and no update is undone."""
    units.result = result
    with pytest.raises(AgentError) as caught:
        bring(units)
    assert caught.value.failure.code is Code.JOB_NOT_RUN
    assert not died(caught.value.failure)
    assert units.jobs == ["start", "forget"]


def test_an_end(units: Units) -> None:
    supplier = SupplyUnit(units, units.folder)
    run(supplier.end("8b"))
    assert units.jobs == []
    units.active = UnitActive.ACTIVE
    run(supplier.end("8b"))
    assert units.jobs == ["stop", "forget"]


def test_a_switch_does_not_wait_for_what_is_fetched(tmp_path: Path) -> None:
    units = Units(tmp_path, unit="deepseek-switch@8b.service", stem="8b@switch")
    order = replace(ORDER, purpose=Purpose.SWITCH, revision="r2")
    units.script = [units.write("report", REPORT), units.ends]
    assert bring(units, order) == (REPORT, [])
    assert units.jobs == ["start"]
    assert not (tmp_path / "8b.order.json").exists()


PULL = Progress(Item.IMAGE, Stage.FETCHING, "registry.example", 5, 10, 2.0, at=1.0)


@pytest.mark.parametrize(
    ("progress", "pulls"),
    [
        (PULL, True),
        (replace(PULL, stage=Stage.PLACING), True),
        (replace(PULL, stage=Stage.ASKING), False),  # nothing has come that could be lost
        (replace(PULL, source="/var/lib/deepseek/import/a.tar"), False),  # past Podman's service
        (HALF, False),
    ],
)
def test_a_pull_through_podman_s_service_is_told(
    units: Units, progress: Progress, pulls: bool
) -> None:
    supplier = SupplyUnit(units, units.folder)
    assert not run(supplier.is_pulling())
    units.write("progress", progress)()
    assert not run(supplier.is_pulling())  # it is over
    units.active = UnitActive.ACTIVE
    assert run(supplier.is_pulling()) is pulls
    then = time.time() - STILL_S - 1
    os.utime(units.folder / "8b.progress.json", (then, then))
    # To unpack takes its time; bytes that stand still may do so as the service hangs.
    assert run(supplier.is_pulling()) is (pulls and progress.stage is Stage.PLACING)


@pytest.mark.parametrize("name", ["x y", "8b@switch", "../8b", ""])
def test_what_else_lies_there_is_no_pull(units: Units, name: str) -> None:
    path = units.folder / f"{name.replace('/', '_')}.progress.json"
    path.write_bytes(msgspec.json.encode(PULL))
    units.active = UnitActive.ACTIVE
    assert not run(SupplyUnit(units, units.folder).is_pulling())
    assert not run(SupplyUnit(units, units.folder / "not-there").is_pulling())
