# SPDX-License-Identifier: MulanPSL-2.0
"""No model waits for ever for an NPU without which it could be served."""

from collections.abc import Iterable
from dataclasses import replace

import pytest

from agent.errors import Code, Failure
from agent.model import (
    ABSENT,
    NOT_LISTED,
    DriverState,
    Npu,
    NpuHealth,
    Phase,
    ProductLine,
    ResetOutcome,
)
from agent.npud.devices import Devices
from agent.npud.inventory import NODE_NOT_TOLD, unknown_npu, with_devices
from agent.plan.demand import Choice, Demand
from agent.plan.npus import choose_npus
from agent.policy.npu.kept import recall_fleet, remember_fleet
from agent.policy.npu.lost import PATIENCE_S
from agent.policy.npu.reset import BUSY_AGAIN_MAX_S, COOL_DOWN_S, TRIES
from agent.policy.npu.state import ClearAsked, NpusSeen, ResetNpus
from tests.build import NPU_MEMORY_MIB, build_inventory, build_npu
from tests.npus import Host, silent

NPU = "80FA4E00"  # RestartNPU
FREE = "8C084E00"  # FreeRestart
DROP = "40F84E00"
SEPARATE = "80E18402"


def plan(host: Host, wanted: str | tuple[int, ...] = "all") -> tuple[int, ...] | Code:
    """Which NPUs a model gets that could do with one of them."""
    inventory = build_inventory(host.npus.values(), board_id=host.board_id)
    demand = Demand(wanted, (ProductLine.A2, ProductLine.A3), 64, 8, NPU_MEMORY_MIB)
    choice = choose_npus(demand, inventory, {}, host.unfit(), host.fleet.suspect)
    if isinstance(choice, Failure):
        return choice.code
    assert isinstance(choice, Choice)
    return tuple(npu.logic_id for npu in choice.npus)


def busy_for(host: Host, seconds: float) -> None:
    """Each reset of it turns out to be impossible."""
    end = host.now + seconds
    while host.now < end:
        if host.fleet.reset is not None:
            host.reset_ends(ResetOutcome.BUSY)
        host.later(min(BUSY_AGAIN_MAX_S, end - host.now))


# --- a reset that does not come ------------------------------------------------------------------


def test_a_chip_that_hangs_after_a_reset_that_failed() -> None:
    host = Host.of(8)
    host.break_(0, NPU)
    host.reset_ends(ResetOutcome.FAILED)
    host.set(0, health=NpuHealth.UNKNOWN, faults=(), reason="probe hangs: x")
    host.later(COOL_DOWN_S)
    host.later(PATIENCE_S - 1)
    assert plan(host) is Code.NPU_RESETTING
    host.later(1)
    assert plan(host) == (1, 2, 3, 4)
    assert not host.is_aside(0)
    host.mend(0)
    assert plan(host) == tuple(range(8))


def test_so_does_one_whose_fault_the_agent_before_had_seen() -> None:
    host = Host.of(8)
    host.break_(0, NPU)
    host.fleet = recall_fleet(remember_fleet(host.fleet, host.now, 1e9), host.now, 1e9)
    host.set(0, health=NpuHealth.UNKNOWN, faults=(), reason="probe hangs: x")
    host.later(COOL_DOWN_S)
    host.later(PATIENCE_S)
    assert plan(host) == (1, 2, 3, 4)


def test_a_reset_that_is_always_impossible_is_asked_for_on_and_on() -> None:
    """A worker in D state, a monitor that keeps the node open, a driver that cannot say who uses
    a chip that dropped."""
    host = Host.of(8)
    host.break_(0, DROP, health=NpuHealth.UNKNOWN)
    host.reset_ends(ResetOutcome.BUSY)
    busy_for(host, PATIENCE_S - 1)
    assert plan(host) is Code.NPU_RESETTING
    busy_for(host, 1)
    assert plan(host) == (1, 2, 3, 4)
    assert host.fleet.reset is not None  # the next one
    assert host.fleet.reset.npus == (0,)
    assert plan(host) == (1, 2, 3, 4)  # no waiting anew each minute
    host.reset_ends(ResetOutcome.FAILED)
    assert plan(host) is Code.NPU_RESETTING  # that was one, and there are more to come
    for _ in range(TRIES - 1):
        host.later(COOL_DOWN_S)
        host.reset_ends(ResetOutcome.FAILED)
    host.later(COOL_DOWN_S)
    assert host.is_aside(0)
    assert plan(host) == (1, 2, 3, 4)


def test_an_npu_that_somebody_else_uses() -> None:
    host = Host.of(8)
    host.others = frozenset({0})
    host.break_(0, FREE)
    host.later(PATIENCE_S)
    assert plan(host) == (1, 2, 3, 4)
    host.others = frozenset()
    host.see()
    assert [one.npus for one in host.did(ResetNpus)] == [(0,)]
    assert plan(host) is Code.NPU_RESETTING


def test_a_model_of_ours_keeps_its_npu() -> None:
    host = Host.of(8)
    host.hold("8b", 0)
    host.break_(0, FREE)
    host.later(10 * PATIENCE_S)
    assert host.unfit()[0].passing
    host.hold("8b", 0, phase=Phase.STOPPING)
    host.end("8b")
    assert len(host.did(ResetNpus)) == 1
    assert plan(host) is Code.NPU_RESETTING


def test_who_only_has_to_wait_for_the_others_is_waited_for() -> None:
    host = Host.of(8)
    host.break_(0, NPU)
    host.break_(1, NPU)
    host.later(PATIENCE_S - 1)
    host.mend(0)
    host.reset_ends()
    host.later(COOL_DOWN_S)
    assert [one.npus for one in host.did(ResetNpus)] == [(1,)]
    assert host.unfit()[1].passing


def test_no_time_is_counted_while_the_driver_is_silent() -> None:
    host = Host.of(8)
    host.use(0)
    host.break_(0, NPU)
    host.feed(NpusSeen(silent(DriverState.UNKNOWN), ()))
    host.later(10 * PATIENCE_S)
    assert host.unfit()[0].passing
    host.see()
    host.later(PATIENCE_S - 1)
    assert host.unfit()[0].passing
    host.later(1)
    assert not host.unfit()[0].passing
    host.feed(NpusSeen(silent(DriverState.UNKNOWN), ()))
    assert not host.unfit()[0].passing


# --- over a restart of the agent -----------------------------------------------------------------


def restart(host: Host) -> None:
    """Nothing has been seen yet."""
    host.fleet = recall_fleet(remember_fleet(host.fleet, host.now, 1e9), host.now, 1e9)
    host.feed(NpusSeen(silent(DriverState.UNKNOWN), ()))


def test_what_is_lost_is_so_for_the_next_agent() -> None:
    host = Host.of(8)
    host.set(3, health=NpuHealth.UNKNOWN, reason=ABSENT)
    host.later(PATIENCE_S)
    for _ in range(2):
        restart(host)
        assert host.unfit()[3].reason == ABSENT
        host.see()
        assert plan(host) == (0, 1, 2, 4)
    restart(host)
    host.mend(3)
    assert plan(host) == tuple(range(8))


def test_so_is_one_that_did_not_come_up_at_this_boot_either() -> None:
    host = Host.of(8)
    host.set(7, health=NpuHealth.UNKNOWN, reason=ABSENT)
    host.later(PATIENCE_S)
    restart(host)
    del host.npus[7]  # nobody tells of it, and behind the last one there is no gap
    host.see()
    host.later(1)
    assert plan(host) == (0, 1, 2, 3)
    host.feed(ClearAsked((7,), "root"))  # it was taken out
    assert plan(host) is Code.NPU_TOO_FEW  # seven are what there is


def test_one_whose_reset_is_impossible_is_not_waited_for_anew() -> None:
    host = Host.of(8)
    host.others = frozenset({0})
    host.break_(0, NPU)
    host.later(PATIENCE_S)
    host.others = frozenset()
    restart(host)
    host.see()
    assert [one.npus for one in host.did(ResetNpus)] == [(0,)]
    assert plan(host) == (1, 2, 3, 4)
    host.reset_ends(ResetOutcome.BUSY)
    assert plan(host) == (1, 2, 3, 4)
    host.mend(0)
    assert plan(host) == tuple(range(8))


# --- not there from the start --------------------------------------------------------------------


@pytest.mark.parametrize("reason", [ABSENT, NOT_LISTED])
def test_a_chip_that_the_driver_calls_absent(reason: str) -> None:
    host = Host.of(8)
    host.set(3, health=NpuHealth.UNKNOWN, reason=reason)
    host.later(PATIENCE_S - 1)
    assert (host.unfit(), plan(host)) == ({}, Code.NPU_TOO_FEW)
    host.later(1)
    assert host.unfit()[3].reason == reason
    assert plan(host) == plan(host, tuple(range(8))) == (0, 1, 2, 4)
    host.feed(ClearAsked((3,), "root"))
    assert plan(host) == (0, 1, 2, 4)  # nobody can have it
    host.mend(3)
    assert plan(host) == tuple(range(8))


def test_a_node_that_never_came() -> None:
    host = Host({one: build_npu(one) for one in range(8)})
    host.set(3, device_present=False)
    host.later(PATIENCE_S - 1)
    assert plan(host) is Code.NPU_DEVICE_MISSING
    host.later(1)
    assert plan(host) == (0, 1, 2, 4)
    assert plan(host, (0, 8)) is Code.NPU_UNKNOWN  # a mistake stays one
    host.mend(3)
    assert plan(host) == tuple(range(8))


def test_a_node_whose_chip_the_driver_has_never_listed() -> None:
    host = Host({one: build_npu(one) for one in range(8)})
    host.npus[3] = unknown_npu(3, "/dev/davinci3")
    host.see()
    host.later(PATIENCE_S - 1)
    assert plan(host) is Code.NPU_TOO_FEW
    host.later(1)
    assert plan(host) == (0, 1, 2, 4)


def by_npud(npus: Iterable[Npu], nodes: Iterable[int]) -> dict[int, Npu]:
    """As npud joins them with the device nodes."""
    seen = with_devices(build_inventory(npus), Devices("/dev", frozenset(nodes)))
    return {npu.logic_id: npu for npu in seen.npus}


def test_a_chip_that_did_not_come_up_at_boot() -> None:
    """Nobody tells of it: there is a gap."""
    there = [0, 1, 2, 4, 5, 6, 7]
    host = Host(by_npud(map(build_npu, there), there))
    host.see()
    host.later(PATIENCE_S - 1)
    assert plan(host) is plan(host, tuple(range(8))) is Code.NPU_DEVICE_MISSING
    host.later(1)
    assert host.unfit()[3].reason == "/dev/davinci3 does not exist"
    assert plan(host) == plan(host, tuple(range(8))) == (0, 1, 2, 4)
    host.npus = by_npud(map(build_npu, range(8)), range(8))
    host.see()
    assert plan(host) == tuple(range(8))


def test_one_that_is_gone_and_not_told_of_any_more_is_known_as_before() -> None:
    host = Host.of(8)
    there = [0, 1, 2, 4, 5, 6, 7]
    host.npus = by_npud(map(build_npu, there), there)
    host.see()
    state = host.npu(3)
    assert state.npu is not None
    assert (state.npu.card_id, state.npu.device_present) == (3, False)
    assert [fault.code for fault in state.faults] == [DROP]


def test_whose_node_the_driver_does_not_tell_is_lost_for_that_reason() -> None:
    guessed = [replace(build_npu(one), node_told=False) for one in range(7)]
    host = Host(by_npud(guessed, [0, 1, 2, 3, 4, 5, 7]))
    host.see()
    host.later(PATIENCE_S)
    assert {one: unfit.reason for one, unfit in host.unfit().items()} == {
        6: "/dev/davinci6 does not exist",
        7: NODE_NOT_TOLD,
    }
    assert plan(host) == (0, 1, 2, 3)


def test_a_chip_of_which_nothing_is_known_is_not_absent() -> None:
    host = Host.of(8)
    host.set(3, health=NpuHealth.UNKNOWN, reason="probe hangs: get_device_health")
    host.later(100 * PATIENCE_S)
    assert host.unfit() == {}


def test_most_of_them_are_not_absent_at_once() -> None:
    host = Host.of(8)
    for one in range(5):
        host.npus[one] = replace(host.npus[one], health=NpuHealth.UNKNOWN, reason=ABSENT)
    host.see()
    host.later(100 * PATIENCE_S)
    assert host.unfit() == {}


def test_an_instance_on_a_chip_that_is_called_absent_keeps_it() -> None:
    host = Host.of(8)
    host.hold("8b", 3)
    host.set(3, health=NpuHealth.UNKNOWN, reason=ABSENT)
    host.later(100 * PATIENCE_S)
    assert host.unfit() == {}
