# SPDX-License-Identifier: MulanPSL-2.0
"""What happens to the bus, to files, to a stop and to the agent's own memory, seen from serving."""

import asyncio
import os
import time
from dataclasses import replace

import pytest

from agent.config.values import Mode
from agent.control import upkeep
from agent.errors import Code
from agent.facts import PayloadFacts
from agent.model import Phase, container_name, engine_unit, front_unit
from agent.render.choose import RUN_QUADLET
from tests.build import build_container, build_inventory
from tests.scenario.world import Agent, World, host, play, running, until

FRONT, ENGINE = front_unit("8b"), engine_unit("8b")
START = ("StartUnit", ENGINE)
QUADLET = RUN_QUADLET / "deepseek-vllm-8b.container"


async def serve(world: World, agent: Agent) -> None:
    world.start()
    await agent.reach(Phase.SERVING)
    await until(lambda: world.front() == "active")


# --- the bus -------------------------------------------------------------------------------------


async def lose_bus(world: World, agent: Agent) -> None:
    await world.systemd.close()
    world.bus.restart()
    await until(lambda: agent.controller.board.snapshot.systemd_problem is not None)


async def find_bus(world: World, agent: Agent) -> None:
    """PID 1 is back on it."""
    await world.systemd.connect(world.bus.address)
    await until(lambda: agent.controller.board.snapshot.systemd_problem is None)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.host.systemd.RECONNECT_EVERY_S", 0.05)


def test_serving_goes_on_while_the_bus_is_away(world: World) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        await serve(world, agent)
        await lose_bus(world, agent)
        assert agent.view().phase is Phase.SERVING
        await find_bus(world, agent)
        assert agent.view().phase is Phase.SERVING
        assert world.acted().count(START) == 1
        kinds = [event.kind for event in agent.controller.board.snapshot.events]
        assert kinds[-2:] == [Code.SYSTEMD_UNAVAILABLE, "systemd-answers"]

    play(world, scenario)


def test_an_engine_that_dies_while_the_bus_is_away(world: World) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        await serve(world, agent)
        await lose_bus(world, agent)
        unit = world.systemd.units[ENGINE]
        unit.active, unit.result, unit.exit_status = "failed", "exit-code", 1
        world.podman.containers.clear()
        await find_bus(world, agent)
        await until(lambda: world.acted().count(START) == 2)
        await agent.reach(Phase.SERVING)

    play(world, scenario)


def test_a_stop_while_the_bus_is_away(world: World) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        await serve(world, agent)
        await lose_bus(world, agent)
        world._detach("8b")
        world.systemd.units[FRONT].active = "inactive"
        world.systemd.units[ENGINE].active = "inactive"
        world.podman.containers.clear()
        await find_bus(world, agent)
        await agent.reach(Phase.IDLE)
        await asyncio.sleep(0.2)
        assert world.acted().count(START) == 1

    play(world, scenario)


def test_a_start_that_the_bus_is_lost_under(world: World) -> None:
    """The container came up all the same; it is adopted, and not started again."""

    async def scenario(world: World, agent: Agent) -> None:
        world.systemd.jobs[ENGINE].ends = False
        world.start()
        await until(lambda: START in world.acted())
        await lose_bus(world, agent)
        await agent.reach(Phase.WAITING)
        world.run_engine()
        await find_bus(world, agent)
        await agent.reach(Phase.SERVING)
        assert world.acted().count(START) == 1

    play(world, scenario)


# --- a stop --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "exit_status", "told_by"),
    [
        ("signal", 9, {"stopped_with": 3}),
        ("exit-code", 1, {"stopped_with": 3}),
        ("resources", 0, {"exit_code": os.CLD_EXITED}),  # ExecStopPost= could not be run
    ],
)
def test_attach_killed_in_the_middle_of_a_stop(
    world: World, result: str, exit_status: int, told_by: dict[str, int]
) -> None:
    """It ends as after a crash; nobody starts it again, and systemd forgets it."""

    async def scenario(world: World, agent: Agent) -> None:
        await serve(world, agent)
        for name, value in told_by.items():
            setattr(world.systemd.units[FRONT], name, value)
        world.kill_engine()  # PartOf=
        world.kill_front(result=result, exit_status=exit_status)
        await until(lambda: world.front() == "inactive")
        await agent.reach(Phase.IDLE)
        assert ("ResetFailedUnit", FRONT) in world.acted()
        assert world.acted().count(START) == 1
        assert ("StartUnit", FRONT) not in world.acted()

    play(world, scenario)


@pytest.mark.parametrize("failed", ["crashed", "held"])
def test_a_stop_of_a_front_that_has_failed(world: World, failed: str) -> None:
    """systemd changes nothing by it, and a person means it."""

    async def scenario(world: World, agent: Agent) -> None:
        if failed == "held":
            world.podman.images[world.profile("8b").images.a2] = ""
            world.start()
            await agent.reach(Phase.HELD)
            await until(lambda: world.front() == "failed")
            await asyncio.sleep(0.1)  # it has been seen
        else:
            await serve(world, agent)
            agent.controller.roster.get("8b").revived_at = time.monotonic()  # type: ignore[union-attr]
            world.kill_front()
            await until(lambda: world.front() == "failed")
            await asyncio.sleep(0.1)
            world.kill_engine()  # PartOf=
        world.systemd.remove_job(4711, FRONT, "done")
        await until(lambda: not agent.view().wished)
        world.podman.images.clear()
        agent.see(build_inventory(1))
        await until(lambda: world.front() == "inactive", within_s=8.0)
        assert ("StartUnit", FRONT) not in world.acted()
        assert world.acted().count(START) == (failed == "crashed")

    play(world, scenario)


@pytest.mark.parametrize("failed", ["crashed", "held"])
def test_a_try_restart_of_a_front_that_has_failed_is_no_stop(world: World, failed: str) -> None:
    """`systemctl try-restart 'deepseek@*'`, as packages of other things do: systemd makes a job of
    it that does nothing, and ends with "done" as well."""

    async def scenario(world: World, agent: Agent) -> None:
        if failed == "held":
            world.podman.images[world.profile("8b").images.a2] = ""
            world.start()
            await agent.reach(Phase.HELD)
        else:
            await serve(world, agent)
            agent.controller.roster.get("8b").revived_at = time.monotonic()  # type: ignore[union-attr]
            world.kill_front()
        await until(lambda: world.front() == "failed")
        await asyncio.sleep(0.1)  # it has been seen
        world.systemd.remove_job(4711, FRONT, "done", nop=True)
        await asyncio.sleep(0.1)
        assert agent.view().wished
        world.podman.images.clear()
        agent.see(build_inventory(1))
        await until(lambda: world.front() == "active", within_s=8.0)
        await agent.reach(Phase.SERVING)
        assert world.acted().count(START) == 1

    play(world, scenario)


async def withdraw(world: World, agent: Agent, state: str = "inactive") -> None:
    """attach has crashed, is not revived yet, and somebody runs `systemctl reset-failed`: there is
    no job, and nothing that PartOf= would pass on."""
    agent.controller.roster.get("8b").revived_at = time.monotonic() + 60.0  # type: ignore[union-attr]
    world.kill_front()
    await until(lambda: world.front() == "failed")
    world.systemd.change(FRONT, state, result="success", exit_status=0)
    await until(lambda: not agent.view().wished)


def test_an_engine_that_nothing_stops_is_stopped(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.control.unwanted.STOP_LIMIT_S", 0.3)
    monkeypatch.setattr("agent.control.controller.TURN_S", 0.05)

    async def scenario(world: World, agent: Agent) -> None:
        await serve(world, agent)
        await withdraw(world, agent)
        assert agent.view().phase is Phase.STOPPING
        await agent.reach(Phase.IDLE)
        assert world.engine() == "inactive"
        assert world.acted().count(("StopUnit", ENGINE)) == 1
        assert agent.kinds().count("engine-unwanted") == 1

    play(world, scenario)


def test_an_engine_that_an_agent_finds_and_nobody_wants_is_stopped(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.control.unwanted.STOP_LIMIT_S", 0.3)
    monkeypatch.setattr("agent.control.controller.TURN_S", 0.05)

    async def scenario() -> None:
        async with host(world):
            world.run_engine()
            world.systemd.units[FRONT].active = "inactive"
            async with running(world) as agent:
                assert agent.view().phase is Phase.IDLE
                await until(lambda: world.engine() == "inactive")
                await agent.reach(Phase.IDLE)

    asyncio.run(scenario())


def test_who_wants_it_again_in_time_has_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.control.unwanted.STOP_LIMIT_S", 1.0)
    monkeypatch.setattr("agent.control.controller.TURN_S", 0.05)

    async def scenario(world: World, agent: Agent) -> None:
        await serve(world, agent)
        await withdraw(world, agent)
        world.start()
        await until(lambda: world.front() == "active")
        await asyncio.sleep(1.2)
        assert agent.view().phase is Phase.SERVING
        assert ("StopUnit", ENGINE) not in world.acted()

    play(world, scenario)


@pytest.mark.parametrize("state", ["maintenance", "inactive"])
def test_in_observe_mode_or_without_knowing_the_wish_it_runs_on(
    world: World, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    """A state of the front unit that only a newer systemd has says nothing of the wish."""
    monkeypatch.setattr("agent.control.unwanted.STOP_LIMIT_S", 0.2)
    monkeypatch.setattr("agent.control.controller.TURN_S", 0.05)

    async def scenario(world: World, agent: Agent) -> None:
        await serve(world, agent)
        if state == "inactive":
            await agent.requests.take_config(world.config(mode=Mode.OBSERVE))
        await withdraw(world, agent, state)
        await asyncio.sleep(0.8)
        assert world.engine() == "active"
        assert ("StopUnit", ENGINE) not in world.acted()
        assert agent.kinds().count("engine-unwanted") == (state == "inactive")

    play(world, scenario)


def test_an_attach_that_is_gone_has_asked_last(world: World) -> None:
    """Its connection waited in the socket's queue while the agent was away."""

    async def scenario(world: World, agent: Agent) -> None:
        await serve(world, agent)
        world.stop()
        await agent.reach(Phase.IDLE)
        await agent.requests.attach("8b", resumed=False)
        await until(lambda: agent.kinds().count("starting") == 2)  # it was believed
        await agent.reach(Phase.IDLE)
        assert not agent.view().wished
        assert world.acted().count(START) == 1

    play(world, scenario)


def test_a_stop_and_a_start_that_nobody_saw(world: World) -> None:
    """Both within one moment in which the agent did not run: the new attach is the first it hears
    of them. Whoever started it must not be told of the engine before, whose end nobody mourns."""

    async def scenario(world: World, agent: Agent) -> None:
        await serve(world, agent)
        await asyncio.sleep(0.1)  # for the last news of that
        world.systemd.silent = True
        world.stop()
        await until(lambda: (world.front(), world.engine()) == ("inactive", "inactive"))
        world.lines["8b"].clear()
        world.start()
        await until(lambda: world.lines["8b"])
        world.systemd.silent = False
        assert world.lines["8b"][0]["ready"] is False
        await agent.reach(Phase.SERVING)
        await until(lambda: world.front() == "active")
        assert world.acted().count(START) == 2
        assert "backoff" not in agent.kinds()
        assert (agent.view().failures, agent.view().restarts) == (0, 0)

    play(world, scenario)


def test_a_front_on_its_way_down_is_not_started(world: World) -> None:
    """A start would take the place of the stop that is under way."""

    async def scenario(world: World, agent: Agent) -> None:
        await serve(world, agent)
        world._detach("8b")
        world.systemd.change(FRONT, "deactivating", result="signal")
        world.kill_engine()
        await until(lambda: agent.view().failures > 1)  # it was tried
        assert ("StartUnit", FRONT) not in world.acted()
        assert world.acted().count(START) == 1

    play(world, scenario)


def test_what_is_left_after_a_stop_is_cleared(world: World) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        await serve(world, agent)
        world.podman.containers["renamed"] = replace(build_container("renamed"), unit=ENGINE)
        left = PayloadFacts(4711, 7, world.podman.containers["renamed"].container_id)
        world.payloads.running.append(left)
        world.stop()
        await until(lambda: world.podman.removed == ["renamed"])
        assert world.payloads.killed == [4711]

    play(world, scenario)


def test_what_is_left_is_tried_for_a_while_and_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "SWEEP_AGAIN_S", 0.02)
    monkeypatch.setattr("agent.action.leftovers.END_DEADLINE_S", 0.01)

    async def scenario(world: World, agent: Agent) -> None:
        await serve(world, agent)
        left = PayloadFacts(4711, 7, "f" * 64)
        world.payloads.running.append(left)
        world.payloads.hanging.add(4711)
        world.stop()
        await until(lambda: "payload-left" in agent.kinds())
        assert len(world.payloads.killed) == upkeep.SWEEP_TRIES

    play(world, scenario)


def test_nothing_spins_beside_a_crashed_front_that_nobody_may_start(world: World) -> None:
    world.mode = Mode.OBSERVE

    async def scenario(world: World, agent: Agent) -> None:
        turns = 0

        def count(snapshot: object) -> None:
            nonlocal turns
            turns += 1

        agent.controller.turned = count
        world.kill_front()
        await asyncio.sleep(0.3)
        assert turns < 20

    play(world, scenario)


def test_what_was_left_while_no_agent_was_there(world: World) -> None:
    async def scenario() -> None:
        async with host(world):
            world.run_engine()
            world.systemd.units[ENGINE].active = "failed"
            world.systemd.units[FRONT].active = "inactive"
            async with running(world):
                await until(lambda: world.podman.removed == [container_name("8b")])
            assert START not in world.acted()

    asyncio.run(scenario())


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [None, "[Container]\nNonsense=1\n"])
def test_a_unit_file_that_somebody_changed_is_restored(
    world: World, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    monkeypatch.setattr(upkeep, "FILE_CHECK_EVERY_S", 0.02)
    monkeypatch.setattr("agent.control.controller.TURN_S", 0.02)

    async def scenario(world: World, agent: Agent) -> None:
        await serve(world, agent)
        before = world.files.read(QUADLET)
        if text is None:
            world.files.remove(QUADLET)
        else:
            world.files.write(QUADLET, text)
        await until(lambda: "unit-file-restored" in agent.kinds())
        assert world.files.read(QUADLET) == before
        await asyncio.sleep(0.2)
        assert agent.kinds().count("unit-file-restored") == 1
        assert agent.view().phase is Phase.SERVING
        assert world.acted().count(START) == 1

    play(world, scenario)


def test_systemd_is_not_asked_about_a_file_that_is_as_it_was(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer has 15 KiB, and dbus-next takes it apart: too much for every few seconds."""
    monkeypatch.setattr(upkeep, "FILE_CHECK_EVERY_S", 0.02)
    monkeypatch.setattr("agent.control.controller.TURN_S", 0.02)

    async def scenario(world: World, agent: Agent) -> None:
        await serve(world, agent)
        record = agent.controller.roster.get("8b")
        assert record is not None
        await asyncio.sleep(0.2)  # what the start itself asks
        checked, asked = set[float](), len(world.systemd.calls)

        def many() -> bool:
            checked.add(record.file.checked_at)
            return len(checked) > 20

        await until(many)
        assert world.systemd.calls[asked:] == []

    play(world, scenario)


def test_a_file_that_vanished_while_no_agent_was_there(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "FILE_CHECK_EVERY_S", 0.02)

    async def scenario() -> None:
        async with host(world):
            async with running(world) as agent:
                await serve(world, agent)
                before = world.files.read(QUADLET)
            world.files.remove(QUADLET)
            world.systemd.on_reload()
            async with running(world) as agent:
                await until(lambda: "unit-file-restored" in agent.kinds())
                assert world.files.read(QUADLET) == before
                await agent.reach(Phase.SERVING)
            assert world.acted().count(START) == 1

    asyncio.run(scenario())


# --- memory --------------------------------------------------------------------------------------


def test_a_new_agent_looks_for_the_engine_where_it_was_started(world: World) -> None:
    """Its port has been changed in the configuration since; that is for the next start."""

    async def scenario() -> None:
        async with host(world):
            async with running(world) as agent:
                await serve(world, agent)
                endpoint = agent.view().endpoint
            whole = world.config()
            changed = (replace(whole.profiles[0], port=1),)
            world.config = lambda **_: replace(whole, profiles=changed)  # type: ignore[method-assign]
            async with running(world) as agent:
                await agent.reach(Phase.SERVING)
                assert agent.view().endpoint == endpoint
                assert agent.view().restart_pending
                assert agent.view().npus == (0,)
            assert world.acted().count(START) == 1

    asyncio.run(scenario())


def test_a_backoff_outlives_the_agent(world: World) -> None:
    """Otherwise an agent that crashes would turn it into a storm of restarts."""
    slow = replace(world.config().limits, backoff_first_s=2.0, backoff_max_s=2.0)
    whole = world.config(limits=slow)
    world.config = lambda **_: whole  # type: ignore[method-assign]

    async def scenario() -> None:
        async with host(world):
            async with running(world) as agent:
                await serve(world, agent)
                world.kill_engine()
                await agent.reach(Phase.BACKOFF)
            assert world.memory.of("8b").failures == 1
            async with running(world) as agent:
                await asyncio.sleep(0.15)  # attach has connected anew
                assert agent.view().phase is Phase.BACKOFF
                assert agent.view().failures == 1
                await agent.reach(Phase.SERVING)
                assert agent.view().restarts == 1
            assert world.memory.of("8b").restarts == 1

    asyncio.run(scenario())
