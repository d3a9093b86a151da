# SPDX-License-Identifier: MulanPSL-2.0
"""What outlives the agent: counters over a boot, a backoff over a restart of the agent."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.action.tried import Tried
from agent.control.memory import (
    ABSENT_MAX,
    ABSENT_MAX_S,
    ORDER_MAX_S,
    InstanceMemory,
    Memory,
    carry_over,
    decode_memory,
    encode_memory,
    recall,
    remember,
)
from agent.control.record import Record
from agent.control.roster import Roster
from agent.errors import Code, Failure
from agent.model import Hold, Phase, ResetOutcome
from agent.policy.npu.kept import FleetMemory, NpuMemory, recall_fleet, remember_fleet
from agent.policy.npu.reset import COOL_DOWN_S
from agent.policy.npu.state import (
    Act,
    ClearAsked,
    Quarantine,
    QuarantineAsked,
    Release,
    ResetNpus,
)
from agent.policy.state import InstanceState
from agent.policy.update_state import UpdateState
from agent.supplies import Order, Supply
from tests.build import LIMITS, build_profile
from tests.npus import Host
from tests.scenario.ports import RootedFiles

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


def test_how_long_it_took_and_what_was_in_vain(tmp_path: Path) -> None:
    known = record(InstanceState())
    tried = Tried("mark", Failure(Code.MODEL_INVALID, "cannot start 8b: damaged", "fetch it"))
    known.start.last_s, known.start.last_mark, known.start.tried = 93.4, "mark", tried
    memory = decode_memory(encode_memory(remember([known], "boot", NOW, WALL)))
    for boot, in_vain in (("boot", tried), ("another", None)):
        roster = Roster(RootedFiles(tmp_path), memory, boot)
        roster.add(build_profile(), LIMITS)
        again = roster.get("8b")
        assert again is not None
        assert (again.start.last_s, again.start.last_mark) == (93.4, "mark")
        assert again.start.tried == in_vain  # a boot is a new chance


def test_a_memory_of_an_older_version_is_read() -> None:
    text = '{"schema":1,"boot_id":"b","instances":[{"name":"8b","restarts":3}]}'
    assert decode_memory(text).of("8b") == InstanceMemory("8b", 3)


def test_a_trial_of_an_older_version_goes_on() -> None:
    """One that did not count boots yet, nor what was said of NPUs."""
    supply = (
        '{"image_reference":"i:t","image_id":"1","image_digest":"","model_directory":"/m",'
        '"model_revision":"r","at":0.0}'
    )
    update = f'{{"current":{supply},"trial":{supply},"on_trial":true}}'
    text = f'{{"schema":1,"boot_id":"b","instances":[{{"name":"8b","update":{update}}}]}}'
    state = decode_memory(text).of("8b").update
    assert (state.on_trial, state.boots, state.boot, state.faults) == (True, 0, "", 0)
    assert decode_memory(encode_memory(Memory(instances=(InstanceMemory("8b", update=state),))))


def test_a_memory_of_a_newer_version_is_read() -> None:
    text = '{"schema":1,"boot_id":"b","instances":[{"name":"8b","start_s":5,"later":[1]}]}'
    assert decode_memory(text).of("8b").start_s == 5


def test_a_code_of_a_newer_version_costs_nothing_beside_it() -> None:
    text = (
        '{"instances": [{"name": "8b", "restarts": 3, "retry_at": 1.0, '
        '"failure": {"code": "from-the-future", "message": "cannot: new", "hint": ""}}]}'
    )
    memory = decode_memory(text).of("8b")
    assert memory.restarts == 3
    assert memory.failure == Failure(Code.INTERNAL, "cannot: new")


def test_nothing_to_remember_is_not_written() -> None:
    assert remember([record(InstanceState())], "boot", NOW, WALL) == Memory(1, "boot", ())


def test_time_alone_changes_nothing() -> None:
    """Otherwise it would be written on each turn."""
    record_ = record(backoff())
    texts = {
        encode_memory(remember([record_], "boot", NOW + at, WALL + at)) for at in (0.0, 1.3, 7.9)
    }
    assert len(texts) == 1


# --- without a profile ---------------------------------------------------------------------------

RAN = Supply("image", "0" * 64, "", "/models/8b", "", 1.0)
ON_HOLD = InstanceMemory("8b", 3, hold=Hold(WALL, "root", "a new fan"))


def carried(memory: Memory, *known: str, boot: str = "boot", for_s: float = 0.0) -> Memory:
    return Memory(1, boot, carry_over(memory, known, boot, for_s))


def test_what_has_no_profile_now_is_carried_over() -> None:
    memory = Memory(1, "boot", (ON_HOLD, InstanceMemory("7b", 2), InstanceMemory("14b")))
    assert carried(memory, "7b").instances == (ON_HOLD,)
    assert carried(carried(memory, "7b"), "7b").instances == (ON_HOLD,)


def test_a_boot_is_a_new_chance_for_it_too() -> None:
    """The next agent takes what it reads for things of its own boot."""
    tried = Tried("mark", DIED)
    known = replace(ON_HOLD, failures=5, retry_at=WALL, failure=DIED, tried=tried)
    memory = Memory(1, "boot", (known,))
    assert carried(memory).instances == (known,)
    assert carried(memory, boot="another").instances == (ON_HOLD,)


def test_it_is_forgotten_after_a_while_in_which_an_agent_ran() -> None:
    """Not by the wall clock, which may have jumped by years."""
    memory = Memory(1, "boot", (ON_HOLD,))
    for _ in range(3):
        memory = carried(memory, for_s=ABSENT_MAX_S / 3 + 1)
    assert memory.instances == ()
    memory = carried(Memory(1, "boot", (ON_HOLD,)), for_s=ABSENT_MAX_S - 1)
    assert memory.of("8b").hold == ON_HOLD.hold


def test_an_update_that_was_asked_for_is_forgotten_after_a_day() -> None:
    """The profile that comes back may be of another model, and who asked is gone."""
    update = UpdateState(current=RAN, order=Order("8b", None, None))
    memory = Memory(1, "boot", (replace(ON_HOLD, update=update),))
    assert carried(memory, for_s=ORDER_MAX_S - 1).of("8b").update == update
    later = carried(memory, for_s=ORDER_MAX_S).of("8b")
    assert later.update == replace(update, order=None)
    assert later.hold == ON_HOLD.hold


def test_its_time_alone_is_written_once_an_hour() -> None:
    memory = Memory(1, "boot", (ON_HOLD,))
    texts = {encode_memory(carried(memory, for_s=at)) for at in range(0, 7200, 60)}
    assert len(texts) == 2


def test_only_so_many_are_carried_over() -> None:
    """Those that had a profile last."""
    late = tuple(InstanceMemory(f"late{number}", 1) for number in range(ABSENT_MAX))
    early = replace(ON_HOLD, absent_s=7200.0)
    assert carried(Memory(1, "boot", (early, *late))).instances == late


@given(st.floats(allow_nan=False), st.floats(0, 1e12))
def test_no_time_in_the_file_keeps_it_for_ever(absent_s: float, for_s: float) -> None:
    memory = Memory(1, "boot", (replace(ON_HOLD, absent_s=absent_s),))
    for one in carried(memory, for_s=for_s).instances:
        assert 0 <= one.absent_s < ABSENT_MAX_S
    assert carried(memory, for_s=ABSENT_MAX_S).instances == ()


def test_it_comes_back_with_its_profile(tmp_path: Path) -> None:
    files, memory = RootedFiles(tmp_path), Memory(1, "boot", (ON_HOLD,))
    memory = Roster(files, memory, "boot").remembered(FleetMemory())
    roster = Roster(files, decode_memory(encode_memory(memory)), "boot")
    roster.add(build_profile(), LIMITS)
    again = roster.get("8b")
    assert again is not None
    assert again.hold == ON_HOLD.hold
    again.hold = None
    assert roster.remembered(FleetMemory()).instances == (InstanceMemory("8b", 3),)


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


# --- NPUs ----------------------------------------------------------------------------------------

SEPARATE, RESET = "80E18402", "80FA4E00"
DAY_S, YEARS_S = 86_400.0, 10 * 365 * 86_400.0


def again(host: Host, wall: float, later: float = 0.0, *, now: float = 7.0) -> Host:
    """The same NPUs under the next agent, by way of the file; `wall` when this one ended."""
    kept = remember_fleet(host.fleet, host.now, wall)
    text = encode_memory(remember([], "boot", host.now, wall, kept))
    fleet = recall_fleet(decode_memory(text).npus, now, wall + later)
    return replace(host, fleet=fleet, now=now, holdings={})


def tried() -> Host:
    """NPU 0 set aside by its fault, 1 by a person, 2 after its first reset, 3 with two tries."""
    host = Host.of(8)
    host.break_(0, SEPARATE)
    host.feed(QuarantineAsked((1,), "root"))
    host.break_(2, RESET)
    host.mend(2)
    host.reset_ends()
    host.later(COOL_DOWN_S)
    host.break_(3, RESET)
    host.reset_ends(ResetOutcome.FAILED)
    host.later(COOL_DOWN_S)
    assert host.npu(3).tries == 2
    return host


def test_a_quarantine_survives() -> None:
    host = tried()
    after = again(host, WALL)
    assert after.unfit().keys() == {0, 1, 3}
    assert after.unfit()[0] == host.unfit()[0]
    assert (after.npu(0).quarantine, after.npu(1).quarantine) == (
        host.npu(0).quarantine,
        host.npu(1).quarantine,
    )
    after.see()
    assert after.unfit().keys() == {0, 1, 3}


def test_a_fault_that_was_dealt_with_is_not_a_second_one() -> None:
    """The agent was upgraded while the NPU was being mended."""
    host = Host.of(4)
    host.hold("8b", 0)
    host.break_(0, RESET)
    host.end("8b")
    assert host.did(ResetNpus)
    after = again(host, WALL)
    after.see()
    assert after.told == []  # maybe it is being reset: npud goes on with it
    after.later(COOL_DOWN_S)
    assert [one.reason.rpartition(", ")[2] for one in after.did(ResetNpus)] == ["try 2 of 4"]
    assert not after.is_aside(0)


def test_a_chip_that_was_gone_is_so_when_it_has_been_looked_for() -> None:
    host = Host.of(4)
    host.hold("8b", 0)
    host.set(0, device_present=False)
    after = again(host, WALL)
    assert after.unfit()[0].passing  # nobody has looked
    del after.npus[0]
    after.see()
    assert not after.unfit()[0].passing
    assert "it is gone" in after.unfit()[0].reason


def test_what_a_person_has_cleared_stays_so() -> None:
    host = Host.of(4)
    host.break_(0, SEPARATE)
    host.feed(ClearAsked((0,), "root"))
    host.break_(1, "80C98008")  # nothing was done about it yet
    host.feed(ClearAsked((1,), "root"))
    after = again(host, WALL)
    after.see()
    after.hold("8b", 0, 1)
    after.later(DAY_S)
    assert (after.unfit(), after.told) == ({}, [])


def test_tries_and_acts_are_counted_on() -> None:
    after = again(tried(), WALL, 60)
    after.break_(2, RESET)
    assert after.is_aside(2)
    assert after.npu(3).tries == 2


@pytest.mark.parametrize("jump", [-YEARS_S, YEARS_S])
def test_a_clock_that_jumps_releases_nothing_and_sets_nothing_aside(jump: float) -> None:
    host = tried()
    for logic_id in range(8):
        host.mend(logic_id)
    before = set(host.unfit())
    after = again(host, WALL, jump)
    after.see()
    assert set(after.unfit()) == before - {3}  # its fault is gone
    assert after.did(Release) == []
    back = again(after, WALL + jump, -jump)
    back.see()
    assert set(back.unfit()) == {0, 1}
    back.later(5 * DAY_S)  # of seven, at most one counted for each absence
    assert set(back.unfit()) == {0, 1}
    back.later(2 * DAY_S)
    assert set(back.unfit()) == {1}


def test_an_absence_counts_up_to_a_day() -> None:
    host = Host.of(4)
    host.break_(0, SEPARATE)
    host.mend(0)
    for _ in range(6):
        host = again(host, WALL, DAY_S)
        host.see()
        assert host.is_aside(0)
    host = again(host, WALL, DAY_S)
    host.see()
    assert not host.is_aside(0)


def test_a_healthy_fleet_is_not_remembered() -> None:
    host = Host.of(8)
    host.break_(0, "80C98008")
    assert remember_fleet(host.fleet, host.now, WALL) == FleetMemory()


def test_time_alone_is_written_four_times_an_hour() -> None:
    host = tried()
    texts = {
        encode_memory(remember([], "b", 1.0, WALL, remember_fleet(host.fleet, at, WALL + at)))
        for at in range(10_000, 13_600)
    }
    assert len(texts) == 5


def test_the_host_stays_suspected_under_the_next_agent() -> None:
    host = Host.of(4)
    for logic_id in range(4):
        host.npus[logic_id] = replace(host.npus[logic_id], device_present=False)
    host.see()
    assert host.fleet.suspect
    after = again(host, WALL)
    assert after.fleet.suspect == host.fleet.suspect
    after.see()
    assert after.fleet.suspect == host.fleet.suspect


def test_what_an_older_version_wrote_is_read() -> None:
    assert decode_memory('{"schema": 1, "boot_id": "b", "instances": []}').npus == FleetMemory()


@given(st.floats(-1e12, 1e12), st.floats(-1e12, 1e12), st.floats(-1e12, 1e12))
def test_no_time_in_the_file_does_harm(counted: float, kept_wall: float, wall: float) -> None:
    """Also when somebody wrote it by hand: nothing lies in the future, so it ends."""
    far = 9e15
    aside = Quarantine("x", far, "agent", SEPARATE, 3600.0, far)
    npus = (NpuMemory(0, aside, (Act(SEPARATE, far),), 9),)
    memory = decode_memory(encode_memory(Memory(npus=FleetMemory(counted, kept_wall, "", npus))))
    host = Host.of(4)
    host.fleet = recall_fleet(memory.npus, host.now, wall)
    host.see()
    assert host.is_aside(0)
    host.later(3601)
    assert not host.is_aside(0)
