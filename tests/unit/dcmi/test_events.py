# SPDX-License-Identifier: MulanPSL-2.0
"""Fault events of the double of libdcmi."""

import time

import pytest

from tests.fakes.dcmi.control import CRITICAL, MAJOR, MINOR, NOT_SUPPORTED
from tests.unit.dcmi.calls import (
    AICORE,
    EVERYTHING,
    HBM_ECC,
    HBM_ROWS,
    INNER_ERROR,
    OCCUR,
    OK,
    ONE_OFF,
    RECOVER,
    codes,
    health,
    subscriber,
    summary,
)
from tests.unit.dcmi.host import Host


def test_a_fault_occurs_and_recovers(host: Host) -> None:
    host.double.start("Ascend910")
    client = subscriber(host)
    before_ms = time.time() * 1000
    host.double.raise_fault(3, 1, HBM_ECC, MAJOR, "multi-bit ECC error of the HBM")
    event = client.event()
    assert summary(event) == (HBM_ECC, 7, OCCUR)
    assert (event["type"], event["severity"], event["name"]) == (
        0,
        MAJOR,
        "multi-bit ECC error of the HBM",
    )
    assert before_ms - 1 <= event["raised_ms"] <= time.time() * 1000 + 1
    assert event["node_type"] == 112  # what the vendor's example subscribes to
    host.double.clear_fault(3, 1, HBM_ECC)
    again = client.event()
    assert summary(again) == (HBM_ECC, 7, RECOVER)
    assert again["serial"] > event["serial"]


def test_what_was_before_the_subscription_is_not_told(host: Host) -> None:
    host.double.raise_fault(3, 0, HBM_ECC)
    host.double.one_off(3, 0, AICORE)
    client = subscriber(host)
    host.double.raise_fault(4, 0, HBM_ROWS)
    assert summary(client.event()) == (HBM_ROWS, 4, OCCUR)
    host.double.clear_fault(3, 0, HBM_ECC)
    assert summary(client.event()) == (HBM_ECC, 3, RECOVER)


def test_a_one_off_event_is_told_once_and_changes_nothing(host: Host) -> None:
    client = subscriber(host)
    host.double.one_off(3, 0, AICORE, MINOR, "AI core timeout")
    host.double.one_off(3, 0, AICORE, MINOR, "AI core timeout")
    events = [client.event(), client.event()]
    assert [summary(event) for event in events] == [(AICORE, 3, ONE_OFF)] * 2
    assert events[0]["name"] == "AI core timeout"
    assert (codes(client, 3), health(client, 3)) == ([], (OK, 0))
    host.double.raise_fault(3, 0, HBM_ECC)
    assert summary(client.event()) == (HBM_ECC, 3, OCCUR)


def test_a_lost_event_is_seen_only_by_a_query(host: Host) -> None:
    client = subscriber(host)
    host.double.set_option("events", "off")
    host.double.raise_fault(3, 0, HBM_ECC, MAJOR)
    assert codes(client, 3) == [HBM_ECC]
    with pytest.raises(TimeoutError):
        client.event(0.2)
    host.double.set_option("events", "on")
    host.double.raise_fault(4, 0, HBM_ROWS)
    assert summary(client.event()) == (HBM_ROWS, 4, OCCUR)  # the lost one stays lost


@pytest.mark.parametrize(
    "wanted",
    [
        (-1, -1, 1, int(HBM_ROWS, 16), 0, 0),
        (-1, -1, 2, 0, MAJOR, 0),
        (-1, -1, 4, 0, 0, 112),
        (-1, -1, 7, int(HBM_ROWS, 16), CRITICAL, 112),
        (4, 0, 0, 0, 0, 0),
    ],
)
def test_a_subscription_by_code_severity_node_or_chip(host: Host, wanted: tuple[int, ...]) -> None:
    client = subscriber(host, *wanted)
    host.double.raise_fault(3, 0, AICORE, MINOR)
    host.double.raise_fault(4, 0, HBM_ROWS, CRITICAL)
    assert summary(client.event()) == (HBM_ROWS, 4, OCCUR)


def test_a_process_subscribes_once_and_with_a_driver(host: Host) -> None:
    client = subscriber(host)
    assert client.call("subscribe", *EVERYTHING) == -8020
    assert host.load().call("subscribe", *EVERYTHING) == INNER_ERROR
    host.double.fail("subscribe_fault_event", NOT_SUPPORTED)
    assert host.client().call("subscribe", *EVERYTHING) == NOT_SUPPORTED


def test_two_processes_are_told(host: Host) -> None:
    clients = [subscriber(host), subscriber(host)]
    host.double.raise_fault(3, 0, HBM_ECC)
    assert [summary(client.event()) for client in clients] == [(HBM_ECC, 3, OCCUR)] * 2


def test_an_event_comes_while_a_call_hangs(host: Host) -> None:
    client = subscriber(host)
    host.double.hang("get_device_health", 3)
    client.send("get_device_health", 3, 0, "uint")
    host.double.raise_fault(4, 0, HBM_ECC)
    assert summary(client.event()) == (HBM_ECC, 4, OCCUR)
    host.double.release("get_device_health", 3)
    assert client.answer() == (OK, 0)


def test_an_event_is_there_within_20_ms(host: Host) -> None:
    """The median: a busy machine may hold up any single one."""
    client = subscriber(host)
    delays = []
    for _ in range(11):
        host.double.raise_fault(3, 0, HBM_ECC)
        raised_at = time.monotonic()
        client.event()
        delays.append(time.monotonic() - raised_at)
        host.double.clear_fault(3, 0, HBM_ECC)
        client.event()
    assert sorted(delays)[5] <= 0.02
