# SPDX-License-Identifier: MulanPSL-2.0
"""A hold that is asked for, or released, while an instance is on its way from here to there."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from agent.config.values import Mode
from agent.control.memory import InstanceMemory, Memory
from agent.errors import Code
from agent.model import DriverState, Hold, Inventory, Phase, engine_unit
from agent.status.changes import Change, Changes, Outcome, Verb
from agent.supplies import Report
from tests.scenario.test_lifecycle import serve
from tests.scenario.world import BOOT, Agent, World, host, play, running, until

ENGINE = engine_unit("8b")
START, STOP = ("StartUnit", ENGINE), ("StopUnit", ENGINE)


async def hold(agent: Agent) -> None:
    await agent.requests.hold("8b", "root", "a new fan")


async def is_held(world: World, agent: Agent) -> None:
    """And stays so: nothing runs, nothing is tried."""
    await agent.reach(Phase.HELD)
    await until(lambda: world.front() == "failed")
    started = world.acted().count(START)
    await asyncio.sleep(0.3)
    assert agent.view().phase is Phase.HELD
    failure = agent.view().failure
    assert failure is not None
    assert failure.code is Code.ON_HOLD
    assert world.engine() in ("inactive", "failed")
    assert world.acted().count(START) == started


def slow(world: World, seconds: float = 0.3) -> None:
    """A start or stop of the engine."""
    world.systemd.jobs[ENGINE].after_s = seconds


# --- while it starts -----------------------------------------------------------------------------


async def begin(world: World) -> None:
    slow(world)
    world.start()
    await until(lambda: START in world.acted())


def test_one_that_starts_is_stopped_as_soon_as_it_has(world: World) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        await begin(world)
        changes = Changes()
        changes.begin(Change(1, Verb.HOLD, "8b", "root", 0.0), agent.view())
        await hold(agent)
        assert agent.view().phase is Phase.STARTING
        await is_held(world, agent)
        changes.turn(agent.controller.board.snapshot)
        change = changes.of(1)
        assert change is not None
        assert change.outcome is Outcome.DONE
        assert [one for one in world.acted() if one[1] == ENGINE][-2:] == [START, STOP]
        await agent.requests.release("8b")
        await agent.reach(Phase.SERVING)

    play(world, scenario)


def test_one_that_was_not_started_yet_is_not(world: World) -> None:
    """It was still being planned."""
    world.podman.survey_takes_s = 0.2

    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await agent.reach(Phase.STARTING)
        await until(lambda: world.podman.surveys)
        await hold(agent)
        await is_held(world, agent)
        assert START not in world.acted()

    play(world, scenario)


def test_one_whose_start_fails_is_not_tried_again(world: World) -> None:
    world.systemd.jobs[ENGINE].result = "failed"

    async def scenario(world: World, agent: Agent) -> None:
        await begin(world)
        await hold(agent)
        await is_held(world, agent)
        assert world.acted().count(START) == 1

    play(world, scenario)


def test_one_that_is_released_before_it_has_started_goes_on(world: World) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        await begin(world)
        await hold(agent)
        await agent.requests.release("8b")
        await agent.reach(Phase.SERVING)
        await asyncio.sleep(0.3)
        assert agent.view().phase is Phase.SERVING
        assert (world.acted().count(START), world.acted().count(STOP)) == (1, 0)

    play(world, scenario)


def test_a_restart_that_is_asked_for_while_it_starts(world: World) -> None:
    """Whoever asks has changed something since that start began."""

    async def scenario(world: World, agent: Agent) -> None:
        await begin(world)
        await agent.requests.restart("8b")
        await until(lambda: world.acted().count(START) == 2)
        await agent.reach(Phase.SERVING)
        await asyncio.sleep(0.2)
        assert (world.acted().count(START), world.acted().count(STOP)) == (2, 1)
        assert agent.kinds().count("serving") == 1

    play(world, scenario)


# --- in any other phase --------------------------------------------------------------------------


async def fetches(world: World, agent: Agent) -> None:
    world.podman.images[world.profile("8b").images.a2] = ""
    world.supplier.takes_s = 60.0
    world.supplier.brings = lambda order: Report(None)
    world.start()
    await agent.reach(Phase.FETCHING)


async def loads(world: World, agent: Agent) -> None:
    world.loads = False
    world.start()
    await agent.reach(Phase.LOADING)


async def stops(world: World, agent: Agent) -> None:
    """To be started anew."""
    await serve(world, agent)
    slow(world)
    await agent.requests.restart("8b")
    await agent.reach(Phase.STOPPING)


async def waits(world: World, agent: Agent) -> None:
    agent.see(Inventory(DriverState.ABSENT, detail="no driver"))
    world.start()
    await agent.reach(Phase.WAITING)


async def backs_off(world: World, agent: Agent) -> None:
    await serve(world, agent)
    limits = replace(world.config().limits, backoff_first_s=60.0, backoff_max_s=60.0)
    await agent.requests.take_config(world.config(limits=limits))
    world.kill_engine()
    await agent.reach(Phase.BACKOFF)


@pytest.mark.parametrize("come", [fetches, loads, serve, stops, waits, backs_off])
def test_on_hold_at_once(world: World, come: Callable[[World, Agent], Awaitable[None]]) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        await come(world, agent)
        before = world.acted().count(START)
        await hold(agent)
        await is_held(world, agent)
        assert world.acted().count(START) == before

    play(world, scenario)


# --- over the end of an agent --------------------------------------------------------------------


def on_hold() -> Memory:
    return Memory(boot_id=BOOT, instances=(InstanceMemory("8b", hold=Hold(1.0, "root", "")),))


def test_a_new_agent_stops_what_is_on_hold(world: World) -> None:
    """The one before it had gone before it could."""
    world.memory = on_hold()

    async def scenario() -> None:
        async with host(world):
            world.run_engine()
            world.attach()
            async with running(world) as agent:
                await is_held(world, agent)
            assert START not in world.acted()
            assert world.acted().count(STOP) == 1

    asyncio.run(scenario())


def test_but_not_in_observe_mode(world: World) -> None:
    world.memory = on_hold()
    world.mode = Mode.OBSERVE

    async def scenario() -> None:
        async with host(world):
            world.run_engine()
            world.attach()
            async with running(world) as agent:
                await agent.reach(Phase.SERVING)
                await asyncio.sleep(0.2)
            assert world.acted() == []

    asyncio.run(scenario())


def test_a_hold_outlives_an_agent_that_does_not_find_the_profile(world: World) -> None:
    """It had been moved away when that agent began; nor could what was last in force be read."""
    world.memory = on_hold()

    async def scenario() -> None:
        async with host(world):
            there, world.profiles = world.profiles, ()
            async with running(world) as agent:
                await until(lambda: world.memory.instances)
                await asyncio.sleep(0.1)
            world.profiles = there
            async with running(world) as agent:
                world.start()
                await is_held(world, agent)
            assert START not in world.acted()

    asyncio.run(scenario())
