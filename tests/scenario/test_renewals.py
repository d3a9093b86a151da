# SPDX-License-Identifier: MulanPSL-2.0
"""A timer renews what an engine has read at its start: it goes on, and people are told that a
restart is due."""

import asyncio
from dataclasses import replace
from pathlib import PurePosixPath
from threading import Event

import pytest

from agent.config.values import Mode
from agent.model import Phase, engine_unit
from tests.scenario.test_lifecycle import serve
from tests.scenario.world import Agent, World, host, play, running, until

KEY = PurePosixPath("/etc/deepseek-agent/8b.key")
FORMER, NEW = "former-key-0123456789", "new-key-9876543210"
START = ("StartUnit", engine_unit("8b"))


@pytest.fixture
def world(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Its instance has an API key."""
    monkeypatch.setattr("agent.control.renewals.LOOK_EVERY_S", 0.02)
    monkeypatch.setattr("agent.control.controller.TURN_S", 0.02)
    whole = world.config()
    profiles = (replace(whole.profiles[0], api_key_file=str(KEY)),)
    world.config = lambda **_: replace(whole, profiles=profiles, mode=world.mode)  # type: ignore[method-assign]
    rotate(world, FORMER)
    return world


def rotate(world: World, key: str) -> None:
    world.files.write(KEY, key, private=True)


async def wait_told(agent: Agent) -> None:
    await until(lambda: agent.view().restart_pending)
    (told,) = [one for one in agent.events() if one.kind == "restart-due"]
    assert told.message.startswith(f"{KEY} changed after the engine was started")
    assert told.message.endswith("deepseekctl restart 8b")
    assert NEW not in told.message
    assert FORMER not in told.message


def test_a_rotated_key_is_told_once_until_a_restart(world: World) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        await serve(world, agent)
        await asyncio.sleep(0.1)
        assert not agent.view().restart_pending
        rotate(world, NEW)
        await wait_told(agent)
        await asyncio.sleep(0.2)
        await wait_told(agent)
        assert agent.view().phase is Phase.SERVING
        assert world.acted().count(START) == 1
        world.stop()
        await agent.reach(Phase.IDLE)
        assert not agent.view().restart_pending
        await serve(world, agent)
        await asyncio.sleep(0.1)
        assert not agent.view().restart_pending
        assert agent.kinds().count("restart-due") == 1

    play(world, scenario)


def test_a_key_that_is_the_former_one_again(world: World) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        await serve(world, agent)
        rotate(world, NEW)
        await wait_told(agent)
        world.files.remove(KEY)  # nobody knows
        await asyncio.sleep(0.1)
        assert agent.view().restart_pending
        rotate(world, FORMER)
        await until(lambda: not agent.view().restart_pending)
        assert agent.kinds().count("restart-due") == 1

    play(world, scenario)


@pytest.mark.parametrize("mode", Mode)
def test_a_key_that_was_rotated_while_no_agent_was_there(world: World, mode: Mode) -> None:
    """In observe mode as well: to tell is to do nothing."""

    async def scenario() -> None:
        async with host(world):
            async with running(world) as agent:
                await serve(world, agent)
            rotate(world, NEW)
            world.mode = mode
            async with running(world) as agent:
                await agent.reach(Phase.SERVING)
                await wait_told(agent)
            assert world.acted().count(START) == 1

    asyncio.run(scenario())


def test_a_disk_that_hangs_holds_nobody_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.control.renewals.LOOK_DEADLINE_S", 0.02)
    answers, asked = Event(), 0
    read = world.files.read_key

    def hang(path: str) -> str:
        nonlocal asked
        asked += 1
        answers.wait(20)
        return read(path)

    async def scenario(world: World, agent: Agent) -> None:
        await serve(world, agent)
        world.files.read_key = hang  # type: ignore[method-assign]
        rotate(world, NEW)
        await until(lambda: asked)
        await asyncio.sleep(0.3)
        assert asked == 1
        assert agent.view().phase is Phase.SERVING
        assert not agent.view().restart_pending
        answers.set()
        await wait_told(agent)

    play(world, scenario)
