# SPDX-License-Identifier: MulanPSL-2.0
"""Agents that come and go, fronts that crash, observe mode, and what is asked of the agent."""

import asyncio
import contextlib
from dataclasses import replace

import pytest

from agent import exits
from agent.config.values import BrokenProfile, Mode
from agent.control.memory import decode_memory, encode_memory
from agent.errors import AgentError, Code, ConfigError, Failure, HostUnavailable
from agent.model import Phase, engine_unit, front_unit
from tests.build import build_inventory
from tests.fakes.systemd import Job
from tests.scenario.world import Agent, World, host, play, running, until

ENGINE, FRONT = engine_unit("8b"), front_unit("8b")
START, STOP = ("StartUnit", ENGINE), ("StopUnit", ENGINE)


# --- an agent that comes and goes ----------------------------------------------------------------


def test_a_new_agent_adopts_what_runs(world: World) -> None:
    async def scenario() -> None:
        async with host(world):
            world.run_engine("8b", 3)
            world.attach()
            async with running(world) as agent:
                await agent.reach(Phase.SERVING)
                await until(lambda: agent.view().npus == (3,))
                await asyncio.sleep(0.3)
                assert agent.kinds() == ["loading", "serving"]
            assert world.acted() == []

    asyncio.run(scenario())


def test_what_runs_is_adopted_while_podman_is_silent(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For hours; it is asked until it tells of the container, or nobody wants to know any more."""
    for name in ("SEARCH_AGAIN_S", "SEARCH_AGAIN_MAX_S"):
        monkeypatch.setattr(f"agent.control.watching.{name}", 0.001)

    async def scenario() -> None:
        async with host(world):
            world.run_engine("8b", 3)
            world.attach()
            world.podman.broken = HostUnavailable(Code.PODMAN_SILENT, "cannot ask Podman")
            async with running(world) as agent:
                await agent.reach(Phase.SERVING)
                await until(lambda: world.podman.surveys > 100)
                world.podman.broken = None
                await until(lambda: agent.view().npus == (3,))
                (record,) = agent.controller.roster
                assert record.container is not None
            world.podman.broken = HostUnavailable(Code.PODMAN_SILENT, "cannot ask Podman")
            async with running(world) as agent:
                await agent.reach(Phase.SERVING)
                world.stop()
                await agent.reach(Phase.IDLE)
                (record,) = agent.controller.roster
                assert record.search_over.is_set()

    asyncio.run(scenario())


def test_an_agent_restarts_again_and_again_beside_a_serving_engine(world: World) -> None:
    async def scenario() -> None:
        async with host(world):
            async with running(world) as agent:
                world.start()
                await agent.reach(Phase.SERVING)
                await until(lambda: world.front() == "active")
            before = world.acted()
            for _ in range(5):
                async with running(world) as agent:
                    await agent.reach(Phase.SERVING)
            assert world.acted() == before
            assert world.front() == "active"

    asyncio.run(scenario())


def test_an_agent_that_goes_in_the_middle_of_a_start(world: World) -> None:
    world.systemd.jobs[ENGINE] = Job(after_s=0.3)

    async def scenario() -> None:
        async with host(world):
            async with running(world):
                world.start()
                await until(lambda: START in world.acted())
            async with running(world) as agent:
                await agent.reach(Phase.SERVING)
            assert world.acted().count(START) == 1

    asyncio.run(scenario())


def test_an_engine_that_died_while_no_agent_was_there(world: World) -> None:
    async def scenario() -> None:
        async with host(world):
            world.run_engine()
            world.attach()
            world.kill_engine()
            async with running(world) as agent:
                await agent.reach(Phase.SERVING)
            assert world.acted().count(START) == 1

    asyncio.run(scenario())


def test_stopped_while_no_agent_was_there(world: World) -> None:
    async def scenario() -> None:
        async with host(world):
            async with running(world) as agent:
                world.start()
                await agent.reach(Phase.SERVING)
                await until(lambda: world.front() == "active")
            world.stop()
            await until(lambda: world.engine() == "inactive" and world.front() == "inactive")
            before = world.acted()
            async with running(world) as agent:
                await asyncio.sleep(0.3)
                assert agent.view().phase is Phase.IDLE
            assert world.acted() == before

    asyncio.run(scenario())


# --- the front unit ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "exit_status"),
    [("signal", 9), ("exit-code", 1), ("exit-code", 203), ("resources", 0)],
)
def test_a_front_that_crashed_is_started_and_nothing_else(
    world: World, result: str, exit_status: int
) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await agent.reach(Phase.SERVING)
        await until(lambda: world.front() == "active")
        before = world.acted()
        world.kill_front(result=result, exit_status=exit_status)
        await until(lambda: world.front() == "active")
        assert world.acted()[len(before) :] == [("StartUnit", FRONT)]
        (revived,) = [one for one in agent.events() if one.kind == "front-revived"]
        assert revived.message.endswith(f"{result}, exit status {exit_status}")
        assert agent.view().phase is Phase.SERVING
        assert world.engine() == "active"

    play(world, scenario)


def test_a_front_that_crashes_twice_in_a_row(world: World) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await agent.reach(Phase.SERVING)
        await until(lambda: world.front() == "active")
        for _ in range(2):
            world.kill_front()
            await until(lambda: world.front() == "active", within_s=6.5)

    play(world, scenario)


def test_a_front_that_cannot_be_started_is_tried_for_ever_and_told_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A day of it would push out all other events."""
    monkeypatch.setattr("agent.control.upkeep.REVIVE_EVERY_S", 0.02)
    monkeypatch.setattr("agent.control.upkeep.REVIVE_MAX_S", 0.04)
    monkeypatch.setattr("agent.control.controller.TURN_S", 0.02)

    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await agent.reach(Phase.SERVING)
        await until(lambda: world.front() == "active")
        attach = world.systemd.on_starting
        world.systemd.on_starting = lambda name: world.systemd.crash(name, "exit-code", 203)
        world.kill_front(result="exit-code", exit_status=203)
        await until(lambda: world.acted().count(("StartUnit", FRONT)) > 20)
        assert agent.kinds().count("front-revived") == 1
        (record,) = agent.controller.roster
        assert record.revivals > 10
        world.systemd.on_starting = attach
        await until(lambda: world.front() == "active")
        assert agent.view().phase is Phase.SERVING
        await until(lambda: not record.crash_told)  # it has been seen to be up
        assert record.revivals == 0
        world.kill_front(result="exit-code", exit_status=203)
        await until(lambda: world.front() == "active")
        assert agent.kinds().count("front-revived") == 2

    play(world, scenario)


# --- observe -------------------------------------------------------------------------------------


def test_observe_acts_on_nothing(world: World) -> None:
    world.mode = Mode.OBSERVE

    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await agent.reach(Phase.HELD)
        agent.see(build_inventory(1))
        await asyncio.sleep(0.3)
        assert world.acted() == []
        assert world.files.written == []
        failure = agent.view().failure
        assert failure is not None
        assert failure.code is Code.OBSERVING

    play(world, scenario)


def test_observe_beside_a_running_engine(world: World) -> None:
    world.mode = Mode.OBSERVE

    async def scenario() -> None:
        async with host(world):
            world.run_engine()
            world.attach()
            async with running(world) as agent:
                await agent.reach(Phase.SERVING)
                world.kill_front()
                await asyncio.sleep(0.2)
            assert world.acted() == []

    asyncio.run(scenario())


def test_observe_and_a_request_to_restart(world: World) -> None:
    world.mode = Mode.OBSERVE

    async def scenario() -> None:
        async with host(world):
            world.run_engine()
            world.attach()
            async with running(world) as agent:
                await agent.reach(Phase.SERVING)
                with contextlib.suppress(AgentError):  # to refuse it is one way to keep still
                    await agent.requests.restart("8b")
                await asyncio.sleep(0.3)
                assert world.acted() == []
                assert agent.view().phase is Phase.SERVING

    asyncio.run(scenario())


# --- requests ------------------------------------------------------------------------------------


def test_a_restart_is_stop_then_start(world: World) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        with pytest.raises(AgentError) as raised:
            await agent.requests.restart("8b")
        assert raised.value.failure.code is Code.NOT_WISHED
        world.start()
        await agent.reach(Phase.SERVING)
        await until(lambda: world.front() == "active")
        before = len(world.acted())
        await agent.requests.restart("8b")
        await until(lambda: world.acted().count(START) == 2)
        await agent.reach(Phase.SERVING)
        assert world.acted()[before:] == [STOP, ("ResetFailedUnit", ENGINE), START]
        assert world.front() == "active"
        assert agent.view().failures == 0

    play(world, scenario)


def test_on_hold_it_does_not_serve_whoever_wishes_it(world: World) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await agent.reach(Phase.SERVING)
        await until(lambda: world.front() == "active")
        await agent.requests.hold("8b", "root", "a new\nfan")
        await agent.reach(Phase.HELD)
        await until(lambda: world.front() == "failed")
        assert agent.view().failure == Failure(
            Code.ON_HOLD,
            "cannot start 8b: root has put it on hold (a new fan)",
            "when that is over: deepseekctl release 8b",
        )
        for again in (agent.requests.restart, agent.requests.start):
            with pytest.raises(AgentError) as raised:
                await again("8b")
            assert raised.value.failure.code is Code.ON_HOLD
        world.start()  # by hand
        await until(lambda: world.front() == "failed")
        assert world.acted().count(START) == 1
        await agent.requests.release("8b")
        await agent.reach(Phase.SERVING)
        await until(lambda: world.front() == "active")
        with pytest.raises(AgentError, match="not on hold"):
            await agent.requests.release("8b")
        assert [one for one in agent.kinds() if one in ("on-hold", "released")] == [
            "on-hold",
            "released",
        ]

    play(world, scenario)


def test_a_hold_outlives_the_agent_and_a_boot(world: World) -> None:
    async def first(world: World, agent: Agent) -> None:
        await agent.requests.hold("8b", "root", "")
        await until(lambda: world.memory.of("8b").hold is not None)

    async def second(world: World, agent: Agent) -> None:
        world.start()
        await agent.reach(Phase.HELD)
        assert agent.view().hold is not None
        assert world.acted().count(START) == 0

    play(world, first)
    world.memory = replace(decode_memory(encode_memory(world.memory)), boot_id="another")
    play(world, second)


def test_started_and_stopped_over_the_socket(world: World) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        await agent.requests.start("8b")
        await agent.reach(Phase.SERVING)
        await until(lambda: world.front() == "active")
        await agent.requests.stop("8b")
        await until(lambda: ("StopUnit", FRONT) in world.acted())

    play(world, scenario)


def test_a_refused_configuration_leaves_the_one_in_force(world: World) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await agent.reach(Phase.SERVING)
        problem = AgentError(Code.CONFIG_INVALID, "cannot use agent.toml: x").failure
        await agent.requests.take_config(problem)
        await until(lambda: agent.controller.board.snapshot.config_problem == problem)
        assert agent.view().phase is Phase.SERVING
        changed = replace(world.profile("8b"), shm_size="2g")
        await agent.requests.take_config(world.config(profiles=(changed,)))
        await until(lambda: agent.controller.board.snapshot.config_problem is None)
        await asyncio.sleep(0.2)
        assert agent.view().phase is Phase.SERVING  # the change is taken at the next start
        assert world.acted().count(START) == 1

    play(world, scenario)


BROKEN = BrokenProfile("8b", "cannot use 8b.toml: listen: this opens the engine", "correct the key")


def test_a_broken_profile_takes_nothing_from_what_runs(world: World) -> None:
    """Its engine is started again when it dies, also for an attach that comes back; and it is
    said. A person who starts it anew is told what is wrong."""

    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await agent.reach(Phase.SERVING)
        await agent.requests.take_config(world.config(profiles=(), broken=(BROKEN,)))
        assert ("8b", "profile-refused") in [
            (event.instance, event.kind) for event in agent.controller.board.snapshot.events
        ]
        assert agent.controller.board.snapshot.broken == (f"8b: {BROKEN.message}",)
        world.kill_engine()
        await until(lambda: world.acted().count(START) == 2)
        await agent.reach(Phase.SERVING)
        world.attach()  # the agent's socket was away, or attach had crashed
        await asyncio.sleep(0.1)
        assert agent.view().phase is Phase.SERVING
        assert world.front() == "active"
        with pytest.raises(AgentError, match="this opens the engine"):
            await agent.requests.restart("8b")
        world.stop()
        await agent.reach(Phase.IDLE)
        world.start()
        await until(lambda: world.front() == "failed")
        assert world.lines["8b"][-1]["exit"] == 78
        assert "this opens the engine" in str(world.lines["8b"][-1]["status"])
        assert world.acted().count(START) == 2

    play(world, scenario)


def test_a_change_of_any_setting_wakes_who_is_held(world: World) -> None:
    """A token, a mirror, a mode: what it means for a model only a new plan can tell."""

    async def scenario(world: World, agent: Agent) -> None:
        world.podman.images[world.profile("8b").images.a2] = ""
        world.start()
        await agent.reach(Phase.HELD)
        world.podman.images.clear()
        await agent.requests.take_config(world.config())
        await asyncio.sleep(0.2)
        assert agent.view().phase is Phase.HELD  # nothing has changed
        changed = replace(world.config().supply, prune=False)
        await agent.requests.take_config(replace(world.config(), supply=changed))
        await agent.reach(Phase.SERVING)

    play(world, scenario)


def test_a_restart_under_a_broken_profile_that_is_seen_late(world: World) -> None:
    """The front unit is up again before the agent knows that the engine is down: also then it is a
    person who starts it."""

    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await agent.reach(Phase.SERVING)
        await agent.requests.take_config(world.config(profiles=(), broken=(BROKEN,)))
        world.begin_stop()
        await agent.reach(Phase.STOPPING)
        world.systemd.change(FRONT, "inactive")
        world.start()
        await until(lambda: world.front() == "failed")
        assert world.lines["8b"][-1]["exit"] == 78
        assert world.acted().count(START) == 1

    play(world, scenario)


def test_what_was_refused_is_told_until_a_person_starts_it(world: World) -> None:
    """By what systemd says: also by the next agent, and when the files are right again. It is not
    started by itself."""

    async def scenario() -> None:
        async with host(world):
            world.systemd.units[FRONT].file_state = "enabled"
            async with running(world) as agent:
                await agent.requests.take_config(world.config(profiles=(), broken=(BROKEN,)))
                world.start()
                await until(lambda: world.front() == "failed")
                await until(lambda: agent.view().refused)
                await agent.requests.take_config(world.config())
                await asyncio.sleep(0.2)
                assert agent.view().refused
                assert agent.view().status == f"refused: {BROKEN.message}"
            async with running(world) as agent:
                await until(lambda: agent.view().refused)
                await asyncio.sleep(0.2)
                assert world.front() == "failed"
                assert world.acted() == []
                world.start()
                await agent.reach(Phase.SERVING)
                assert not agent.view().refused

    asyncio.run(scenario())


def test_what_was_refused_and_then_stopped_is_not_told(world: World) -> None:
    async def scenario() -> None:
        async with host(world):
            front = world.systemd.units[FRONT]
            front.file_state, front.invocation = "enabled", b"1" * 16
            async with running(world) as agent:
                world.systemd.crash(FRONT, "exit-code", 78)
                await until(lambda: agent.view().refused)
                world.systemd.remove_job(1, FRONT, "done")
                await until(lambda: world.front() == "inactive")
                await until(lambda: not agent.view().refused)

    asyncio.run(scenario())


def test_who_is_to_serve_and_has_no_profile_is_told(world: World) -> None:
    """A name that was mistyped, or a profile that somebody removed before a boot: attach is refused
    and goes, and nothing is left but a unit that has failed."""

    async def scenario(world: World, agent: Agent) -> None:
        front = front_unit("8bb")
        world.systemd.add(front, file_state="enabled")
        world.systemd.change(front, "activating")
        with pytest.raises(ConfigError, match="there is no profile of that name"):
            await agent.requests.attach("8bb", resumed=False)
        await until(lambda: agent.controller.board.snapshot.without_profile == ("8bb",))
        world.systemd.crash(front, "exit-code", exits.PERSON)
        await asyncio.sleep(0.2)
        assert agent.controller.board.snapshot.without_profile == ("8bb",)
        assert agent.kinds("8bb").count(Code.INSTANCE_UNKNOWN) == 1
        world.systemd.change(front, "inactive", file_state="disabled", exit_status=0)
        await until(lambda: agent.controller.board.snapshot.without_profile == ())

    play(world, scenario)


def test_the_next_agent_tells_who_has_no_profile(world: World) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        await until(lambda: agent.controller.board.snapshot.without_profile == ("8bb",))
        assert [one.name for one in agent.controller.board.snapshot.instances] == ["8b"]
        # Files that cannot be read say of nobody that it has none.
        await agent.requests.take_config(Failure(Code.CONFIG_INVALID, "cannot read it"))
        await until(lambda: agent.controller.board.snapshot.without_profile == ())

    front = world.systemd.add(front_unit("8bb"), file_state="enabled", active="failed")
    front.result, front.exit_code, front.exit_status = "exit-code", 1, exits.PERSON
    play(world, scenario)


def test_an_engine_whose_profile_is_gone_is_told_of(world: World) -> None:
    """It runs on, and nobody looks after it when the agent is a new one."""

    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await agent.reach(Phase.SERVING)
        await agent.requests.take_config(world.config(profiles=()))
        await until(lambda: agent.controller.board.snapshot.without_profile == ("8b",))
        await agent.requests.take_config(world.config())
        await until(lambda: agent.controller.board.snapshot.without_profile == ())
        assert world.engine() == "active"

    play(world, scenario)
