# SPDX-License-Identifier: MulanPSL-2.0
"""Events and queries joined, with the clock in hand."""

import pytest

from agent.model import FaultSeverity
from agent.npud.dcmi.faults import ONE_OFF, OVER, RAISED, Faults
from agent.npud.dcmi.messages import (
    FaultTold,
)

CODE, NAME = 0x80E01801, "80E01801"
CLOCK = 1_800_000_000.0


def event(assertion: int, came_at: float, raised_ms: int = 0, severity: int = 2) -> FaultTold:
    return FaultTold(CODE, 0, severity, assertion, raised_ms, "words", came_at)


def take(faults: Faults, *events: FaultTold) -> None:
    for one in events:
        faults.take_event(one, now=one.came_at, clock=CLOCK + one.came_at)


def names(faults: Faults) -> list[str]:
    return [fault.code for fault in faults.of(0)]


def test_raised_and_over() -> None:
    faults = Faults()
    take(faults, event(RAISED, 10))
    assert names(faults) == [NAME]
    take(faults, event(OVER, 20))
    assert names(faults) == []


def test_a_query_that_began_before_the_event_does_not_undo_it() -> None:
    faults = Faults()
    take(faults, event(RAISED, 10))
    faults.take_query(0, (), asked_at=9, clock=CLOCK)
    assert names(faults) == [NAME]
    faults.take_query(0, (), asked_at=10.5, clock=CLOCK)  # the driver's books may lag
    assert names(faults) == [NAME]
    faults.take_query(0, (), asked_at=12, clock=CLOCK)
    assert names(faults) == []


def test_a_query_that_began_before_the_end_does_not_bring_it_back() -> None:
    faults = Faults()
    take(faults, event(RAISED, 10), event(OVER, 20))
    faults.take_query(0, ((CODE, "x"),), asked_at=20.5, clock=CLOCK)
    assert names(faults) == []
    faults.take_query(0, ((CODE, "x"),), asked_at=22, clock=CLOCK)  # then the event was wrong
    assert names(faults) == [NAME]


def test_raised_at_stays_as_long_as_the_code() -> None:
    faults = Faults()
    take(faults, event(RAISED, 10, raised_ms=1_700_000_000_500))
    first = faults.of(0)
    assert first[0].raised_at == 1_700_000_000.5
    take(faults, event(RAISED, 30, raised_ms=1_700_000_900_000))
    faults.take_query(0, ((CODE, "others"),), asked_at=40, clock=CLOCK + 40)
    assert faults.of(0) == first
    take(faults, event(OVER, 50), event(RAISED, 60, raised_ms=1_700_000_960_000))
    assert faults.of(0)[0].raised_at == 1_700_000_960.0


@pytest.mark.parametrize("raised_ms", [0, 1000, 1_700_000_000, 2**63])  # that one: seconds
def test_a_time_that_cannot_be_is_now(raised_ms: int) -> None:
    faults = Faults()
    take(faults, event(RAISED, 10, raised_ms))
    assert faults.of(0)[0].raised_at == CLOCK + 10


def test_a_one_off_event_lasts_a_minute() -> None:
    faults = Faults()
    take(faults, event(ONE_OFF, 10))
    assert faults.next_at() == 70
    faults.take_query(0, (), asked_at=30, clock=CLOCK)
    assert not faults.expire(69)
    assert names(faults) == [NAME]
    assert faults.expire(70)
    assert names(faults) == []
    assert faults.next_at() == float("inf")


def test_what_lasts_is_more_than_a_one_off_event() -> None:
    faults = Faults()
    take(faults, event(RAISED, 10), event(ONE_OFF, 11))
    assert not faults.of(0)[0].one_off
    assert faults.next_at() == float("inf")
    take(faults, event(OVER, 12), event(ONE_OFF, 13), event(RAISED, 14))
    assert not faults.of(0)[0].one_off


def test_words_that_are_no_assertion_and_severities_that_are_none() -> None:
    faults = Faults()
    take(faults, event(7, 10))
    assert names(faults) == []
    take(faults, event(RAISED, 11, severity=9))
    assert faults.of(0)[0].severity is FaultSeverity.UNKNOWN


def test_a_drop_keeps_what_was_known_and_ends_with_the_next_answer() -> None:
    faults = Faults()
    faults.take_query(0, ((CODE, "x"),), asked_at=5, clock=CLOCK)
    faults.take_drop(0, CLOCK + 6)
    faults.take_drop(0, CLOCK + 66)
    assert names(faults) == ["40F84E00", NAME]
    assert faults.of(0)[0].raised_at == CLOCK + 6
    faults.take_query(0, ((CODE, "x"),), asked_at=70, clock=CLOCK + 70)
    assert names(faults) == [NAME]


def test_a_flood_has_a_bound() -> None:
    faults = Faults()
    for number in range(5000):
        faults.take_event(FaultTold(number, 0, 0, RAISED, 0, "", 1.0), now=1.0, clock=CLOCK)
    assert len(faults.of(0)) == 128


def test_an_end_that_no_query_has_confirmed_is_remembered_only_until_one_has() -> None:
    faults = Faults()
    take(faults, event(RAISED, 10), event(OVER, 20))
    faults.take_query(0, (), asked_at=30, clock=CLOCK)
    faults.take_query(0, ((CODE, "x"),), asked_at=20.5, clock=CLOCK)  # the event counts no more
    assert names(faults) == [NAME]
