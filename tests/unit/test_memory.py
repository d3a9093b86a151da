# SPDX-License-Identifier: MulanPSL-2.0
"""What outlives the agent: counters over a boot, a backoff over a restart of the agent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.control.memory import (
    InstanceMemory,
    Memory,
    decode_memory,
    encode_memory,
    recall,
    remember,
)
from agent.control.record import Record
from agent.errors import Code, Failure
from agent.model import Phase
from agent.policy.state import InstanceState
from tests.build import LIMITS, build_profile

DIED = Failure(Code.ENGINE_DIED, "cannot keep serving: the engine ended", "look")
WALL, NOW = 1_700_000_000.0, 5_000.0


def record(state: InstanceState, restarts: int = 0) -> Record:
    return Record(build_profile(), state, WALL, restarts=restarts)


def backoff(wait_s: float = 30.0) -> InstanceState:
    return InstanceState(Phase.BACKOFF, True, NOW - 1, 5, NOW + wait_s, DIED)


def test_a_backoff_goes_on_under_the_next_agent() -> None:
    memory = remember([record(backoff(), 7)], "boot", NOW, WALL)
    again = decode_memory(encode_memory(memory)).of("8b")
    assert again == InstanceMemory("8b", 7, 5, WALL + 30, DIED)
    # The next one begins 10 s later; its clock counts from elsewhere.
    state = recall(again, True, LIMITS, 100.0, WALL + 10)
    assert (state.phase, state.wished, state.failures) == (Phase.BACKOFF, True, 5)
    assert state.not_before == 120.0
    assert state.failure == DIED


def test_a_boot_is_a_new_chance() -> None:
    memory = remember([record(backoff(), 7)], "boot", NOW, WALL).of("8b")
    assert recall(memory, False, LIMITS, 100.0, WALL) == InstanceState(since=100.0)
    assert memory.restarts == 7


def test_what_serves_keeps_its_count_of_failures() -> None:
    serving = InstanceState(Phase.SERVING, True, NOW, 3)
    memory = remember([record(serving)], "boot", NOW, WALL).of("8b")
    assert recall(memory, True, LIMITS, 1.0, WALL) == InstanceState(since=1.0, failures=3)


def test_nothing_to_remember_is_not_written() -> None:
    assert remember([record(InstanceState())], "boot", NOW, WALL) == Memory(1, "boot", ())


def test_time_alone_changes_nothing() -> None:
    """Otherwise it would be written on each turn."""
    record_ = record(backoff())
    texts = {
        encode_memory(remember([record_], "boot", NOW + at, WALL + at)) for at in (0.0, 1.3, 7.9)
    }
    assert len(texts) == 1


@given(st.floats(-1e12, 1e12), st.integers(-5, 100), st.floats(0, 1e12))
def test_no_clock_makes_it_wait_for_ever(retry_at: float, failures: int, wall: float) -> None:
    memory = InstanceMemory("8b", 1, failures, retry_at, DIED)
    state = recall(memory, True, LIMITS, NOW, wall)
    assert NOW <= max(state.not_before, NOW) <= NOW + LIMITS.backoff_max_s
    assert state.failures >= 0


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": "x"}', '{"instances": [{}]}'])
def test_what_cannot_be_understood(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_memory(text)


def test_fields_that_a_later_version_adds_are_passed_over() -> None:
    text = '{"schema": 1, "boot_id": "b", "more": 1, "instances": [{"name": "8b", "x": []}]}'
    assert decode_memory(text) == Memory(1, "b", (InstanceMemory("8b"),))
