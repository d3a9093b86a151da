# SPDX-License-Identifier: MulanPSL-2.0
"""Engines that stop working under a serving agent: replaced with a reason, or left alone."""

import asyncio
from dataclasses import replace
from functools import partial

import pytest

from agent.config.values import Mode
from agent.errors import Code
from agent.facts import PayloadFacts
from agent.health import guard
from agent.health.state import Rules
from agent.model import EngineWork, Phase, container_name, engine_unit, network_unit
from tests.scenario.endpoint import Endpoint
from tests.scenario.test_lifecycle import serve
from tests.scenario.world import Agent, Play, World, host, play, running, until

ENGINE = engine_unit("8b")
NETWORK = network_unit("8b")
# A container's own address, and the port in it, as far as this test's loopback has one.
INSIDE = "127.0.0.9"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (
        ("ROUND_S", 0.3),
        ("LOOK_S", 0.3),
        ("QUIET_S", 0.2),
        ("IDLE_PATIENCE_S", 0.8),
        ("HEALTH_DEADLINE_S", 0.2),
        ("INSIDE_DEADLINE_S", 0.5),
        ("AGAIN_S", 0.1),
    ):
        monkeypatch.setattr(f"agent.health.liveness.{name}", seconds)
    monkeypatch.setattr("agent.health.watch.TICK_S", 0.02)
    monkeypatch.setattr("agent.control.vitals.SETTLES_S", 0.2)
    monkeypatch.setattr("agent.action.force.GRACE_S", 0.3)
    monkeypatch.setattr(guard, "build_rules", lambda profile: Rules())


def messages(agent: Agent, kind: str) -> list[str]:
    events = agent.controller.board.snapshot.events
    return [event.message for event in events if event.kind == kind]


def started(world: World) -> int:
    return world.acted().count(("StartUnit", ENGINE))


def more_than(world: World, before: int) -> bool:
    return started(world) > before


def test_an_engine_that_hangs_is_replaced(world: World) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        await serve(world, agent)
        world.endpoints["8b"].hangs = True
        await until(lambda: agent.view().phase is Phase.STOPPING)
        world.endpoints["8b"].hangs = False
        await until(lambda: started(world) == 2)
        await agent.reach(Phase.SERVING)
        wanted = ["stopping", "evidence", "backoff", "starting", "loading", "serving"]
        assert agent.kinds()[-7:] == [Code.ENGINE_HUNG, *wanted]
        (why,) = messages(agent, Code.ENGINE_HUNG)
        assert "2 canaries unanswered" in why
        assert "its API server answers" in why
        assert agent.view().restarts == 1
        assert world.npud.refreshes >= 1
        ((instance, notes),) = world.evidence.gathered
        assert instance == "8b"
        assert notes.reason.startswith("engine-hung: cannot keep serving")
        assert notes.container_id == world.podman.containers[container_name("8b")].container_id
        assert 'vllm:prompt_tokens_total{engine="0"} 0.0' in notes.metrics
        assert "NPU 0 910B3: ok" in notes.npus
        (kept,) = (one for one in agent.controller.board.snapshot.events if one.kind == "evidence")
        assert kept.file == world.evidence.file

    play(world, scenario)


def test_an_engine_that_works_is_asked_for_one_token_and_left_alone(world: World) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        await serve(world, agent)
        asked = world.endpoints["8b"].asked
        await until(lambda: asked.count("/v1/completions") >= 5)
        assert agent.view().phase is Phase.SERVING
        assert agent.view().status == "serving"
        assert "/health" not in asked[2:]

    play(world, scenario)


def test_an_engine_that_says_it_is_dead_is_replaced(world: World) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        await serve(world, agent)
        world.endpoints["8b"].ill = True
        world.endpoints["8b"].completes = False
        await until(lambda: agent.view().phase is Phase.STOPPING)
        world.endpoints["8b"].ill, world.endpoints["8b"].completes = False, True
        await agent.reach(Phase.SERVING)
        assert messages(agent, Code.ENGINE_FAILED)

    play(world, scenario)


def test_a_process_of_the_container_that_ends_is_a_reason_to_look(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.health.liveness.LOOK_S", 3600.0)

    async def scenario(world: World, agent: Agent) -> None:
        await serve(world, agent)
        identity = world.podman.containers[container_name("8b")].container_id
        await until(lambda: identity in world.payloads.ended)
        before = len(world.endpoints["8b"].asked)
        world.payloads.ended[identity]()
        await until(lambda: "/health" in world.endpoints["8b"].asked[before:])
        world.endpoints["8b"].ill = True
        await until(lambda: agent.view().phase is Phase.STOPPING)
        world.endpoints["8b"].ill = False
        await agent.reach(Phase.SERVING)

    play(world, scenario)


def test_what_does_not_end_in_time_is_killed(world: World) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        await serve(world, agent)
        identity = world.podman.containers[container_name("8b")].container_id
        other = "f" * 64
        world.payloads.running = [PayloadFacts(71, 1, identity), PayloadFacts(72, 1, other)]
        world.systemd.jobs[ENGINE].after_s = 1.0  # Podman waits for it
        world.endpoints["8b"].hangs = True
        await until(lambda: agent.view().phase is Phase.BACKOFF)
        assert world.payloads.killed == [71]
        assert messages(agent, "engine-killed") == [
            "1 processes did not end in time and got SIGKILL"
        ]
        world.endpoints["8b"].hangs = False
        world.systemd.jobs[ENGINE].after_s = 0.0
        world.payloads.running.clear()
        await agent.reach(Phase.SERVING)

    play(world, scenario)


def test_an_engine_that_dies_leaves_its_last_words(world: World) -> None:
    """Of the first three in a row: the others say the same."""

    async def scenario(world: World, agent: Agent) -> None:
        await serve(world, agent)
        world.loads = False
        for _ in range(5):
            before = started(world)
            world.kill_engine()
            await until(partial(more_than, world, before))
            await agent.reach(Phase.LOADING)
        assert len(world.evidence.gathered) == 3
        assert {notes.reason.partition(":")[0] for _, notes in world.evidence.gathered} == {
            "engine-died"
        }

    play(world, scenario)


def test_the_counters_of_a_hang_are_not_those_of_a_later_death(world: World) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        await serve(world, agent)
        world.endpoints["8b"].hangs = True
        await until(lambda: agent.view().phase is Phase.STOPPING)
        world.endpoints["8b"].hangs = False
        await until(lambda: started(world) == 2)
        await agent.reach(Phase.SERVING)
        world.kill_engine()
        await until(lambda: len(world.evidence.gathered) == 2)
        (_, hang), (_, death) = world.evidence.gathered
        assert "vllm:" in hang.metrics
        assert death.metrics == ""

    play(world, scenario)


def test_no_evidence_is_no_reason_to_wait(world: World) -> None:
    world.evidence.file = None

    async def scenario(world: World, agent: Agent) -> None:
        await serve(world, agent)
        world.endpoints["8b"].hangs = True
        await until(lambda: agent.view().phase is Phase.STOPPING)
        world.endpoints["8b"].hangs = False
        await agent.reach(Phase.SERVING)
        assert "evidence" not in agent.kinds()

    play(world, scenario)


def test_in_observe_mode_it_is_only_said(world: World) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        await serve(world, agent)
        agent.controller.config = replace(agent.controller.config, mode=Mode.OBSERVE)
        world.endpoints["8b"].hangs = True
        await until(lambda: messages(agent, Code.ENGINE_HUNG))
        assert "nothing is done" in messages(agent, Code.ENGINE_HUNG)[0]
        await asyncio.sleep(2.5)  # it is found again and again, and said once
        assert len(messages(agent, Code.ENGINE_HUNG)) == 1
        assert agent.view().phase is Phase.SERVING
        assert agent.view().status.startswith("serving, but cannot keep serving: the engine hangs")
        assert ("StopUnit", ENGINE) not in world.acted()
        world.endpoints["8b"].hangs = False
        await until(lambda: agent.view().status == "serving")

    play(world, scenario)


@pytest.fixture(name="inside")
def _inside(world: World, monkeypatch: pytest.MonkeyPatch) -> Endpoint:
    """The engine at the container's own address."""
    inside = Endpoint(address=INSIDE)
    monkeypatch.setattr("tests.scenario.world.ENGINE_PORT", inside.port)
    world.address = INSIDE
    world.systemd.add(NETWORK)
    return inside


def test_a_port_that_is_cut_is_mended_and_the_engine_left_alone(
    world: World, inside: Endpoint
) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        await inside.open()
        await serve(world, agent)
        door = world.endpoints["8b"]
        door.close()
        await until(lambda: ("StartUnit", NETWORK) in world.acted())
        assert agent.view().trouble is not None
        assert agent.view().status.startswith("serving, but cannot be reached")
        await until(lambda: world.acted().count(("StartUnit", NETWORK)) == 2)  # tried again
        await door.open()
        await until(lambda: agent.view().status == "serving")
        assert started(world) == 1
        kinds = agent.kinds()
        assert kinds.count(Code.PORT_CUT) == 1
        assert kinds[-1] == "port-answers"
        assert "network-reloaded" in kinds
        assert ("StopUnit", ENGINE) not in world.acted()
        inside.end()

    play(world, scenario)


def test_other_hosts_are_cut_off_while_this_one_is_answered(
    world: World, inside: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """net.ipv4.ip_forward has been put back to 0."""
    monkeypatch.setattr("agent.health.way.EVERY_S", 0.1)
    world.listen = "0.0.0.0"  # noqa: S104

    async def scenario(world: World, agent: Agent) -> None:
        await inside.open()
        await serve(world, agent)
        world.forwards = False
        await until(lambda: ("StartUnit", NETWORK) in world.acted())
        assert agent.view().phase is Phase.SERVING
        assert agent.view().status.startswith("serving, but cannot be reached from other hosts")
        await until(lambda: world.acted().count(("StartUnit", NETWORK)) == 2)  # tried again
        world.forwards = True
        await until(lambda: agent.view().status == "serving")
        assert agent.kinds().count(Code.PORT_CUT) == 1
        assert agent.kinds()[-1] == "port-answers"
        assert started(world) == 1
        inside.end()

    play(world, scenario)


def test_an_engine_of_this_host_alone_needs_no_forwarding(
    world: World, inside: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.health.way.EVERY_S", 0.1)

    async def scenario(world: World, agent: Agent) -> None:
        await serve(world, agent)
        world.forwards = False
        await asyncio.sleep(0.5)
        assert agent.view().status == "serving"
        inside.end()

    play(world, scenario)


def test_an_engine_that_listens_nowhere_any_more_is_replaced(
    world: World, inside: Endpoint
) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        await inside.open()
        await serve(world, agent)
        world.endpoints["8b"].close()
        inside.close()
        await until(lambda: messages(agent, Code.ENGINE_FAILED))
        await inside.open()
        await agent.reach(Phase.SERVING)
        assert ("StartUnit", NETWORK) not in world.acted()
        inside.end()

    play(world, scenario)


def test_nothing_is_decided_while_the_inside_is_not_known(world: World) -> None:
    """A port that refuses may be cut; Podman has not told where the container is."""

    async def scenario(world: World, agent: Agent) -> None:
        await serve(world, agent)
        world.endpoints["8b"].close()
        await asyncio.sleep(0.7)
        assert agent.view().phase is Phase.SERVING
        assert ("StopUnit", ENGINE) not in world.acted()

    play(world, scenario)


# --- a new agent ---------------------------------------------------------------------------------


def play_two(world: World, first: Play, second: Play) -> None:
    """One agent after the other."""

    async def whole() -> None:
        async with host(world):
            async with running(world) as agent:
                await first(world, agent)
            async with running(world) as agent:
                await second(world, agent)

    asyncio.run(whole())


def test_an_engine_that_hung_while_no_agent_was_there_is_replaced(world: World) -> None:
    async def first(world: World, agent: Agent) -> None:
        await serve(world, agent)
        world.endpoints["8b"].hangs = True

    async def second(world: World, agent: Agent) -> None:
        await until(lambda: messages(agent, Code.ENGINE_HUNG))
        world.endpoints["8b"].hangs = False
        await until(lambda: started(world) == 2)
        await agent.reach(Phase.SERVING)

    play_two(world, first, second)


def test_a_busy_engine_is_adopted_as_one_that_serves(world: World) -> None:
    """A canary would wait in its queue for ever; that the counters move is enough."""

    async def first(world: World, agent: Agent) -> None:
        await serve(world, agent)
        world.endpoints["8b"].hangs = world.endpoints["8b"].flows = True
        world.endpoints["8b"].asked.clear()

    async def second(world: World, agent: Agent) -> None:
        await agent.reach(Phase.SERVING)
        await asyncio.sleep(1.5)
        assert agent.view().phase is Phase.SERVING
        assert "loading" not in agent.kinds()
        assert "/v1/completions" not in world.endpoints["8b"].asked
        assert started(world) == 1

    play_two(world, first, second)


def test_another_start_of_the_engine_has_to_answer_first(world: World) -> None:
    async def first(world: World, agent: Agent) -> None:
        await serve(world, agent)

    async def second(world: World, agent: Agent) -> None:
        await agent.reach(Phase.SERVING)
        assert "loading" in agent.kinds()

    async def whole() -> None:
        async with host(world):
            async with running(world) as agent:
                await first(world, agent)
            world.systemd.units[ENGINE].invocation = b"another start..."
            async with running(world) as agent:
                await second(world, agent)

    asyncio.run(whole())


# --- what it says of its work --------------------------------------------------------------------


def looks(world: World) -> int:
    return world.endpoints["8b"].asked.count("/metrics")


def test_the_work_of_an_engine_is_shown_while_it_serves(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.control.controller.TURN_S", 0.05)

    async def scenario(world: World, agent: Agent) -> None:
        assert agent.view().work is None
        world.endpoints["8b"].tokens = 41
        await serve(world, agent)
        await until(lambda: agent.view().work is not None)
        assert agent.view().work == EngineWork(41, 41, 41, 41)
        world.stop()
        await agent.reach(Phase.IDLE)
        assert agent.view().work is None

    play(world, scenario)


def test_an_engine_that_does_not_say_any_more_has_no_numbers(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.control.controller.TURN_S", 0.05)
    monkeypatch.setattr("agent.control.work_seen.FRESH_S", 0.5)

    async def scenario(world: World, agent: Agent) -> None:
        await serve(world, agent)
        await until(lambda: agent.view().work is not None)
        monkeypatch.setattr("agent.health.liveness.LOOK_S", 60.0)
        await until(lambda: agent.view().work is None)
        assert agent.view().phase is Phase.SERVING

    play(world, scenario)


def test_counters_that_nobody_understands_are_told_once_of_each_engine(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.control.controller.TURN_S", 0.05)

    async def scenario(world: World, agent: Agent) -> None:
        world.endpoints["8b"].counts = False
        await serve(world, agent)
        await until(lambda: agent.view().uncounted is not None)
        before = looks(world)
        await until(lambda: looks(world) > before + 5)
        (why,) = messages(agent, Code.COUNTERS_UNKNOWN)
        assert "vllm:generation_tokens_total" in why
        failure = agent.view().uncounted
        assert failure is not None
        assert "--disable-log-stats" in failure.hint
        assert agent.view().status == "serving"  # it may well be wanted like this
        assert agent.view().trouble is None

        world.kill_engine()
        await until(lambda: len(messages(agent, Code.COUNTERS_UNKNOWN)) == 2)
        world.endpoints["8b"].counts = True
        await until(lambda: agent.view().uncounted is None)

    play(world, scenario)


def test_an_engine_that_does_not_count_and_hangs_is_replaced(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.health.liveness.UNCOUNTED_S", 1.5)

    async def scenario(world: World, agent: Agent) -> None:
        world.endpoints["8b"].counts = False
        await serve(world, agent)
        world.endpoints["8b"].hangs = True
        await until(lambda: messages(agent, Code.ENGINE_HUNG))
        world.endpoints["8b"].hangs = False
        assert "its counters are not understood" in messages(agent, Code.ENGINE_HUNG)[0]
        await until(lambda: started(world) == 2)
        await agent.reach(Phase.SERVING)

    play(world, scenario)


def test_looks_at_the_counters_wake_nobody(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.health.liveness.LOOK_S", 0.05)

    async def scenario(world: World, agent: Agent) -> None:
        world.endpoints["8b"].flows = True
        await serve(world, agent)
        await asyncio.sleep(0.3)
        board, seen, before = agent.controller.board, set[int](), looks(world)
        kept = []
        while looks(world) < before + 20:
            kept.append(board.snapshot)  # so that no id comes twice
            seen.add(id(board.snapshot))
            await asyncio.sleep(0.01)
        assert len(seen) <= 3

    play(world, scenario)
