# SPDX-License-Identifier: MulanPSL-2.0
"""NPUs that fail under a serving agent: what is stopped, reset, set aside, shown, left alone."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from agent.config.values import Mode
from agent.control.events import OBSERVED
from agent.control.thinning import TOLD
from agent.errors import AgentError, Code
from agent.model import (
    FaultSeverity,
    Inventory,
    NpuFault,
    NpuHealth,
    NpuProcess,
    Phase,
    ResetOutcome,
    engine_unit,
)
from agent.policy.npu import reset as resets
from agent.ports import ResetOrder, ResetReport
from tests.build import build_container, build_inventory, build_npu
from tests.fakes.bus import PrivateBus
from tests.npus import shipped_catalogue
from tests.scenario.test_lifecycle import serve
from tests.scenario.world import Agent, Play, World, host, play, running, until

ENGINE = engine_unit("8b")
SEPARATE, RESTART_NPU, NOT_HANDLE = "80E18402", "80FA4E00", "80E01809"
PARITY = "80E18005"  # RestartNPU as well
NO_HCCS = 0x33


def ill(logic_id: int, code: str, number: int = 2) -> Inventory:
    fault = NpuFault(code, FaultSeverity.CRITICAL, f"words about {code}", 1_700_000_000.0)
    npus = [build_npu(one, faults=(fault,) if one == logic_id else ()) for one in range(number)]
    return build_inventory(npus, board_id=NO_HCCS)


def well(number: int = 2) -> Inventory:
    return build_inventory(number, board_id=NO_HCCS)


@pytest.fixture(name="npus")
def _npus(world: World) -> World:
    """8b serves on NPU 0 of two, each of which is reset for itself."""
    world.inventory = well()
    world.faults = shipped_catalogue()
    return world


def npu_kinds(agent: Agent) -> list[str]:
    events = agent.controller.board.snapshot.events
    return [event.kind for event in events if event.npu is not None]


def play_adopting(world: World, scenario: Play) -> None:
    """8b runs on NPU 0 already when the agent comes."""

    async def whole() -> None:
        async with host(world):
            world.run_engine("8b", 0)
            async with running(world) as agent:
                await scenario(world, agent)

    asyncio.run(whole())


def test_a_lost_npu_is_left_for_a_spare_at_once(npus: World) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        await serve(world, agent)
        assert agent.view().npus == (0,)
        agent.see(ill(0, SEPARATE))
        await until(lambda: agent.view().npus == (1,))
        await agent.reach(Phase.SERVING)
        assert npu_kinds(agent) == ["npu-fault", "npu-set-aside", "npu-lost"]
        assert agent.kinds()[-5:] == ["npu-lost", "stopping", "starting", "loading", "serving"]
        assert agent.view().restarts == 1
        assert agent.view().failures == 0  # no backoff: it was not the engine's fault
        (view, _) = agent.controller.board.snapshot.npus
        assert view.quarantine is not None
        assert view.quarantine.code == SEPARATE
        assert [fault.name_en for fault in view.faults] != [""]

    play(npus, scenario)


def test_events_have_evidence(npus: World) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        await serve(world, agent)
        agent.see(ill(0, NOT_HANDLE))
        await until(lambda: npu_kinds(agent) == ["npu-fault"])
        event = next(one for one in agent.controller.board.snapshot.events if one.npu is not None)
        assert event.npu == 0
        assert event.evidence is not None
        assert [fault.text for fault in event.evidence.faults] == [f"words about {NOT_HANDLE}"]
        assert NOT_HANDLE in event.message
        assert "(NotHandle)" in event.message
        assert agent.view().phase is Phase.SERVING
        assert world.acted().count(("StopUnit", ENGINE)) == 0

    play(npus, scenario)


def test_a_fault_that_comes_and_goes_does_not_push_out_all_else(npus: World) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        await serve(world, agent)
        for _ in range(3 * TOLD):
            agent.see(ill(1, NOT_HANDLE))
            await until(lambda: agent.controller.board.snapshot.npus[1].faults)
            agent.see(well())
            await until(lambda: not agent.controller.board.snapshot.npus[1].faults)
        assert npu_kinds(agent) == ["npu-fault", "npu-fault-over"] * TOLD
        events = [one for one in agent.controller.board.snapshot.events if one.npu == 1]
        assert [one.message.endswith("minutes") for one in events[-3:]] == [False, True, True]

    play(npus, scenario)


def test_without_a_spare_it_waits_for_the_reset(npus: World) -> None:
    npus.inventory = well(1)

    async def scenario(world: World, agent: Agent) -> None:
        def reset(order: ResetOrder) -> ResetReport:
            assert world.engine() != "active"
            agent.see(well(1))
            return ResetReport(ResetOutcome.OK, "boot status 16")

        world.npud.on_reset = reset
        world.npud.before_reset = lambda: agent.reach(Phase.WAITING)
        await serve(world, agent)
        agent.see(ill(0, RESTART_NPU, 1))
        await until(lambda: "npu-reset-ended" in npu_kinds(agent))
        await agent.reach(Phase.SERVING)
        assert world.npud.resets == [ResetOrder(0, (0,), (RESTART_NPU,))]
        assert "waiting" in agent.kinds()
        assert world.acted().count(("StopUnit", ENGINE)) == 1

    play(npus, scenario)


def test_a_chip_is_not_reset_while_a_process_is_on_it(npus: World) -> None:
    """The driver's list is up to a minute old: it is read anew until the chip is free."""
    busy = ill(0, RESTART_NPU)
    npu = replace(busy.npus[0], processes=(NpuProcess(4711, "python", 30_000),))
    busy = replace(busy, npus=(npu, busy.npus[1]))

    async def scenario(world: World, agent: Agent) -> None:
        world.npud.on_reset = lambda order: ResetReport(ResetOutcome.OK, "boot status 16")
        await serve(world, agent)
        agent.see(busy)
        await until(lambda: agent.view().npus == (1,))
        await until(lambda: world.npud.refreshes > 0)
        assert world.npud.resets == []
        agent.see(ill(0, RESTART_NPU))
        await until(lambda: world.npud.resets)

    play(npus, scenario)


def test_the_next_fault_is_told_like_the_first(
    npus: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reset was not possible, and is needed no more; weeks later another one is."""
    monkeypatch.setattr(resets, "BUSY_AGAIN_S", 0.05)
    npus.npud.on_reset = lambda order: ResetReport(ResetOutcome.BUSY, "the driver is busy")
    told = ["npu-fault", "npu-reset", "npu-reset-ended"]

    async def scenario(world: World, agent: Agent) -> None:
        agent.see(ill(1, RESTART_NPU))
        await until(lambda: len(world.npud.resets) >= 3)
        assert npu_kinds(agent) == told  # that it stays so is no news
        agent.see(well())
        await until(lambda: "npu-fault-over" in npu_kinds(agent))
        agent.see(ill(1, PARITY))
        await until(lambda: npu_kinds(agent) == [*told, "npu-fault-over", *told])

    play(npus, scenario)


def test_a_foreign_container_keeps_its_npu(npus: World) -> None:
    """Nobody but Podman knows of it: found when the reset is about to be done, told once, and not
    asked again for some minutes."""

    async def scenario(world: World, agent: Agent) -> None:
        world.podman.containers["train"] = build_container("train", "/dev/davinci1")
        agent.see(ill(1, RESTART_NPU))
        await until(lambda: "npu-reset-ended" in npu_kinds(agent))
        event = agent.controller.board.snapshot.events[-1]
        assert "container train has NPU 1" in event.message
        assert world.npud.resets == []
        await until(lambda: agent.controller.desk.fleet.others == {1})

    play(npus, scenario)


def test_a_start_that_took_the_npu_goes_before_the_reset(npus: World) -> None:
    """The plan was made before the fault came: its claim is seen, the start ends, and goes on to
    the spare NPU; nothing is reset under it."""

    async def scenario(world: World, agent: Agent) -> None:
        world.npud.on_reset = lambda order: ResetReport(ResetOutcome.OK, "boot status 16")
        world.systemd.jobs[ENGINE].after_s = 0.3
        world.start()
        await until(lambda: agent.controller._worker.claims.get("8b") == (0,))
        agent.see(ill(0, RESTART_NPU))
        await until(lambda: agent.view().npus == (1,))
        await agent.reach(Phase.SERVING)
        await until(lambda: world.npud.resets)
        stops = [at for at, one in enumerate(world.acted()) if one == ("StopUnit", ENGINE)]
        assert len(stops) == 1

    play(npus, scenario)


def test_others_are_not_touched(tmp_path: Path, bus: PrivateBus) -> None:
    two = World(tmp_path, bus, profiles=("8b", "7b"), faults=shipped_catalogue())
    two.inventory = well(3)

    async def scenario(world: World, agent: Agent) -> None:
        for name in ("8b", "7b"):
            world.start(name)
            await agent.reach(Phase.SERVING, name)
        agent.see(ill(agent.view("8b").npus[0], SEPARATE, 3))
        await until(lambda: agent.view("8b").npus == (2,))
        await agent.reach(Phase.SERVING)
        assert agent.kinds("7b").count("serving") == 1
        assert agent.view("7b").phase is Phase.SERVING
        assert world.acted().count(("StopUnit", engine_unit("7b"))) == 0

    play(two, scenario)


def test_all_at_once_is_the_host(npus: World) -> None:
    fault = NpuFault(SEPARATE, FaultSeverity.CRITICAL, "words", 1_700_000_000.0)
    npus.inventory = well(4)

    async def scenario(world: World, agent: Agent) -> None:
        await serve(world, agent)
        agent.see(build_inventory([build_npu(one, faults=(fault,)) for one in range(4)]))
        await until(lambda: agent.controller.board.snapshot.host_suspect)
        assert agent.view().phase is Phase.SERVING
        assert world.acted().count(("StopUnit", ENGINE)) == 0
        agent.see(well(4))
        await agent.requests.trust_host("root")
        assert agent.controller.board.snapshot.host_suspect == ""

    play(npus, scenario)


def all_in_alarm(number: int = 4) -> Inventory:
    """A new firmware raises a code that nobody knows."""
    fault = NpuFault("DEADBEEF", FaultSeverity.MAJOR, "words", 1_700_000_000.0)
    chips = (build_npu(one, health=NpuHealth.ALARM, faults=(fault,)) for one in range(number))
    return build_inventory(list(chips), board_id=NO_HCCS)


def test_an_engine_that_dies_while_the_host_is_suspected_is_started_again(npus: World) -> None:
    npus.inventory = well(4)

    async def scenario(world: World, agent: Agent) -> None:
        await serve(world, agent)
        agent.see(all_in_alarm())
        await until(lambda: agent.controller.board.snapshot.host_suspect)
        world.kill_engine()
        await until(lambda: world.acted().count(("StartUnit", ENGINE)) == 2)
        await agent.reach(Phase.SERVING)
        (told,) = (one for one in agent.events() if one.kind == "npu-alarm-passed")
        assert "the alarm of the NPUs [0] does not count" in told.message
        assert "held" not in agent.kinds()

    play(npus, scenario)


def test_a_host_that_boots_with_all_npus_in_alarm_serves(npus: World) -> None:
    npus.inventory = all_in_alarm()

    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await agent.reach(Phase.SERVING)
        assert agent.controller.board.snapshot.host_suspect
        assert "npu-alarm-passed" in agent.kinds()

    play(npus, scenario)


def test_a_start_that_was_refused_before_the_host_was_suspected_is_made_up_for(
    npus: World,
) -> None:
    """The driver's word on each chip comes first, and its codes later."""
    whole = all_in_alarm()
    npus.inventory = replace(whole, npus=tuple(replace(one, faults=()) for one in whole.npus))

    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await agent.reach(Phase.HELD)
        agent.see(whole)
        await agent.reach(Phase.SERVING)

    play(npus, scenario)


def test_in_observe_mode_it_is_only_said(npus: World) -> None:
    npus.mode = Mode.OBSERVE
    npus.inventory = well(4)

    async def scenario(world: World, agent: Agent) -> None:
        await until(lambda: agent.view().npus == (0,))
        agent.see(ill(0, RESTART_NPU, 4))
        await until(lambda: "npu-lost" in npu_kinds(agent))
        agent.see(ill(1, RESTART_NPU, 4))
        await until(lambda: "npu-reset-ended" in npu_kinds(agent))
        assert world.acted() == []
        assert world.npud.resets == []
        events = agent.controller.board.snapshot.events
        assert any(OBSERVED in one.message for one in events)

    play_adopting(npus, scenario)


def test_a_quarantine_outlives_the_agent(npus: World) -> None:
    async def scenario() -> None:
        async with host(npus):
            async with running(npus) as agent:
                await agent.requests.quarantine((0,), "root", "it smells\x1b[31m of smoke")
                (view, _) = agent.controller.board.snapshot.npus
                assert view.quarantine is not None
                assert view.quarantine.reason == "it smells [31m of smoke"
            async with running(npus) as agent:
                await serve(npus, agent)
                assert agent.view().npus == (1,)
                await agent.requests.clear((0,), "root")
                assert agent.controller.board.snapshot.npus[0].quarantine is None

    asyncio.run(scenario())


def test_an_unknown_npu(npus: World) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        with pytest.raises(AgentError) as refused:
            await agent.requests.quarantine((9,), "root", "")
        assert refused.value.failure.code is Code.NPU_UNKNOWN

    play(npus, scenario)


def test_an_agent_that_is_new_does_nothing_before_it_knows_who_has_what(npus: World) -> None:
    """The engine runs on an NPU that wants a reset; it is adopted, stopped, and only then reset."""
    npus.inventory = ill(0, RESTART_NPU)

    async def scenario(world: World, agent: Agent) -> None:
        def reset(order: ResetOrder) -> ResetReport:
            assert ("StopUnit", ENGINE) in world.acted()
            agent.see(well())
            return ResetReport(ResetOutcome.OK, "boot status 16")

        world.npud.on_reset = reset
        world.npud.before_reset = lambda: until(lambda: agent.view().npus == (1,))
        await until(lambda: agent.view().npus == (1,))
        await until(lambda: world.npud.resets)
        await agent.reach(Phase.SERVING)

    play_adopting(npus, scenario)


# --- replan --------------------------------------------------------------------------------------


def test_degraded_and_back(npus: World) -> None:
    """A list without a lost NPU is served by fewer; a replan brings all of them back."""
    profile = replace(npus.profile("8b"), npus=(0, 1))
    npus.profile = lambda name: profile  # type: ignore[method-assign]

    async def scenario(world: World, agent: Agent) -> None:
        await serve(world, agent)
        assert agent.view().npus == (0, 1)
        agent.see(ill(1, SEPARATE))
        await until(lambda: agent.view().npus == (0,))
        await agent.reach(Phase.SERVING)
        assert agent.view().degraded.startswith("1 of 2 NPUs; 1: set aside")
        with pytest.raises(AgentError, match="as many NPUs"):
            await agent.requests.replan("8b")
        agent.see(well())
        await agent.requests.clear((1,), "root")
        await agent.requests.replan("8b")
        await until(lambda: agent.view().npus == (0, 1))
        await agent.reach(Phase.SERVING)
        assert agent.view().degraded == ""

    play(npus, scenario)


def test_a_replan_that_brings_nothing_disturbs_nothing(npus: World) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        await serve(world, agent)
        with pytest.raises(AgentError) as refused:
            await agent.requests.replan("8b")
        assert refused.value.failure.code is Code.REPLAN_USELESS
        world.machine.problem = "its disk is gone"
        with pytest.raises(AgentError, match="there is no plan now"):
            await agent.requests.replan("8b")
        assert world.acted().count(("StopUnit", ENGINE)) == 0
        assert agent.view().phase is Phase.SERVING

    play(npus, scenario)
