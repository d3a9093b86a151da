# SPDX-License-Identifier: MulanPSL-2.0
"""Policy about NPUs: what each level leads to, and everything that keeps it from doing harm."""

from dataclasses import replace
from typing import Any

import pytest

from agent.config.faults import FaultLevel
from agent.config.values import ResetScope, SubHealth
from agent.model import (
    MEMORY_LEFT,
    DriverState,
    FaultSeverity,
    NpuFault,
    NpuHealth,
    Phase,
    ResetOutcome,
)
from agent.npud.inventory import unknown_npu
from agent.policy.npu.decide import gathered_at, level_of
from agent.policy.npu.reset import BUSY_AGAIN_MAX_S, COOL_DOWN_S, LOST_S, TRIES
from agent.policy.npu.state import (
    GATHER_S,
    ClearAsked,
    HostCleared,
    Note,
    NpusSeen,
    QuarantineAsked,
    Release,
    ResetEnded,
    ResetNpus,
    SetAside,
    StopInstance,
    SuspectHost,
    TrustHost,
)
from tests.build import build_npu
from tests.npus import Host, build_fault, build_rules, ids, silent

# One of each level, of the shipped catalogue.
NOTHING = "80E01809"
SUB = "80E20207"
REQUEST = "80C98008"
BUSINESS = "80E01801"
FREE = "8C084E00"
NPU = "80FA4E00"
LINK = "81078603"  # PreSeparate, and flaps
SEPARATE = "80E18402"
DROP = "40F84E00"
LEFT = MEMORY_LEFT  # FreeRestart, five times
PARITY = "80E18005"  # RestartNPU, three times
DAY_S = 86_400.0
WEEK_S = 7 * DAY_S


def serving(number: int = 4, **changes: Any) -> Host:
    """8b on NPU 0."""
    host = Host.of(number, **changes)
    host.hold("8b", 0)
    return host


def stops(host: Host) -> list[str]:
    return [one.instance for one in host.did(StopInstance)]


def resets(host: Host) -> list[tuple[int, ...]]:
    return [one.npus for one in host.did(ResetNpus)]


def aside(host: Host) -> list[int]:
    return ids(host.did(SetAside))


# --- each level ----------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [NOTHING, SUB])
def test_what_is_only_told(code: str) -> None:
    host = serving()
    host.break_(0, code)
    (note,) = host.told
    assert isinstance(note, Note)
    assert (note.logic_id, note.fault.code, note.over) == (0, code, False)
    for _ in range(100):
        host.later(3600)
        assert host.told == []
    host.mend(0)
    (note,) = host.told
    assert isinstance(note, Note)
    assert note.over
    assert host.unfit() == {}


def test_sub_health_by_setting() -> None:
    host = serving(rules=build_rules(sub_health=SubHealth.QUARANTINE))
    host.break_(0, SUB)
    assert (aside(host), stops(host)) == ([0], [])  # the model goes on until it stops by itself
    assert not host.unfit()[0].passing
    host.mend(0)
    host.later(59)
    assert host.is_aside(0)
    host.later(1)
    assert ids(host.did(Release)) == [0]


@pytest.mark.parametrize("code", [REQUEST, BUSINESS])
def test_a_restart_when_it_has_lasted(code: str) -> None:
    host = serving()
    host.break_(0, code)
    assert stops(host) == []
    host.later(59.9)
    assert stops(host) == []
    host.later(0.1)
    assert stops(host) == ["8b"]
    assert host.did(StopInstance)[0].code == code
    assert host.unfit() == {}  # it may start on the same NPU


def test_a_fault_that_has_gone_in_time_restarts_nothing() -> None:
    host = serving()
    for _ in range(10):
        host.break_(0, REQUEST)
        host.later(59)
        host.mend(0)
        host.later(10)
        assert host.told == []
    assert host.npu(0).acts == ()


def test_a_restart_that_did_not_help_is_followed_by_another_npu() -> None:
    host = serving()
    host.break_(0, REQUEST)
    host.later(60)
    host.end("8b")
    host.hold("8b", 0, phase=Phase.LOADING)
    host.later(59)
    assert stops(host) == []
    host.later(1)
    assert (stops(host), aside(host)) == (["8b"], [0])
    assert "for the second time in 24 h" in host.did(SetAside)[0].quarantine.reason
    for _ in range(50):
        host.later(600)
        assert stops(host) == []


def test_a_restart_level_on_an_idle_npu_is_no_reason() -> None:
    host = Host.of(4)
    host.break_(0, BUSINESS)
    host.later(100_000)
    assert host.told == []


def test_a_fault_that_began_before_the_instance_restarts_it_too() -> None:
    host = Host.of(4)
    host.break_(0, BUSINESS)
    host.later(1000)
    host.hold("8b", 0, phase=Phase.LOADING)
    assert stops(host) == ["8b"]


def test_free_restart_waits_until_nothing_uses_the_npu() -> None:
    host = serving()
    host.break_(0, FREE)
    host.later(10_000)
    assert (stops(host), resets(host)) == ([], [])
    assert host.unfit()[0].passing
    host.use(0)
    host.end("8b")
    assert resets(host) == []  # a process is left
    host.break_(0, FREE, processes=())
    assert resets(host) == [(0,)]
    assert host.unfit()[0].reason == "it is being reset"


def test_restart_npu_stops_resets_and_is_fit_again() -> None:
    host = serving()
    host.break_(0, NPU)
    assert (stops(host), resets(host)) == (["8b"], [])
    assert host.unfit()[0].passing
    host.end("8b")
    assert resets(host) == [(0,)]
    host.mend(0)
    assert host.unfit()  # what it says while it is being reset is not believed
    host.reset_ends()
    assert host.unfit() == {}
    assert [one.over for one in host.did(Note)] == [True]
    host.later(COOL_DOWN_S)
    assert host.npu(0).tries == 0


def test_separate_at_once_with_and_without_an_instance() -> None:
    host = serving()
    host.break_(0, SEPARATE)
    assert (aside(host), stops(host)) == ([0], ["8b"])
    host.break_(3, SEPARATE)
    assert (aside(host), stops(host)) == ([3], [])
    assert sorted(host.unfit()) == [0, 3]
    for state in (0, 3):
        host.mend(state)
    host.later(WEEK_S - 1)
    assert host.told == []
    host.later(1)
    assert ids(host.did(Release)) == [0, 3]


@pytest.mark.parametrize(
    ("phase", "stopped"),
    [
        (Phase.SERVING, False),
        (Phase.LOADING, True),
        (Phase.STARTING, True),
        (Phase.STOPPING, False),
    ],
)
def test_pre_separate_means_no_new_jobs(phase: Phase, stopped: bool) -> None:
    host = Host.of(4)
    host.hold("8b", 0, phase=phase)
    host.break_(0, LINK)
    host.later(20)
    assert aside(host) == [0]
    assert stops(host) == (["8b"] if stopped else [])


def test_the_highest_level_wins() -> None:
    host = serving()
    host.break_(0, NOTHING, REQUEST, SEPARATE, NPU, FREE, SUB)
    assert level_of(host.npu(0), host.rules) is FaultLevel.SEPARATE
    assert (aside(host), stops(host), resets(host)) == ([0], ["8b"], [])
    host.end("8b")
    assert resets(host) == []


@pytest.mark.parametrize(
    ("severity", "acts"),
    [
        (FaultSeverity.HINT, False),
        (FaultSeverity.MINOR, False),
        (FaultSeverity.UNKNOWN, False),
        (FaultSeverity.MAJOR, True),
        (FaultSeverity.CRITICAL, True),
    ],
)
def test_a_code_that_nobody_knows(severity: FaultSeverity, acts: bool) -> None:
    """It is judged by its severity, and the NPU is set aside while it lasts only."""
    host = serving()
    host.set(0, faults=(build_fault("DEADBEEF", severity),))
    assert (aside(host), stops(host)) == (([0], ["8b"]) if acts else ([], []))
    host.mend(0)
    host.later(60)
    assert not host.is_aside(0)


def test_a_severity_that_only_an_event_told_outlives_npud() -> None:
    """npud that began anew has it from a query, which tells none."""
    host = Host.of(4)
    host.set(0, faults=(build_fault("DEADBEEF", FaultSeverity.MAJOR),))
    host.set(0, faults=(build_fault("DEADBEEF", FaultSeverity.UNKNOWN),))
    host.later(DAY_S)
    assert (host.told, host.is_aside(0)) == ([], True)
    assert level_of(host.npu(0), host.rules) is FaultLevel.SEPARATE
    host.set(0, faults=(build_fault("DEADBEEF", FaultSeverity.MINOR),))  # that is told
    host.later(60)
    assert not host.is_aside(0)


def test_one_instance_with_two_broken_npus_is_stopped_once() -> None:
    host = Host.of(8)
    host.hold("8b", 0, 1)
    host.npus[0] = replace(host.npus[0], faults=(build_fault(SEPARATE),))
    host.break_(1, NPU)
    assert (stops(host), aside(host)) == (["8b"], [0])
    host.end("8b")
    assert resets(host) == [(1,)]


def test_two_faults_that_ask_for_a_restart_get_one() -> None:
    host = Host.of(8)
    host.hold("8b", 0, 1)
    host.npus[0] = replace(host.npus[0], faults=(build_fault(REQUEST),))
    host.break_(1, BUSINESS)
    host.later(60)
    assert stops(host) == ["8b"]
    host.end("8b")
    host.hold("8b", 0, 1, phase=Phase.LOADING)
    assert stops(host) == []
    host.later(60)
    assert stops(host) == ["8b"]


def test_other_instances_are_not_touched() -> None:
    host = serving()
    host.hold("7b", 1)
    for code in (SEPARATE, NPU):
        host.break_(0, code)
        assert "7b" not in stops(host)
    host.break_(2, SEPARATE)  # a spare
    assert stops(host) == []


# --- again and again -----------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "times"), [(NPU, 2), (PARITY, 3)])
def test_the_same_fault_again_within_a_day(code: str, times: int) -> None:
    host = serving()
    for time in range(1, times + 1):
        host.hold("8b", 0)
        host.break_(0, code)
        assert stops(host) == ["8b"], time
        assert aside(host) == ([0] if time == times else [])
        host.end("8b")
        if time < times:
            assert resets(host) == [(0,)]
            host.mend(0)
            host.reset_ends()
            host.later(3600)
        else:
            assert resets(host) == []


def test_a_day_later_it_is_the_first_time_again() -> None:
    host = serving()
    for _ in range(5):
        host.hold("8b", 0)
        host.break_(0, NPU)
        assert (stops(host), aside(host)) == (["8b"], [])
        host.end("8b")
        host.mend(0)
        host.reset_ends()
        host.later(DAY_S + 1)


def test_other_faults_and_other_npus_have_their_own_count() -> None:
    host = serving()
    for logic_id, code in ((0, NPU), (1, NPU), (0, PARITY)):
        host.hold("8b", logic_id)
        host.break_(logic_id, code)
        assert aside(host) == []
        host.end("8b")
        host.mend(logic_id)
        host.reset_ends()
        host.later(400)


def test_an_idle_npu_that_may_not_be_reset_has_its_count_too() -> None:
    host = Host.of(8, board_id=0x60)
    host.break_(0, NPU)
    assert host.npu(0).quarantine is not None
    host.mend(0)
    host.later(30)
    host.break_(0, NPU)
    (told,) = host.did(SetAside)
    assert "second time" in told.quarantine.reason
    assert told.quarantine.since == 1000.0  # it was set aside all the time
    host.mend(0)
    host.later(WEEK_S - 1)
    assert host.is_aside(0)


def test_a_year_of_faults_does_not_fill_the_memory() -> None:
    host = Host.of(4)
    for _ in range(300):
        host.break_(0, SEPARATE)
        host.break_(0, NPU, PARITY)
        host.mend(0)
        host.later(10)
    assert len(host.npu(0).acts) <= 2 + 2 + 3


def test_an_instance_that_does_not_stop_is_not_asked_for_ever() -> None:
    host = serving()
    asked = 0
    host.break_(0, NPU)
    asked += len(stops(host))
    for _ in range(1000):
        host.later(30)
        asked += len(stops(host))
        host.see()  # it serves all the same
        asked += len(stops(host))
    assert asked == 2
    assert host.is_aside(0)


# --- links ---------------------------------------------------------------------------------------


def test_a_link_counts_after_a_while() -> None:
    host = serving()
    host.break_(2, LINK)
    host.later(19.9)
    assert not host.is_aside(2)
    host.later(0.1)
    assert aside(host) == [2]
    host.mend(2)
    host.later(59.9)
    host.break_(2, LINK)
    host.mend(2)
    host.later(59.9)
    assert host.is_aside(2)
    # The fault is over after a minute, and the quarantine a minute after that.
    host.later(0.1)
    host.later(60)
    assert ids(host.did(Release)) == [2]


def test_a_link_that_flaps_quickly_is_no_fault() -> None:
    host = serving()
    for _ in range(100):
        host.break_(0, LINK)
        host.later(15)
        host.mend(0)
        host.later(5)
        assert not host.is_aside(0)


def test_a_port_without_a_cable_is_no_fault() -> None:
    host = Host.of(2)
    host.fleet = replace(host.fleet, npus=())  # an agent that has seen nothing yet
    host.break_(0, LINK)
    host.later(1000)
    assert not host.is_aside(0)
    assert host.fleet.suspect == ""
    host.mend(0)
    host.later(100)
    host.break_(0, LINK)  # it has been seen to work
    host.later(20)
    assert aside(host) == [0]


def test_a_link_that_breaks_five_times_a_day_is_left_out_for_two_days() -> None:
    host = Host.of(4)
    for time in range(1, 6):
        host.break_(0, LINK)
        host.later(20)
        assert host.is_aside(0)
        host.mend(0)
        host.later(60)
        host.later(60)
        assert host.is_aside(0) is (time == 5)
    host.later(172_800 - 61)
    assert host.is_aside(0)
    host.later(1)
    assert not host.is_aside(0)


# --- a chip that is gone -------------------------------------------------------------------------


def test_a_chip_whose_node_is_gone() -> None:
    host = serving()
    host.set(0, device_present=False)
    assert stops(host) == ["8b"]
    assert host.did(StopInstance)[0].code == DROP
    host.end("8b")
    host.later(1000)
    assert resets(host) == []  # what is not there cannot be reset
    assert not host.unfit()[0].passing
    host.mend(0)
    assert host.unfit() == {}


def test_a_chip_that_the_driver_does_not_list_any_more() -> None:
    host = serving()
    del host.npus[0]
    host.see()
    assert stops(host) == ["8b"]
    assert "it is gone" in host.unfit()[0].reason


def test_a_card_that_dropped_is_reset_when_its_node_is_there() -> None:
    """Its health is UNKNOWN then; that it dropped is known."""
    host = serving()
    host.break_(0, DROP, health=NpuHealth.UNKNOWN)
    assert stops(host) == ["8b"]
    host.end("8b")
    assert resets(host) == [(0,)]


def test_the_drivers_words_are_kept_when_the_node_is_gone_too() -> None:
    host = serving()
    host.break_(0, DROP, device_present=False)
    (note,) = host.did(Note)
    assert note.fault.text == f"text of {DROP}"


def test_a_node_that_has_not_come_yet_is_no_fault() -> None:
    host = Host.of(4)
    host.fleet = replace(host.fleet, npus=())
    for logic_id in range(4):
        host.npus[logic_id] = replace(host.npus[logic_id], device_present=False)
    host.see()
    assert host.told == []
    assert host.fleet.suspect == ""
    assert host.unfit() == {}
    host.mend(0)
    host.set(0, device_present=False)  # it was there
    assert list(host.unfit()) == [0]


# --- reset ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "ring"),
    [
        (Host.of(8, board_id=0x33), (2,)),
        (Host.of(8, board_id=0x3C), (2,)),
        (Host.in_pairs(8, "Ascend910"), (2, 3)),
        (Host.in_pairs(8, "310P3"), (2, 3)),
    ],
)
def test_a_reset_takes_its_card(host: Host, ring: tuple[int, ...]) -> None:
    host.hold("8b", *(one for one in host.npus if one not in ring))
    host.break_(2, NPU)
    assert resets(host) == [ring]
    assert sorted(host.unfit()) == list(ring)


def test_a_reset_of_an_a3_takes_the_brother_card() -> None:
    host = Host.in_pairs(16, "Ascend910")
    host.break_(2, NPU)
    assert (resets(host), aside(host)) == ([], [2])
    assert "would take the NPUs [10, 11] with it" in host.unfit()[2].reason
    host = Host.in_pairs(16, "Ascend910", rules=build_rules(reset=ResetScope.RING))
    host.break_(2, NPU)
    assert resets(host) == [(2, 3, 10, 11)]


def test_a_chip_of_an_a3_that_is_not_listed_may_be_on_the_brother_card() -> None:
    host = Host.in_pairs(8, "Ascend910")
    host.npus[8] = unknown_npu(8, "/dev/davinci8")
    host.see()
    host.break_(2, NPU)
    assert (resets(host), aside(host)) == ([], [])  # it may be on any, so nobody knows
    host.npus[8] = build_npu(8, card_id=4, product="Ascend910")
    host.see()
    assert resets(host) == [(2, 3)]


@pytest.mark.parametrize("board_id", [0x28, 0x60, None])
def test_with_hccs_all_go_together_so_none_is_reset(board_id: int | None) -> None:
    host = serving(8, board_id=board_id)
    host.break_(0, NPU)
    assert (stops(host), resets(host), aside(host)) == (["8b"], [], [0])
    assert "would take the NPUs [1, 2, 3, 4, 5, 6, 7]" in host.unfit()[0].reason
    host.end("8b")
    host.mend(0)  # by a person, or by itself
    host.later(60)
    assert host.unfit() == {}


def test_a_ring_is_reset_when_the_user_allows_and_nothing_uses_it() -> None:
    host = serving(8, board_id=0x60, rules=build_rules(reset=ResetScope.RING))
    host.hold("7b", 5)
    host.break_(0, NPU)
    host.end("8b")
    assert (resets(host), aside(host)) == ([], [])
    host.end("7b")
    assert resets(host) == [tuple(range(8))]
    assert sorted(host.unfit()) == list(range(8))
    assert all(one.passing for one in host.unfit().values())


def test_no_reset_at_all() -> None:
    host = serving(rules=build_rules(reset=ResetScope.NEVER))
    host.break_(0, NPU)
    assert (stops(host), aside(host)) == (["8b"], [0])
    host.break_(1, FREE)
    assert (aside(host), resets(host)) == ([1], [])


@pytest.mark.parametrize(
    "busy",
    [
        {"processes": ("x",)},
        {"others": frozenset({1})},
        {"hold": Phase.STOPPING},
        {"hold": Phase.STARTING},
        {"health": NpuHealth.UNKNOWN},
    ],
)
def test_a_mate_that_is_in_use_keeps_the_card_from_a_reset(busy: dict[str, Any]) -> None:
    host = Host.in_pairs(4, "Ascend910")
    if "processes" in busy:
        host.use(1)
    if "hold" in busy:
        host.hold("7b", 1, phase=busy["hold"])
    if "health" in busy:
        host.set(1, health=busy["health"])
    host.others = busy.get("others", frozenset())
    host.break_(0, NPU)
    assert resets(host) == []
    host.later(10_000)
    assert resets(host) == []
    host.others = frozenset()
    host.holdings.clear()
    host.mend(1)
    assert resets(host) == [(0, 1)]


def test_four_tries_and_then_it_is_set_aside() -> None:
    host = Host.of(4)
    host.break_(0, NPU)
    for number in range(1, TRIES + 1):
        assert resets(host) == [(0,)], number
        host.reset_ends(ResetOutcome.FAILED if number % 2 else ResetOutcome.OK)
        host.later(COOL_DOWN_S - 0.1)
        assert host.told == []
        host.later(0.1)
    assert aside(host) == [0]
    assert "still there after 4 resets" in host.unfit()[0].reason
    for _ in range(100):
        host.later(600)
        assert resets(host) == []
    host.mend(0)
    host.later(WEEK_S)
    assert ids(host.did(Release)) == [0]


def test_after_a_good_reset_the_chip_may_still_look_ill_for_a_while() -> None:
    host = Host.of(4)
    host.break_(0, NPU)
    host.set(0, device_present=False)
    host.reset_ends()
    host.later(10)
    assert host.told == []
    assert all(fault.code != DROP for fault in host.npu(0).faults)
    host.mend(0)
    assert host.unfit() == {}


def test_a_chip_that_does_not_come_back_from_its_reset_is_gone() -> None:
    host = Host.of(4)
    host.break_(0, NPU)
    host.set(0, device_present=False)
    host.reset_ends(ResetOutcome.FAILED)
    host.later(COOL_DOWN_S)
    assert "it is gone" in host.unfit()[0].reason
    assert resets(host) == []


def test_what_could_not_begin_is_no_try() -> None:
    host = Host.of(4)
    host.break_(0, NPU)
    for _ in range(10):
        assert host.npu(0).tries == 1
        host.reset_ends(ResetOutcome.BUSY)
        assert host.npu(0).tries == 0
        host.later(BUSY_AGAIN_MAX_S)
        assert resets(host) == [(0,)]
    assert not host.is_aside(0)


def test_a_busy_chip_is_asked_for_soon_and_then_less_and_less() -> None:
    """What has it is most often an engine on its way down; after a reset the pause is as ever."""
    host = Host.of(4)
    host.break_(0, NPU)
    for wait_s in (2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0):
        host.reset_ends(ResetOutcome.BUSY)
        host.later(wait_s - 0.1)
        assert resets(host) == []
        host.later(0.1)
        assert resets(host) == [(0,)]
    host.reset_ends(ResetOutcome.FAILED)
    host.later(COOL_DOWN_S - 0.1)
    assert resets(host) == []


def test_a_busy_chip_keeps_no_other_from_its_reset() -> None:
    """A monitor may have the node of NPU 0 open for months; NPU 1 is idle."""
    host = Host.of(4)
    host.break_(0, NPU)
    host.break_(1, NPU)
    asked = []
    for _ in range(12):
        assert host.fleet.reset is not None
        asked.append(host.fleet.reset.npus)
        host.reset_ends(ResetOutcome.BUSY if asked[-1] == (0,) else ResetOutcome.FAILED)
        host.later(BUSY_AGAIN_MAX_S)
    assert asked.count((1,)) == TRIES
    assert host.is_aside(1)
    host.reset_ends(ResetOutcome.BUSY)
    host.later(BUSY_AGAIN_MAX_S - 1)
    assert resets(host) == []  # its own pause goes on as before
    host.mend(0)
    host.later(0)
    host.break_(0, NPU)
    assert host.npu(0).busy == 0


def test_after_a_reset_that_was_none_the_next_chip_has_its_turn_at_once() -> None:
    host = Host.of(4)
    host.break_(0, NPU)
    host.break_(1, NPU)
    host.reset_ends(ResetOutcome.BUSY)
    assert resets(host) == [(1,)]
    host.reset_ends(ResetOutcome.BUSY)
    assert resets(host) == []
    host.later(2.0)
    assert resets(host) == [(0,)]


def test_what_is_refused_is_not_asked_again() -> None:
    host = Host.of(4)
    host.break_(0, NPU)
    host.reset_ends(ResetOutcome.REFUSED)
    assert aside(host) == [0]
    host.later(10_000)
    assert resets(host) == []
    host.mend(0)
    host.later(60)
    assert host.unfit() == {}


def test_a_reset_whose_end_nobody_tells() -> None:
    host = Host.of(4)
    host.break_(0, NPU)
    host.later(LOST_S - 1)
    assert host.told == []
    host.later(1)
    host.later(COOL_DOWN_S)
    assert resets(host) == [(0,)]
    assert host.npu(0).tries == 2


def test_the_end_of_another_reset_is_not_ours() -> None:
    """Of one that the agent before this one had asked for."""
    host = Host.of(4)
    host.break_(0, NPU)
    host.feed(ResetEnded((1,), ResetOutcome.OK))
    assert host.fleet.reset is not None
    host.reset_ends()
    host.feed(ResetEnded((0,), ResetOutcome.REFUSED))
    assert not host.is_aside(0)


def test_one_reset_at_a_time() -> None:
    host = Host.of(8)
    host.break_(0, NPU)
    host.break_(1, NPU)
    assert resets(host) == []
    host.mend(0)
    host.reset_ends()
    host.later(COOL_DOWN_S)
    assert resets(host) == [(1,)]


def test_a_mate_in_quarantine_is_not_released_by_what_it_says_in_a_reset() -> None:
    host = Host.in_pairs(4, "Ascend910", rules=build_rules(release_after_s=60.0))
    host.break_(1, SEPARATE)
    host.mend(1)
    host.break_(0, NPU)
    assert resets(host) == [(0, 1)]
    host.break_(1, SEPARATE)
    host.later(100)
    assert host.did(Release) == []
    host.reset_ends()
    host.later(COOL_DOWN_S)
    assert host.is_aside(1)


def test_an_npu_whose_link_is_down_for_a_moment_is_not_released() -> None:
    host = Host.of(4)
    host.break_(0, LINK)
    host.later(20)
    host.mend(0)
    host.later(60)
    host.break_(0, LINK)
    host.later(19)
    host.mend(0)
    host.later(59)
    assert host.is_aside(0)
    host.later(1)
    assert not host.is_aside(0)


# --- nothing is done without knowing -------------------------------------------------------------


@pytest.mark.parametrize("driver", [DriverState.UNKNOWN, DriverState.FAILED, DriverState.ABSENT])
def test_a_driver_that_does_not_answer_is_no_reason(driver: DriverState) -> None:
    host = serving()
    host.break_(2, SEPARATE)
    host.break_(0, REQUEST)
    holdings = tuple(host.holdings.values())
    host.feed(NpusSeen(silent(driver), holdings))
    for _ in range(20):
        host.later(DAY_S)
        assert host.told == []
    assert sorted(host.unfit()) == [2]
    host.see()
    assert stops(host) == ["8b"]  # it has lasted, as is seen now


def test_nothing_lasts_while_the_driver_is_silent() -> None:
    host = Host.of(4)
    for logic_id in range(4):
        host.break_(logic_id, LINK)
    host.feed(NpusSeen(silent(DriverState.UNKNOWN), ()))
    host.later(1000)
    assert (host.told, host.fleet.suspect) == ([], "")
    for logic_id in range(4):
        host.npus[logic_id] = replace(host.npus[logic_id], faults=())
    host.see()
    assert {type(one) for one in host.told} == {Note}
    assert host.fleet.suspect == ""


def test_a_chip_of_unknown_health_is_no_reason() -> None:
    host = serving()
    for logic_id in range(4):
        host.set(logic_id, health=NpuHealth.UNKNOWN, reason="probe hangs: get_device_health")
    host.later(DAY_S)
    assert host.told == []
    assert host.fleet.suspect == ""


def test_what_is_known_stays_in_force_while_the_probe_hangs() -> None:
    host = serving()
    host.break_(0, REQUEST)
    host.set(0, faults=(), health=NpuHealth.UNKNOWN)
    host.later(600)
    assert (stops(host), host.did(Note)) == ([], [])
    assert [fault.code for fault in host.npu(0).faults] == [REQUEST]
    host.break_(0, REQUEST, health=NpuHealth.ALARM)
    assert stops(host) == ["8b"]


def test_a_quarantine_does_not_end_while_nothing_is_known() -> None:
    host = Host.of(4)
    host.break_(0, SEPARATE)
    host.mend(0)
    host.later(WEEK_S / 2)
    host.set(0, health=NpuHealth.UNKNOWN)
    host.later(WEEK_S)
    assert host.is_aside(0)
    host.mend(0)
    assert ids(host.did(Release)) == [0]


def test_health_alone_is_no_fault() -> None:
    """The planner does not take it; what serves on it is left to its probe."""
    host = serving()
    host.set(0, health=NpuHealth.CRITICAL)
    host.later(DAY_S)
    assert host.told == []


@pytest.mark.parametrize("code", [REQUEST, NPU, SEPARATE])
def test_what_has_happened_and_does_not_last_is_only_told(code: str) -> None:
    host = serving()
    host.set(0, faults=(NpuFault(code, FaultSeverity.MAJOR, "x", 1.0, one_off=True),))
    assert [type(one) for one in host.told] == [Note]
    host.later(60)
    host.mend(0)
    assert host.told == []
    host.set(0, faults=(NpuFault(code, FaultSeverity.MAJOR, "x", 1.0, one_off=True),))
    host.break_(0, code)  # now it stays
    at_once = stops(host)
    host.later(60)
    assert [*at_once, *stops(host)] == ["8b"]


def test_what_lasted_and_only_happens_now_is_over() -> None:
    host = serving()
    host.break_(0, REQUEST)
    host.later(30)
    host.set(0, faults=(NpuFault(REQUEST, FaultSeverity.MAJOR, "x", 1.0, one_off=True),))
    host.later(100)
    assert host.told == []
    assert [fault.one_off for fault in host.npu(0).faults] == [True]


# --- the host ------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [SEPARATE, NPU, FREE, BUSINESS, "DEADBEEF", ""])
def test_all_at_once_is_not_the_npus(code: str) -> None:
    host = Host.of(8)
    host.hold("8b", 0)
    for logic_id in range(8):
        faults = (build_fault(code),) if code else ()
        change: dict[str, Any] = {"faults": faults} if code else {"device_present": False}
        host.npus[logic_id] = replace(host.npus[logic_id], **change)
    host.see()
    assert [one.reason for one in host.did(SuspectHost)] == ["8 of 8 NPUs failed at once"]
    for _ in range(100):
        host.later(60)
        assert host.told == []
    host.end("8b")
    host.later(1000)
    assert (host.told, host.unfit()) == ([], {})
    for logic_id in range(8):
        host.mend(logic_id)
    assert host.fleet.suspect == ""


def test_one_after_the_other_within_five_minutes() -> None:
    """What was done about the first ones is taken back."""
    host = Host.of(8)
    host.hold("8b", 0)
    for logic_id in range(4):
        host.break_(logic_id, SEPARATE)
        assert aside(host) == [logic_id]
        host.later(60)
    host.break_(4, SEPARATE)
    assert len(host.did(SuspectHost)) == 1
    assert (aside(host), ids(host.did(Release))) == ([], [0, 1, 2, 3])
    assert host.unfit() == {}
    for logic_id in range(4):
        host.mend(logic_id)
    host.later(400)
    assert host.fleet.suspect == ""
    assert aside(host) == [4]  # it is that one


def test_slowly_it_is_the_npus() -> None:
    host = Host.of(8)
    for logic_id in range(8):
        host.break_(logic_id, SEPARATE)
        assert aside(host) == [logic_id]
        host.later(76)
    assert host.fleet.suspect == ""


def test_a_quarantine_from_before_stays_while_the_host_is_suspected() -> None:
    host = Host.of(4)
    host.break_(0, SEPARATE)
    host.later(1000)
    host.feed(QuarantineAsked((1,), "root"))
    host.break_(0, SEPARATE, "DEADBEEF")  # hit anew
    for logic_id in (1, 2, 3):
        host.break_(logic_id, SEPARATE)
    assert host.fleet.suspect
    assert sorted(host.unfit()) == [0, 1]


@pytest.mark.parametrize("number", [1, 2])
def test_one_card_is_not_the_host(number: int) -> None:
    host = Host.in_pairs(number, "310P3")
    for logic_id in range(number):
        host.break_(logic_id, SEPARATE)
    assert host.fleet.suspect == ""
    assert all(host.is_aside(one) for one in range(number))


def test_memory_that_no_reset_frees_is_waited_for() -> None:
    """Until it is free, by a reboot most likely; not for a week."""
    host = Host.of(2)
    host.break_(0, LEFT)
    for _ in range(TRIES):
        host.reset_ends(ResetOutcome.FAILED)
        host.later(COOL_DOWN_S)
    assert aside(host) == [0]
    host.later(WEEK_S)
    assert host.is_aside(0)
    host.mend(0)
    host.later(60)
    assert not host.is_aside(0)


def test_memory_that_is_left_again_and_again() -> None:
    host = Host.of(2)
    for _ in range(4):
        host.break_(0, LEFT)
        assert not host.is_aside(0)
        host.reset_ends()
        host.mend(0)
        host.later(3600)
    host.break_(0, LEFT)
    assert (host.is_aside(0), host.fleet.reset) == (True, None)
    host.mend(0)
    host.later(60)
    assert not host.is_aside(0)


def test_memory_that_one_engine_left_on_all_its_npus_is_not_the_host() -> None:
    host = Host.of(4)
    for npu in range(4):
        host.break_(npu, LEFT)
    assert host.fleet.suspect == ""
    assert host.fleet.reset is not None
    assert host.fleet.reset.npus == (0,)  # one after the other
    for npu in range(1, 4):
        host.break_(npu, SEPARATE)
    assert host.fleet.suspect


def test_memory_that_is_left_does_not_keep_the_host_suspected() -> None:
    host = Host.of(4)
    for npu in range(4):
        host.break_(npu, SEPARATE)
    assert host.fleet.suspect
    for npu in range(3):
        host.mend(npu)
        host.break_(npu, LEFT)
    host.later(301)
    assert host.fleet.suspect == ""


def test_two_of_two_are_the_host() -> None:
    host = Host.of(2)
    host.npus[0] = replace(host.npus[0], faults=(build_fault(SEPARATE),))
    host.break_(1, SEPARATE)
    assert host.fleet.suspect


def test_a_person_says_that_the_host_is_well() -> None:
    host = Host.of(4)
    for logic_id in range(4):
        host.npus[logic_id] = replace(host.npus[logic_id], faults=(build_fault(SEPARATE),))
    host.see()
    assert host.told
    host.feed(HostCleared("root"))
    assert [one.reason for one in host.did(TrustHost)] == ["root says so"]
    assert aside(host) == [0, 1, 2, 3]
    host.later(10)
    assert host.fleet.suspect == ""


# --- a person ------------------------------------------------------------------------------------


def test_a_person_sets_an_npu_aside_and_takes_it_back() -> None:
    host = serving()
    host.feed(QuarantineAsked((0, 3), "root", "noisy fan"))
    assert (aside(host), stops(host)) == ([0, 3], [])
    assert host.unfit()[3].reason == "set aside: noisy fan"
    host.later(100 * WEEK_S)
    assert host.is_aside(3)
    host.feed(ClearAsked((0, 3), "root"))
    assert ids(host.did(Release)) == [0, 3]
    assert host.unfit() == {}


def test_a_person_knows_better_until_the_fault_comes_again() -> None:
    host = Host.of(4)
    host.break_(0, SEPARATE)
    host.feed(ClearAsked((0,), "root"))
    host.later(DAY_S)
    assert (host.unfit(), host.told) == ({}, [])
    host.mend(0)
    host.break_(0, SEPARATE)
    assert aside(host) == [0]


def test_what_a_person_set_aside_is_not_reset() -> None:
    host = Host.of(4)
    host.feed(QuarantineAsked((0,), "root"))
    host.break_(0, NPU)
    host.later(1000)
    assert resets(host) == []
    assert host.unfit()[0].reason == "set aside: root wants it"


# --- most of them at once, one after the other ----------------------------------------------------


def gathering(number: int) -> Host:
    return Host.of(number, rules=replace(build_rules(), gather_s=GATHER_S))


def test_nobody_acts_on_the_first_of_many() -> None:
    """Events come one by one; the instances on the first NPUs are not stopped before it is seen
    that it is the host."""
    host = gathering(8)
    for npu in range(8):
        host.hold(f"i{npu}", npu)
    for npu in range(8):
        host.now += 0.02
        assert host.break_(npu, SEPARATE) != []
        assert host.did(StopInstance) == []
        assert host.did(SetAside) == []
    assert host.fleet.suspect
    host.later(10)
    assert host.did(StopInstance) == []
    assert not any(host.is_aside(npu) for npu in range(8))


def test_one_alone_is_acted_upon_after_a_moment() -> None:
    host = gathering(8)
    host.hold("8b", 0)
    host.break_(0, SEPARATE)
    assert host.did(StopInstance) == []
    assert gathered_at(host.fleet, host.now, host.rules) == pytest.approx(host.now + GATHER_S)
    host.later(GATHER_S - 0.01)
    assert host.did(StopInstance) == []
    host.later(0.01)
    assert [one.instance for one in host.did(StopInstance)] == ["8b"]
    assert gathered_at(host.fleet, host.now, host.rules) == float("inf")


def test_no_reset_on_the_first_of_many() -> None:
    host = gathering(4)
    host.break_(0, NPU)
    assert resets(host) == []
    host.later(GATHER_S)
    assert resets(host) == [(0,)]
