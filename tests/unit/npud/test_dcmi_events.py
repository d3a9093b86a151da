# SPDX-License-Identifier: MulanPSL-2.0
"""Fault events: told at once, joined with what queries say; and what stands in for them."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.model import FaultSeverity, NpuFault, NpuHealth
from agent.npud.dcmi import agenda, faults
from tests.unit.npud.dcmi_driver import Reading

CODE = "80E01801"


@pytest.fixture
def reading(tmp_path: Path) -> Iterator[Reading]:
    it = Reading(tmp_path)
    yield it
    it.close()


def codes(reading: Reading, logic_id: int) -> list[str]:
    return [fault.code for fault in reading.npu(logic_id).faults]


def test_an_event_is_told_before_any_query(reading: Reading) -> None:
    reading.start()
    reading.news.clear()
    before = time.time()
    reading.double.raise_fault(3, 0, CODE, severity=2, text="multi bit")
    reading.run(lambda: bool(reading.news))
    first = reading.news[0].npus[3]
    (fault,) = first.faults
    assert fault == NpuFault(CODE, FaultSeverity.MAJOR, "multi bit", fault.raised_at)
    assert abs(fault.raised_at - before) < 5
    assert first.health is NpuHealth.OK  # the driver's own word comes with the query that follows
    reading.run(lambda: reading.npu(3).health is NpuHealth.ALARM)
    assert reading.npu(3).faults == (fault,)
    assert all(not npu.faults for npu in reading.last.npus if npu.logic_id != 3)


def test_only_that_chip_is_asked_after_an_event(reading: Reading) -> None:
    reading.start()
    reading.double.set_option("log", "calls")
    asked = len(reading.double.calls())
    reading.double.raise_fault(3, 0, CODE)
    reading.run(lambda: reading.npu(3).health is NpuHealth.CRITICAL)
    reading.run_for(0.1)
    new = reading.double.calls()[asked:]
    assert {call.chip for call in new} == {"3.0"}


def test_the_end_of_a_fault_is_told_by_its_event(reading: Reading) -> None:
    reading.start()
    reading.double.raise_fault(3, 0, CODE)
    reading.double.raise_fault(3, 0, "80E18402")
    reading.run(lambda: codes(reading, 3) == [CODE, "80E18402"])
    reading.run(lambda: reading.source.next_at() > time.monotonic() + 1)  # no query under way
    reading.double.hang("get_device_health", 3)  # so that none can be what tells it
    reading.double.clear_fault(3, 0, CODE)
    reading.run(lambda: codes(reading, 3) == ["80E18402"])
    assert reading.npu(3).reason == ""
    reading.double.release("get_device_health", 3)
    reading.run_for(0.2)
    assert codes(reading, 3) == ["80E18402"]


def test_an_event_lost_is_found_by_the_next_reading(reading: Reading) -> None:
    reading.start()
    reading.double.set_option("events", "off")
    reading.double.raise_fault(3, 0, CODE)
    reading.run_for(0.3)
    assert codes(reading, 3) == []
    reading.read()
    assert codes(reading, 3) == [CODE]
    assert reading.npu(3).faults[0].severity is FaultSeverity.UNKNOWN
    reading.double.clear_fault(3, 0, CODE)
    reading.read()
    assert codes(reading, 3) == []


def test_a_severity_told_once_is_remembered(reading: Reading) -> None:
    reading.start()
    reading.double.raise_fault(3, 0, CODE, severity=1)
    reading.run(lambda: codes(reading, 3) == [CODE])
    reading.double.set_option("events", "off")
    reading.double.raise_fault(5, 0, CODE, severity=1)
    reading.read()
    assert reading.npu(5).faults[0].severity is FaultSeverity.MINOR


def test_a_one_off_event_is_kept_for_a_while(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert faults.ONE_OFF_KEPT_S == 60
    monkeypatch.setattr(faults, "ONE_OFF_KEPT_S", 0.5)
    reading.start()
    reading.double.one_off(1, 0, "8C2FA009", severity=0)
    reading.run(lambda: bool(reading.npu(1).faults))
    (fault,) = reading.npu(1).faults
    assert (fault.code, fault.severity, fault.one_off) == ("8C2FA009", FaultSeverity.HINT, True)
    reading.read()  # which does not list it
    assert reading.npu(1).faults == (fault,)
    reading.run(lambda: reading.npu(1).faults == ())


def test_many_at_once(reading: Reading) -> None:
    reading.start()
    for logic_id in range(8):
        for number in range(20):
            reading.double.raise_fault(logic_id, 0, f"80E000{number:02X}", severity=number % 4)
    reading.run(lambda: all(len(reading.npu(n).faults) == 20 for n in range(8)))
    reading.run(lambda: all(npu.health is NpuHealth.CRITICAL for npu in reading.last.npus))


def test_without_the_symbol_states_are_asked_again_and_again(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert agenda.STATES_WITHOUT_EVENTS_S == 2
    monkeypatch.setattr(agenda, "STATES_WITHOUT_EVENTS_S", 0.1)
    reading.make(missing=["dcmi_subscribe_fault_event"])
    reading.start()
    assert "no fault events" in "".join(reading.log)
    accounts = len(reading.accounts)
    reading.double.raise_fault(3, 0, CODE)
    reading.run(lambda: codes(reading, 3) == [CODE])
    assert reading.npu(3).health is NpuHealth.CRITICAL
    reading.double.clear_fault(3, 0, CODE)
    reading.run(lambda: codes(reading, 3) == [])
    reading.double.drop(2, 0)
    reading.run(lambda: codes(reading, 2) == ["40F84E00"])
    assert len(reading.accounts) == accounts  # no whole reading was needed


def test_a_refused_subscription_does_the_same(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agenda, "STATES_WITHOUT_EVENTS_S", 0.1)
    reading.double.start()
    reading.double.fail("subscribe_fault_event", -8020)
    reading.read()
    assert "RESOURCE_OCCUPIED" in "".join(reading.log)
    reading.double.raise_fault(3, 0, CODE)
    reading.run(lambda: codes(reading, 3) == [CODE])


def test_with_events_nothing_is_asked_in_between(reading: Reading) -> None:
    reading.start()
    reading.double.set_option("log", "calls")
    asked = len(reading.double.calls())
    reading.run_for(2.5)
    assert reading.double.calls()[asked:] == ()
    assert len(reading.children()) == 1


def test_what_raises_no_event_is_seen_in_a_moment_too(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A card drop, or a fault whose event was lost; where nothing is new nobody is told."""
    assert agenda.STATES_EVERY_S == 5
    monkeypatch.setattr(agenda, "STATES_EVERY_S", 0.2)
    reading.start()
    accounts, news = len(reading.accounts), len(reading.news)
    reading.run_for(1.0)
    assert (len(reading.accounts), len(reading.news)) == (accounts, news)
    reading.double.drop(2, 0)
    reading.run(lambda: codes(reading, 2) == ["40F84E00"])
    reading.double.set_option("events", "off")
    reading.double.raise_fault(3, 0, CODE)
    reading.run(lambda: codes(reading, 3) == [CODE])
    assert len(reading.accounts) == accounts  # no whole reading was needed
    assert len(reading.children()) == 1


def test_a_driver_that_falls_silent_is_looked_at_as_a_whole(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, not again and again."""
    monkeypatch.setattr(agenda, "STATES_EVERY_S", 0.2)
    reading.start()
    accounts = len(reading.accounts)
    reading.double.fail("get_device_health", -8010)
    reading.run(lambda: len(reading.accounts) == accounts + 1)
    assert {npu.health for npu in reading.last.npus} == {NpuHealth.UNKNOWN}
    reading.run_for(1.5)
    assert len(reading.accounts) == accounts + 1


def test_the_subscription_comes_first(reading: Reading) -> None:
    reading.double.start()
    reading.double.set_option("log", "calls")
    reading.read()
    functions = [call.function for call in reading.double.calls()]
    assert functions[:2] == ["init", "subscribe_fault_event"]


@pytest.mark.parametrize(
    ("product", "card", "chip", "logic_id"), [("Ascend910", 3, 1, 7), ("310P3", 5, 0, 6)]
)
def test_an_event_names_the_logic_id(
    reading: Reading, product: str, card: int, chip: int, logic_id: int
) -> None:
    reading.start(product)
    reading.double.raise_fault(card, chip, CODE, severity=1)
    reading.run(lambda: reading.npu(logic_id).health is NpuHealth.WARNING)
    assert codes(reading, logic_id) == [CODE]
    others = [npu for npu in reading.last.npus if npu.logic_id != logic_id]
    assert all(npu.health is NpuHealth.OK and not npu.faults for npu in others)


def test_a_hot_worker_survives_events_while_it_reads(reading: Reading) -> None:
    """Events and whole readings at once: nothing is lost or torn."""
    reading.start()
    for number in range(30):
        reading.double.raise_fault(number % 8, 0, f"80E000{number:02X}")
        reading.source.begin(time.monotonic())
        reading.turn()
    want = {n: sorted(f"80E000{c:02X}" for c in range(30) if c % 8 == n) for n in range(8)}
    reading.run(lambda: all(codes(reading, n) == want[n] for n in range(8)))
    assert "replaced" not in "".join(reading.log)
