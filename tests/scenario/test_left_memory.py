# SPDX-License-Identifier: MulanPSL-2.0
"""An engine that is gone while its NPU memory is not: waited for, or reset, and served again."""

import time
from dataclasses import dataclass, replace

import pytest

from agent.errors import Code
from agent.model import (
    MEMORY_LEFT,
    FaultSeverity,
    Inventory,
    NpuFault,
    NpuProcess,
    Phase,
    ResetOutcome,
    container_name,
    engine_unit,
)
from agent.ports import ResetOrder, ResetReport
from tests.build import LIMITS, build_container, build_inventory, build_npu
from tests.npus import shipped_catalogue
from tests.scenario.test_lifecycle import serve
from tests.scenario.world import Agent, World, play, until

ENGINE = engine_unit("8b")
START = ("StartUnit", ENGINE)
PID = 4711
OWN_GROUP = f"0::/deepseek.slice/libpod-{build_container(container_name('8b')).container_id}.scope"
NO_HCCS = 0x33
GIVEN_BACK_S = 1.5
FILLED_MIB = 60_000


@dataclass
class Driver:
    """What npud would read now, of NPU 0 and maybe of NPU 1, which nobody uses."""

    number: int = 1
    process: bool = True  # is listed
    filled: bool = True
    fault: bool = False
    frees_at: float = float("inf")  # monotonic

    def read(self) -> Inventory:
        filled = self.filled and time.monotonic() < self.frees_at
        fault = NpuFault(MEMORY_LEFT, FaultSeverity.MINOR, "words", 1_700_000_000.0)
        first = build_npu(
            0,
            processes=(NpuProcess(PID, "VLLMEngineCore", FILLED_MIB),) if self.process else (),
            processes_told=True,
            memory_used_mib=FILLED_MIB if filled else 3445,
            faults=(fault,) if self.fault and filled else (),
        )
        others = [build_npu(one, processes_told=True) for one in range(1, self.number)]
        return build_inventory([first, *others], board_id=NO_HCCS)


@pytest.fixture(name="driver")
def _driver(world: World) -> Driver:
    """8b takes NPU 0."""
    world.inventory = Driver(process=False, filled=False).read()
    world.faults = shipped_catalogue()
    return Driver()


def follow(world: World, agent: Agent, driver: Driver) -> None:
    """npud reads when it is asked."""
    world.npud.on_refresh = lambda: agent.see(driver.read())


def in_real_time(world: World) -> None:
    """The shipped backoff."""
    config = replace(world.config(), limits=LIMITS)
    world.config = lambda **_changes: config  # type: ignore[method-assign]


def die(world: World, driver: Driver) -> float:
    """The engine and its container are gone; npud has not looked yet."""
    world.machine.alive.clear()
    driver.process = False
    at = time.monotonic()
    world.kill_engine()
    return at


async def serve_with_process(world: World, agent: Agent, driver: Driver) -> None:
    await serve(world, agent)
    world.machine.alive[PID] = OWN_GROUP
    follow(world, agent, driver)
    agent.see(driver.read())
    await until(lambda: agent.controller.desk.inventory.npus[0].processes)


def is_left_over(agent: Agent) -> bool:
    failure = agent.view().failure
    return failure is not None and failure.code is Code.NPU_LEFTOVER


def test_memory_that_is_given_back_is_waited_for(world: World, driver: Driver) -> None:
    in_real_time(world)

    async def scenario(world: World, agent: Agent) -> None:
        await serve_with_process(world, agent, driver)
        driver.frees_at = time.monotonic() + GIVEN_BACK_S
        died_at = die(world, driver)
        await until(lambda: is_left_over(agent))
        failure = agent.view().failure
        assert failure is not None
        assert "memory that no process is known to hold (59 of 64 GiB)" in failure.message
        assert world.acted().count(START) == 1
        await agent.reach(Phase.SERVING, within_s=10)
        assert GIVEN_BACK_S < time.monotonic() - died_at < 6.0
        assert world.acted().count(START) == 2
        assert world.npud.resets == []

    play(world, scenario)


def test_an_engine_that_left_nothing_is_not_waited_for(world: World, driver: Driver) -> None:
    """npud's latest reading still tells of the dead engine and its memory."""

    async def scenario(world: World, agent: Agent) -> None:
        await serve_with_process(world, agent, driver)
        driver.filled = False
        die(world, driver)
        await until(lambda: agent.kinds().count("serving") == 2)
        kinds = [kind for kind in agent.kinds() if kind != "evidence"]
        assert kinds[-4:] == ["backoff", "starting", "loading", "serving"]
        assert world.npud.refreshes == 2  # for the evidence, and before the next try
        assert world.acted().count(START) == 2

    play(world, scenario)


def test_a_restart_is_not_refused_by_an_old_reading(world: World, driver: Driver) -> None:
    """Nothing has failed, so npud is asked only when its reading stands in the way."""

    async def scenario(world: World, agent: Agent) -> None:
        await serve_with_process(world, agent, driver)
        driver.process = driver.filled = False
        world.machine.alive.clear()
        await agent.requests.restart("8b")
        await until(lambda: agent.kinds().count("serving") == 2)
        assert "backoff" not in agent.kinds()
        assert world.npud.refreshes == 1

    play(world, scenario)


def test_memory_that_stays_is_freed_by_a_reset(world: World, driver: Driver) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        def reset(order: ResetOrder) -> ResetReport:
            driver.filled = False
            agent.see(driver.read())  # npud looks at it when it has booted
            return ResetReport(ResetOutcome.OK, "boot status 16")

        world.npud.on_reset = reset
        await serve_with_process(world, agent, driver)
        die(world, driver)
        await until(lambda: is_left_over(agent))
        assert world.npud.resets == []
        driver.fault = True  # a minute later
        await until(lambda: world.npud.resets)
        await agent.reach(Phase.SERVING)
        assert world.npud.resets == [ResetOrder(0, (0,), (MEMORY_LEFT,))]
        assert world.acted().count(START) == 2
        kinds = [one.kind for one in agent.controller.board.snapshot.events if one.npu is not None]
        assert kinds[:3] == ["npu-fault", "npu-reset", "npu-reset-ended"]

    play(world, scenario)


def test_another_npu_is_taken_meanwhile(world: World, driver: Driver) -> None:
    driver.number = 2
    world.inventory = Driver(2, process=False, filled=False).read()

    async def scenario(world: World, agent: Agent) -> None:
        world.npud.on_reset = lambda order: ResetReport(ResetOutcome.OK, "boot status 16")
        await serve_with_process(world, agent, driver)
        assert agent.view().npus == (0,)
        die(world, driver)
        await until(lambda: agent.view().npus == (1,))
        await agent.reach(Phase.SERVING)
        assert "npu-lost" not in agent.kinds()
        driver.fault = True
        agent.see(driver.read())
        await until(lambda: world.npud.resets == [ResetOrder(0, (0,), (MEMORY_LEFT,))])
        assert agent.view().phase is Phase.SERVING
        assert world.acted().count(START) == 2

    play(world, scenario)
