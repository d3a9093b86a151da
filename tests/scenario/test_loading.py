# SPDX-License-Identifier: MulanPSL-2.0
"""A start that is watched: what is told of it, when it is given up, and what it died of."""

import asyncio
import time
from dataclasses import replace

import pytest

from agent.config.values import Mode
from agent.control.memory import InstanceMemory, Memory
from agent.errors import Code, Failure
from agent.health import log_watch
from agent.model import Phase, Step, engine_unit
from agent.policy import startup
from agent.supplies import Order, Report
from tests.fakes.engine.vllm_double.engine import loading_line
from tests.fakes.engine.vllm_double.failures import FAILURES
from tests.scenario.world import Agent, World, host, play, recheck, running, until

START = ("StartUnit", engine_unit("8b"))
NEEDED = Memory(instances=(InstanceMemory("8b", start_s=0.1),))
DAMAGED = tuple(FAILURES["damaged-model"].text.splitlines())
FAULTED = tuple(FAILURES["acl-507015"].text.splitlines())


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_watch, "NEWS_EVERY_S", 0.02)
    monkeypatch.setattr(log_watch, "LAST_WORDS_S", (0.0, 0.05))


async def load(world: World, agent: Agent) -> None:
    """Up to where the model loads; it does not come further by itself."""
    world.loads = False
    world.start()
    await agent.reach(Phase.LOADING)


# --- how far it has come -------------------------------------------------------------------------


def test_it_is_told_how_far_the_start_has_come(world: World) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        assert world.logs.lines is not None
        await load(world, agent)
        start = agent.view().start
        assert start is not None
        assert (start.step, start.percent, start.budget_s) == (Step.CONTAINER, None, 600.0)
        world.logs.lines.append(loading_line(5, 11, 3.0))
        await until(lambda: "weights 45 % (5 of 11)" in agent.view().status)
        start = agent.view().start
        assert start is not None
        assert (start.step, start.percent, start.done, start.total) == (Step.WEIGHTS, 45, 5, 11)
        await until(lambda: "weights 45 %" in str(world.lines["8b"][-1]["status"]))
        told = int(str(world.lines["8b"][-1]["progress"]))
        world.logs.lines.append("INFO:     Application startup complete.")
        await until(lambda: "waiting for its first token" in agent.view().status)
        await until(lambda: int(str(world.lines["8b"][-1]["progress"])) > told)
        world.load()
        await agent.reach(Phase.SERVING)
        assert agent.view().start is None
        assert agent.view().status == "serving"

    play(world, scenario)


def test_without_a_journal_it_serves_all_the_same(world: World) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        world.logs.lines = None
        await load(world, agent)
        await until(lambda: world.logs.followed)
        assert agent.view().status.startswith("loading the model, ")
        world.load()
        await agent.reach(Phase.SERVING)
        world.kill_engine()
        await until(lambda: world.acted().count(START) == 2)

    play(world, scenario)


def test_the_log_is_let_go_when_it_serves(world: World) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await agent.reach(Phase.SERVING)
        record = agent.controller.roster.get("8b")
        assert record is not None
        assert record.start.reader is None
        followed = world.logs.followed
        await asyncio.sleep(0.1)
        assert world.logs.followed == followed

    play(world, scenario)


# --- the budget ----------------------------------------------------------------------------------


def test_a_start_that_hangs_is_tried_anew(world: World) -> None:
    world.start_budget_s = 0.3

    async def scenario(world: World, agent: Agent) -> None:
        assert world.logs.lines is not None
        world.logs.lines.append(loading_line(1, 4, 3.0))
        await load(world, agent)
        await agent.reach(Phase.BACKOFF)
        failure = agent.view().failure
        assert failure is not None
        assert failure.code is Code.START_TOO_SLOW
        assert failure.message.endswith("it has come to: weights 25 % (1 of 4)")
        assert ("StopUnit", engine_unit("8b")) in world.acted()
        world.loads = True
        await agent.reach(Phase.SERVING)
        assert world.acted().count(START) >= 2
        kinds = agent.kinds()
        first = kinds.index("start-too-slow")
        assert kinds[first + 1 : first + 5] == ["stopping", "evidence", "backoff", "starting"]
        assert agent.view().restarts == 1

    play(world, scenario)


def test_what_moves_is_left_alone(world: World) -> None:
    world.start_budget_s = 1.5  # the machine of a test may be busy

    async def scenario(world: World, agent: Agent) -> None:
        assert world.logs.lines is not None
        await load(world, agent)
        for done in range(10):
            world.logs.lines.append(loading_line(done, 10, 3.0))
            await asyncio.sleep(0.3)
            assert agent.view().phase is Phase.LOADING
        world.load()
        await agent.reach(Phase.SERVING)
        assert world.acted().count(START) == 1

    play(world, scenario)


def test_without_a_journal_the_budget_alone_counts(world: World) -> None:
    world.start_budget_s = 0.3

    async def scenario(world: World, agent: Agent) -> None:
        world.logs.lines = None
        await load(world, agent)
        await asyncio.sleep(0.2)
        assert agent.view().phase is Phase.LOADING
        await until(lambda: "start-too-slow" in agent.kinds())

    play(world, scenario)


def test_in_observe_mode_it_is_only_said(world: World) -> None:
    world.start_budget_s, world.mode, world.loads = 0.2, Mode.OBSERVE, False
    world.memory = NEEDED

    async def whole() -> None:
        async with host(world):
            world.run_engine()
            async with running(world) as agent:
                await until(lambda: "start-too-slow" in agent.kinds())
                await asyncio.sleep(0.3)
                assert agent.view().phase is Phase.LOADING
                assert agent.kinds().count("start-too-slow") == 1
                assert world.acted() == []
                record = agent.controller.roster.get("8b")
                assert record is not None
                assert record.start.last_s == 0.1
                # Nothing to wake up for.
                assert agent.controller.pilot.loading.due_s(record, time.monotonic()) == []

    asyncio.run(whole())


def test_what_was_only_said_is_done_once_it_may_act(world: World) -> None:
    world.start_budget_s, world.mode, world.loads = 0.2, Mode.OBSERVE, False

    async def whole() -> None:
        async with host(world):
            world.run_engine()
            async with running(world) as agent:
                await until(lambda: "start-too-slow" in agent.kinds())
                world.loads = True
                await agent.requests.take_config(world.config(mode=Mode.ACT))
                await agent.reach(Phase.SERVING)
                assert world.acted().count(("StopUnit", engine_unit("8b"))) == 1
                assert world.acted().count(START) == 1
                assert agent.kinds().count("start-too-slow") == 1

    asyncio.run(whole())


def test_one_that_became_slow_is_not_stopped_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three times of what it needed once is too little by now, and it would never be measured."""
    monkeypatch.setattr(startup, "LEAST_S", 0.3)
    world.memory = NEEDED

    async def scenario(world: World, agent: Agent) -> None:
        await load(world, agent)
        await agent.reach(Phase.BACKOFF)
        await agent.reach(Phase.LOADING)
        start = agent.view().start
        assert start is not None
        assert start.budget_s == 600.0
        assert agent.kinds().count("start-too-slow") == 1
        await until(lambda: world.memory.of("8b").start_s is None)
        world.load()
        await agent.reach(Phase.SERVING)
        await until(lambda: world.memory.of("8b").start_s is not None)

    play(world, scenario)


@pytest.mark.parametrize(("model", "budget_s"), [("as it came", 180.0), ("another", 600.0)])
def test_what_it_needed_is_known_the_next_time(world: World, model: str, budget_s: float) -> None:
    async def first(world: World, agent: Agent) -> None:
        await load(world, agent)
        await asyncio.sleep(0.3)
        world.load()
        await agent.reach(Phase.SERVING)
        world.stop()
        await agent.reach(Phase.IDLE)

    async def both() -> None:
        async with host(world):
            async with running(world) as agent:
                await first(world, agent)
            needed_s = world.memory.of("8b").start_s
            assert needed_s is not None
            assert 0.3 <= needed_s < 3.0
            world.machine.identity = model
            async with running(world) as agent:
                await load(world, agent)
                start = agent.view().start
                assert start is not None
                assert start.budget_s == budget_s

    asyncio.run(both())


def test_an_adopted_engine_tells_nothing_of_its_start(world: World) -> None:
    async def whole() -> None:
        async with host(world):
            world.run_engine()
            async with running(world) as agent:
                await agent.reach(Phase.SERVING)
                assert world.memory.of("8b").start_s is None

    asyncio.run(whole())


# --- why it died ---------------------------------------------------------------------------------


async def die(world: World, agent: Agent, words: tuple[str, ...]) -> None:
    world.logs.last_words = words
    await load(world, agent)
    world.kill_engine()


def slow(world: World) -> None:
    """A backoff that the reading of a log fits into, as one of a second does."""
    config = world.config()
    limits = replace(config.limits, backoff_first_s=0.5, backoff_max_s=1.0)
    world.config = lambda **changes: replace(config, limits=limits, **changes)  # type: ignore[method-assign]


def test_trouble_of_the_npu_has_its_name_and_is_tried_again(world: World) -> None:
    slow(world)

    async def scenario(world: World, agent: Agent) -> None:
        await die(world, agent, FAULTED)
        await agent.reach(Phase.BACKOFF)
        await until(lambda: "npu-faulted" in agent.kinds())
        failure = agent.view().failure
        assert failure is not None
        assert "ACL 507015" in failure.message
        world.loads = True
        await agent.reach(Phase.SERVING)
        assert world.acted().count(START) == 2

    play(world, scenario)


async def be_held(world: World, agent: Agent) -> None:
    await die(world, agent, DAMAGED)
    await agent.reach(Phase.HELD)
    failure = agent.view().failure
    assert failure is not None
    assert failure.code is Code.MODEL_INVALID
    assert world.acted().count(START) == 1


def test_a_damaged_model_is_not_started_again_and_again(world: World) -> None:
    slow(world)

    async def scenario(world: World, agent: Agent) -> None:
        await be_held(world, agent)
        for _ in range(3):
            await recheck(world, agent)
            await agent.reach(Phase.HELD)
        assert world.acted().count(START) == 1
        assert agent.kinds().count("held") == 1  # that it stays so is no news
        world.machine.identity = "the file was fetched again"
        world.loads = True
        await recheck(world, agent)
        await agent.reach(Phase.SERVING)
        assert world.acted().count(START) == 2

    play(world, scenario)


def test_a_damaged_model_is_checked_and_brought_again(world: World) -> None:
    slow(world)
    world.machine.revision = "c0ffee"

    def mend(order: Order) -> Report:
        world.machine.identity, world.loads = "it has been brought again", True
        return Report(None)

    world.supplier.brings = mend

    async def scenario(world: World, agent: Agent) -> None:
        await die(world, agent, DAMAGED)
        await agent.reach(Phase.SERVING)
        (order,) = world.supplier.orders
        assert order.model is not None
        assert (order.model.recheck, order.image) == (True, None)
        assert world.acted().count(START) == 2
        assert [kind for kind in agent.kinds() if kind in ("held", "fetching", "fetched")] == [
            *("fetching", "fetched")
        ]

    play(world, scenario)


def test_mending_waits_for_the_network(world: World) -> None:
    """The engine is not started meanwhile: that it cannot read the model is known."""
    slow(world)
    world.machine.revision = "c0ffee"
    tries: list[Order] = []
    down = Failure(Code.SOURCE_UNREACHABLE, "cannot fetch the model: nobody answers")

    def third_time(order: Order) -> Report:
        tries.append(order)
        if len(tries) < 3:
            return Report(down)
        world.machine.identity, world.loads = "it has been brought again", True
        return Report(None)

    world.supplier.brings = third_time

    async def scenario(world: World, agent: Agent) -> None:
        await die(world, agent, DAMAGED)
        await agent.reach(Phase.SERVING)
        assert world.acted().count(START) == 2
        assert all(one == tries[0] for one in tries)
        assert "held" not in agent.kinds()

    play(world, scenario)


@pytest.mark.parametrize("starts", [1, 2])
def test_mending_that_does_not_help_is_no_loop(world: World, starts: int) -> None:
    """Its files are what they should be, or break as fast as they are mended."""
    slow(world)
    world.machine.revision = "c0ffee"

    def change(order: Order) -> Report:
        world.machine.identity = "it has been brought again"
        return Report(None)

    world.supplier.brings = change if starts == 2 else None

    async def scenario(world: World, agent: Agent) -> None:
        await die(world, agent, DAMAGED)
        if starts == 2:
            await until(lambda: world.acted().count(START) == 2)
            await agent.reach(Phase.LOADING)
            world.kill_engine()
        await agent.reach(Phase.HELD)
        await until(lambda: world.front() == "failed")
        for _ in range(3):
            await recheck(world, agent)
            await agent.reach(Phase.HELD)
        failure = agent.view().failure
        assert failure is not None
        assert failure.code is Code.MODEL_INVALID
        assert world.acted().count(START) == starts
        assert len(world.supplier.orders) == 1

    play(world, scenario)


def test_an_operators_own_model_is_not_rechecked(world: World) -> None:
    slow(world)

    async def scenario(world: World, agent: Agent) -> None:
        await be_held(world, agent)
        assert world.supplier.orders == []

    play(world, scenario)


def test_a_person_may_try_it_all_the_same(world: World) -> None:
    slow(world)

    async def scenario(world: World, agent: Agent) -> None:
        await be_held(world, agent)
        await until(lambda: world.front() == "failed")
        world.start()
        await until(lambda: world.acted().count(START) == 2)
        await agent.reach(Phase.LOADING)
        world.kill_engine()
        await agent.reach(Phase.HELD)
        await agent.requests.restart("8b")
        await until(lambda: agent.view().phase is not Phase.HELD)
        await agent.reach(Phase.LOADING, within_s=8.0)
        assert world.acted().count(START) == 3

    play(world, scenario)


def test_the_next_agent_does_not_try_it_either(world: World) -> None:
    slow(world)

    async def both() -> None:
        async with host(world):
            async with running(world) as agent:
                await be_held(world, agent)
                await until(lambda: world.memory.of("8b").tried is not None)
                await until(lambda: world.front() == "failed")
            async with running(world) as agent:
                await agent.reach(Phase.HELD)
                failure = agent.view().failure
                assert failure is not None
                assert failure.code is Code.MODEL_INVALID
                assert world.acted().count(START) == 1

    asyncio.run(both())


def test_what_had_served_is_not_held(world: World) -> None:
    """Its log may hold what users have written."""
    slow(world)

    async def scenario(world: World, agent: Agent) -> None:
        world.logs.last_words = DAMAGED
        world.start()
        await agent.reach(Phase.SERVING)
        world.kill_engine()
        await agent.reach(Phase.BACKOFF)
        await asyncio.sleep(0.2)
        assert agent.view().phase is Phase.BACKOFF
        await agent.reach(Phase.SERVING)

    play(world, scenario)


def test_one_that_died_before_its_start_was_done(world: World) -> None:
    """vLLM does not know an option: it is over before systemd says that it has begun."""
    slow(world)

    async def scenario(world: World, agent: Agent) -> None:
        world.logs.last_words = tuple(FAILURES["unknown-flag"].text.splitlines())
        world.systemd.jobs[engine_unit("8b")].result = "failed"
        world.start()
        await agent.reach(Phase.HELD)
        failure = agent.view().failure
        assert failure is not None
        assert failure.code is Code.ENGINE_OPTION_INVALID
        assert world.acted().count(START) == 1

    play(world, scenario)


def test_a_verdict_that_comes_late_is_waited_for(world: World) -> None:
    """The time for the next try has come before the log has been read."""
    world.logs.tail_takes_s = 0.5

    async def scenario(world: World, agent: Agent) -> None:
        await die(world, agent, DAMAGED)
        await until(lambda: "starting" in agent.kinds()[2:])
        await agent.reach(Phase.HELD)
        assert world.acted().count(START) == 1
        await until(lambda: world.memory.of("8b").tried is not None)
        await recheck(world, agent)
        await agent.reach(Phase.HELD)
        assert world.acted().count(START) == 1

    play(world, scenario)
