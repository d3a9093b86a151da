# SPDX-License-Identifier: MulanPSL-2.0
"""dcmi_init asks every chip: it hangs where one hangs, and lists none that is ill just then."""

import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.model import DriverState, NpuHealth, ResetOutcome
from agent.npud.dcmi import left_out, renewal, standby, workers
from agent.npud.dcmi.renewal import FIRST_S, MAX_S, Renewal
from tests.unit.npud.dcmi_driver import Reading

CHIPS = frozenset(range(8))


@pytest.fixture
def reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reading]:
    """With short pauses, a driver like the real one, and as many device nodes as chips."""
    monkeypatch.setattr(workers, "KILL_GRACE_S", 0.2)
    monkeypatch.setattr(workers, "RESPAWN_S", 0.1)
    monkeypatch.setattr(left_out, "RETRY_S", 0.4)
    monkeypatch.setattr(standby, "AFTER_S", 0.0)
    monkeypatch.setattr(standby, "RETRY_S", 0.5)
    monkeypatch.setattr(renewal, "FIRST_S", 0.2)
    it = Reading(tmp_path)
    for number in range(4, 16):
        (it.dev / f"davinci{number}").unlink()
    it.double.start(cards=4)
    it.double.set_option("init-asks", "on")
    yield it
    it.close()


def healths(reading: Reading) -> str:
    return " ".join(npu.health.value for npu in reading.last.npus)


def begin_with_standby(reading: Reading) -> None:
    reading.double.set_health(3, 0, 1)
    assert reading.read().driver is DriverState.READY
    await_standby(reading)


def await_standby(reading: Reading) -> None:
    reading.run(lambda: reading.source._asking._standby.is_ready)


def test_a_chip_that_hangs_takes_no_other_away(reading: Reading) -> None:
    """Each new worker hung in dcmi_init, so all were unknown while one was."""
    begin_with_standby(reading)
    reading.double.hang("get_device_health", 1)
    reading.run(lambda: healths(reading) == "ok unknown ok warning")
    assert reading.npu(1).reason == "probe hangs: get_device_health"
    reading.double.raise_fault(2, 0, "80E01801")
    reading.run(lambda: reading.npu(2).health is NpuHealth.CRITICAL)
    # It would be tried again by now, and who stands by next hangs: the last worker is spared.
    reading.run(lambda: "no process stands by" in "".join(reading.log))
    reading.run_for(1.5)
    seen = reading.read()
    assert seen.driver is DriverState.READY
    assert healths(reading) == "ok unknown critical warning"
    assert all(inventory.driver is DriverState.READY for inventory in reading.news)
    reading.double.release("get_device_health", 1)
    reading.run(lambda: reading.npu(1).health is NpuHealth.OK)


def test_who_stands_by_takes_over_once_without_dcmi_init(reading: Reading) -> None:
    begin_with_standby(reading)
    first = reading.worker
    assert first is not None
    (second,) = set(reading.children()) - {first.pid}
    reading.double.hang("get_device_temperature", 1)
    reading.source.begin(0.0)
    reading.run(lambda: reading.npu(1).reason != "")
    assert reading.worker is not None
    assert reading.worker.pid == second
    reading.double.release("get_device_temperature", 1)
    await_standby(reading)
    reading.run(lambda: healths(reading) == "ok ok ok warning")


def test_who_stands_by_lacks_no_chip_that_is_well_again(reading: Reading) -> None:
    """It was made while chip 2 was away, and stayed for as long as any other was ill: months."""
    reading.read()
    reading.double.drop(2, 0)
    reading.read()
    await_standby(reading)
    reading.double.set_health(3, 0, 1)
    reading.read()
    reading.double.undrop(2, 0)
    reading.read()
    assert healths(reading) == "ok ok ok warning"
    reading.run_for(0.1)
    await_standby(reading)
    reading.double.hang("get_device_health", 1)
    reading.run(lambda: healths(reading) == "ok unknown ok warning")
    reading.read()
    assert healths(reading) == "ok unknown ok warning"
    reading.double.release("get_device_health", 1)
    reading.run(lambda: reading.npu(1).health is NpuHealth.OK)


def test_who_stands_by_is_not_renewed_again_and_again(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading.double.set_health(3, 0, 1)
    reading.read()
    reading.double.drop(2, 0)
    reading.read()
    await_standby(reading)
    monkeypatch.setattr(standby, "AFTER_S", 100.0)  # it is younger
    children = reading.children()
    reading.double.undrop(2, 0)
    reading.read()
    reading.run_for(0.2)
    assert (healths(reading), reading.children()) == ("ok ok ok warning", children)


def test_who_stands_by_may_die(reading: Reading) -> None:
    begin_with_standby(reading)
    assert reading.worker is not None
    (second,) = set(reading.children()) - {reading.worker.pid}
    os.kill(second, signal.SIGKILL)
    reading.run(lambda: not reading.source._asking._standby.is_ready)
    await_standby(reading)
    assert second not in reading.children()
    assert healths(reading) == "ok ok ok warning"


def test_nobody_stands_by_while_all_is_well(reading: Reading) -> None:
    begin_with_standby(reading)
    reading.double.set_health(3, 0, 0)
    reading.read()
    reading.run(lambda: len(reading.children()) == 1)
    reading.run_for(0.3)
    assert len(reading.children()) == 1


def test_nobody_stands_by_for_a_driver_that_is_gone(reading: Reading) -> None:
    """What was initialised with the driver of before is deaf to the next one."""
    begin_with_standby(reading)
    reading.double.driver_absent()
    assert reading.read().driver is DriverState.FAILED
    reading.run(lambda: reading.children() == [])
    reading.double.driver_back()
    begin_with_standby(reading)


def test_a_chip_that_was_ill_when_a_worker_began_is_listed_again(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was said to be unlisted for as long as that worker lived: weeks."""
    monkeypatch.setattr(standby, "AFTER_S", 100.0)
    reading.read()
    reading.double.drop(2, 0)
    worker = reading.worker
    assert worker is not None
    os.kill(worker.pid, signal.SIGKILL)
    reading.run(lambda: reading.npu(2).reason == "the driver does not list it any more")
    reading.double.undrop(2, 0)
    reading.run_for(0.3)
    reading.read()
    reading.run_for(0.3)
    reading.read()
    reading.run(lambda: healths(reading) == "ok ok ok ok")


def test_a_worker_that_lists_too_few_goes_on_while_the_next_one_hangs(reading: Reading) -> None:
    reading.double.drop(2, 0)
    reading.read()  # three are listed, and there are four nodes
    reading.double.undrop(2, 0)
    reading.double.hang("get_device_health", 2)
    reading.run_for(0.3)
    reading.read()
    reading.run(lambda: "no process stands by" in "".join(reading.log))
    assert healths(reading) == "ok ok ok"
    assert all(inventory.driver is DriverState.READY for inventory in reading.accounts)


def test_nobody_begins_while_a_chip_is_reset(reading: Reading) -> None:
    """dcmi_init would ask that chip, too."""
    reading.read()
    reading.run(lambda: len(reading.children()) == 1)
    reading.double.set_reset(2, 0, "works", 1.0)
    ended = reading.begin_reset(2)
    most = 0
    while not ended:
        reading.turn()
        most = max(most, len(reading.children()))
    assert most == 2  # who looks, and who resets
    assert ended[0][0] is ResetOutcome.OK


# --- when ----------------------------------------------------------------------------------------


def test_a_chip_that_stays_away_is_looked_for_after_pauses_that_grow() -> None:
    renewal, times = Renewal(), []
    for now in range(3900):
        if renewal.is_due(True, CHIPS, float(now)):
            times.append(now)
    pauses = [after - before for before, after in itertools.pairwise(times)]
    assert times[0] == FIRST_S
    assert pauses == [30, 60, 120, 240, 480, *[MAX_S] * 4]


def test_at_once_when_a_node_comes() -> None:
    renewal = Renewal()
    assert not renewal.is_due(False, CHIPS, 0.0)
    assert not renewal.is_due(True, CHIPS - {5}, 1.0)
    assert renewal.is_due(True, CHIPS, 2.0)
    assert not renewal.is_due(True, CHIPS, 3.0)


def test_never_while_none_is_missing() -> None:
    renewal = Renewal()
    assert not any(renewal.is_due(False, CHIPS, float(now)) for now in range(2000))
