# SPDX-License-Identifier: MulanPSL-2.0
"""A start whose end nobody hears, while the engine comes up all the same: on other NPUs, of another
image, from another unit file than the engine before it."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agent.action.running import Running, no_drain_mark, save_running
from agent.control.messages import EngineSeen
from agent.errors import Code, Failure, HostUnavailable
from agent.model import JobResult, Phase, UnitStatus, engine_unit
from agent.ports import UnitManager
from agent.render.choose import RUN_QUADLET
from tests.npus import shipped_catalogue
from tests.scenario import virtual
from tests.scenario.test_lifecycle import find_bus, lose_bus, serve
from tests.scenario.test_npus import SEPARATE, ill, well
from tests.scenario.updates import NEW, OLD, Engines, Host, Life, life
from tests.scenario.world import Agent, World, host, play, running, until

ENGINE = engine_unit("8b")
START, STOP = ("StartUnit", ENGINE), ("StopUnit", ENGINE)
QUADLET = RUN_QUADLET / "deepseek-vllm-8b.container"

Answer = Callable[[], Awaitable[JobResult]]


async def gone() -> JobResult:
    raise HostUnavailable(Code.SYSTEMD_UNAVAILABLE, "cannot ask systemd: the system bus is gone")


async def too_late() -> JobResult:
    """Our own deadline comes first."""
    return JobResult.TIMEOUT


async def slow() -> JobResult:
    """The unit is seen to be up a good while before that."""
    await asyncio.sleep(0.3)
    return JobResult.DONE


def answer(units: UnitManager, how: Answer) -> None:
    """To every start of an engine from now on."""
    whole = units.start

    async def start(unit: str, deadline_s: float) -> JobResult:
        await whole(unit, deadline_s)
        return await how()

    units.start = start  # type: ignore[method-assign]


def queue(units: UnitManager, after_s: float, result: JobResult = JobResult.TIMEOUT) -> None:
    """The next start is behind others, for longer than it is waited for, and then as long again."""
    whole = units.start

    async def start(unit: str, deadline_s: float) -> JobResult:
        units.start = whole  # type: ignore[method-assign]
        waiting.append(asyncio.create_task(late(unit, deadline_s)))
        return result

    async def late(unit: str, deadline_s: float) -> None:
        await asyncio.sleep(after_s)
        await whole(unit, deadline_s)

    waiting: list[asyncio.Task[None]] = []
    units.start = start  # type: ignore[method-assign]


def lose_stop(units: Engines, *, restarts: bool = False) -> None:
    """The next stop is not delivered, and then units are seen again. `restarts`: the next start
    asks as much in vain."""
    stop, status = units.stop, units.status

    async def lost(unit: str, deadline_s: float) -> JobResult:
        units.stop = stop  # type: ignore[method-assign]
        if restarts:
            units.status = silent  # type: ignore[method-assign]
        else:
            telling.append(asyncio.create_task(tell()))
        return await gone()

    async def silent(unit: str) -> UnitStatus:
        units.status = status  # type: ignore[method-assign]
        await gone()
        raise AssertionError

    async def tell() -> None:
        await asyncio.sleep(1.0)
        await units.tell()

    telling: list[asyncio.Task[None]] = []
    units.stop = lost  # type: ignore[method-assign]


@pytest.fixture(name="npus")
def _npus(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Two of them; unit files are looked after all the time."""
    monkeypatch.setattr("agent.control.upkeep.FILE_CHECK_EVERY_S", 0.02)
    monkeypatch.setattr("agent.control.controller.TURN_S", 0.02)
    monkeypatch.setattr("agent.host.systemd.RECONNECT_EVERY_S", 0.05)
    world.inventory = well()
    world.faults = shipped_catalogue()
    return world


async def stays(world: World, agent: Agent) -> None:
    """On NPU 1, where it was started in place of NPU 0; what it was started from stays, too."""
    await agent.reach(Phase.SERVING)
    await asyncio.sleep(0.4)
    assert agent.view().npus == (1,)
    assert agent.view().phase is Phase.SERVING
    assert (world.acted().count(START), world.acted().count(STOP)) == (2, 1)
    assert "/dev/davinci1" in (world.files.read(QUADLET) or "")
    assert world.files.written.count(str(QUADLET)) == 2
    assert "unit-file-restored" not in agent.kinds()


@pytest.mark.parametrize("how", [gone, too_late, slow])
def test_an_engine_on_another_npu_is_left_alone(npus: World, how: Answer) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        await serve(world, agent)
        answer(agent.units, how)
        agent.see(ill(0, SEPARATE))
        await until(lambda: world.acted().count(START) == 2)
        await stays(world, agent)

    play(npus, scenario)


def test_an_engine_that_comes_up_long_after_its_start(npus: World) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        await serve(world, agent)
        limits = replace(world.config().limits, backoff_first_s=60.0, backoff_max_s=60.0)
        await agent.requests.take_config(world.config(limits=limits))
        queue(agent.units, 0.1)
        agent.see(ill(0, SEPARATE))
        await agent.reach(Phase.BACKOFF)
        await stays(world, agent)

    play(npus, scenario)


def test_an_engine_that_comes_up_while_the_bus_is_away(npus: World) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        await serve(world, agent)
        world.systemd.jobs[ENGINE].after_s = 0.2
        agent.see(ill(0, SEPARATE))
        await until(lambda: world.acted().count(START) == 2)
        await lose_bus(world, agent)
        await agent.reach(Phase.WAITING)
        world._on_started(ENGINE)
        world.systemd.units[ENGINE].active = "active"
        await find_bus(world, agent)
        await stays(world, agent)

    play(npus, scenario)


def test_what_podman_says_is_what_it_has(npus: World) -> None:
    """Whatever was written down, of another start."""

    async def scenario() -> None:
        async with host(npus):
            npus.run_engine("8b", 1)
            text = npus.files.read(QUADLET) or ""
            save_running(npus.files, Running(npus.profile("8b"), (0,), str(QUADLET), text))
            npus.attach()
            async with running(npus) as agent:
                await agent.reach(Phase.SERVING)
                await until(lambda: agent.view().npus == (1,))
                agent.see(ill(0, SEPARATE))
                await asyncio.sleep(0.4)
                assert agent.view().phase is Phase.SERVING
            assert npus.acted() == []

    asyncio.run(scenario())


@pytest.mark.parametrize("seen", [False, True])
def test_an_engine_that_goes_on_after_all_is_stopped_as_any_other(
    npus: World, *, seen: bool
) -> None:
    """A stop without waiting for its requests was not heard. `seen`: it is before the next try."""

    async def scenario(world: World, agent: Agent) -> None:
        await serve(world, agent)
        stop, asked = agent.units.stop, asyncio.Event()

        async def lost(unit: str, deadline_s: float) -> JobResult:
            agent.units.stop = stop  # type: ignore[method-assign]
            assert world.files.read(no_drain_mark("8b")) == ""
            asked.set()
            return await gone()

        agent.units.stop = lost  # type: ignore[method-assign]
        limits = replace(world.config().limits, recheck_held_s=0.3)
        if seen:
            limits = replace(limits, backoff_first_s=60.0, backoff_max_s=60.0, recheck_held_s=60.0)
        await agent.requests.take_config(world.config(limits=limits))
        refused = Failure(Code.ENGINE_FAILED, "cannot keep serving: nobody listens any more")
        agent.controller.put(EngineSeen("8b", refused, ""))
        await asked.wait()
        await until(lambda: agent.view().phase not in (Phase.SERVING, Phase.STOPPING))
        if seen:
            world.systemd.change(ENGINE, "active")
        await agent.reach(Phase.SERVING)
        assert (world.acted().count(START), world.acted().count(STOP)) == (1, 0)
        assert world.files.read(no_drain_mark("8b")) is None

    play(npus, scenario)


def test_a_new_agent_has_an_engine_that_serves_stopped_as_any_other(npus: World) -> None:
    """The one before it ended between the mark and the stop."""

    async def scenario() -> None:
        async with host(npus):
            npus.run_engine()
            npus.files.write(no_drain_mark("8b"), "")
            npus.attach()
            async with running(npus) as agent:
                await agent.reach(Phase.SERVING)
                assert npus.files.read(no_drain_mark("8b")) is None

    asyncio.run(scenario())


# --- systemctl restart of an engine --------------------------------------------------------------


def restart_engine(world: World) -> None:
    """Its job has it down for less time than a look takes."""
    world._on_stopped(ENGINE)
    world._on_started(ENGINE)
    world.systemd.change(ENGINE, "active", invocation=os.urandom(16))


def test_an_engine_that_was_started_anew_loads_anew(world: World) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        await serve(world, agent)
        world.loads = False
        for phase in (Phase.SERVING, Phase.LOADING):
            assert agent.view().phase is phase
            began = agent.kinds().count("loading")
            restart_engine(world)
            await until(lambda: agent.kinds().count("loading") > began)  # noqa: B023 - awaited here
            assert agent.view().phase is Phase.LOADING
        await asyncio.sleep(0.3)
        assert agent.view().phase is Phase.LOADING
        world.load()
        await agent.reach(Phase.SERVING)
        assert (world.acted().count(START), world.acted().count(STOP)) == (1, 0)

    play(world, scenario)


def test_an_engine_that_systemd_stops_is_not_ill(world: World) -> None:
    """A stop of ours would take the place of that one, and of the start that may follow it."""

    async def scenario(world: World, agent: Agent) -> None:
        await serve(world, agent)
        record = agent.controller.roster.get("8b")
        assert record is not None
        world.systemd.change(ENGINE, "deactivating")
        await until(lambda: record.is_going_down)
        refused = Failure(Code.ENGINE_FAILED, "cannot keep serving: nobody listens any more")
        agent.controller.put(EngineSeen("8b", refused, ""))
        await asyncio.sleep(0.2)
        assert agent.view().phase is Phase.SERVING
        assert "engine-failed" not in agent.kinds()
        restart_engine(world)
        await until(lambda: agent.kinds().count("loading") == 2)
        await agent.reach(Phase.SERVING)
        assert (world.acted().count(START), world.acted().count(STOP)) == (1, 0)

    play(world, scenario)


def test_a_start_of_ours_is_no_such_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also where the end of the former one was not seen."""
    outside = Host(tmp_path)

    async def one() -> None:
        async with life(outside) as agent:
            await agent.serve()
            await agent.requests.restart("8b")
            await agent.until(lambda: len(outside.engines.ran) == 2)
            await agent.serve()
            await outside.engines.tell()
            await asyncio.sleep(60)
            assert "backoff" not in agent.kinds
            assert agent.view.phase is Phase.SERVING

    virtual.run(monkeypatch, one)


# --- updates -------------------------------------------------------------------------------------


@pytest.fixture(name="update")
def _update(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[Callable[[Host], None], str], list[str]]:
    """Updates an engine, of whose new start is heard what `change` says, until `end` has happened
    and one serves; returns the images that ran."""

    def whole(change: Callable[[Host], None], end: str) -> list[str]:
        outside = Host(tmp_path)

        async def one() -> list[str]:
            async with life(outside) as agent:
                await agent.serve(OLD)
                change(outside)
                await agent.requests.update("8b", "", "")
                await agent.until(lambda: end in agent.kinds)
                await asyncio.sleep(3600)
                assert agent.view.phase is Phase.SERVING
                assert agent.update.current is not None
                assert agent.update.current.image_id == outside.engines.image
                assert not {"pin-lost", "unit-file-restored"} & set(agent.kinds)
                return outside.engines.ran

        return virtual.run(monkeypatch, one)

    return whole


Update = Callable[[Callable[[Host], None], str], list[str]]


def test_a_trial_is_of_the_engine_that_runs(update: Update) -> None:
    assert update(lambda host: answer(host.engines, gone), "updated") == [OLD, NEW]


def test_a_trial_that_dies_is_undone(update: Update) -> None:
    def change(host: Host) -> None:
        host.engines.lives[NEW] = 300.0
        answer(host.engines, gone)

    assert update(change, "update-undone") == [OLD, NEW, OLD]


def test_a_trial_that_comes_up_long_after_its_start_goes_on(update: Update) -> None:
    """By its next start it is found: to wait in a queue was no fault of its own."""

    def change(host: Host) -> None:
        host.engines.takes_s = 0.0
        queue(host.engines, 0.0)

    assert update(change, "updated") == [OLD, NEW]


def test_a_trial_that_comes_up_after_it_was_undone_is_replaced(update: Update) -> None:
    """Somebody else has started it again. By the start of the former one it is found, and systemd
    told nobody."""

    def change(host: Host) -> None:
        host.engines.takes_s = 0.0
        queue(host.engines, 0.0, JobResult.FAILED)

    assert update(change, "update-undone") == [OLD, NEW, OLD]


@pytest.mark.parametrize("restarts", [False, True])
def test_a_stop_for_a_trial_that_is_not_delivered(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, restarts: bool
) -> None:
    """The former one goes on, and is replaced all the same; so it is on the way back."""
    outside = Host(tmp_path)

    async def replaced(agent: Life, act: Awaitable[None]) -> None:
        lose_stop(outside.engines, restarts=restarts)
        await act
        await agent.until(lambda: agent.view.phase is Phase.WAITING)
        if restarts:
            await agent.requests.restart("8b")

    async def one() -> None:
        async with life(outside) as agent:
            await agent.serve(OLD)
            await replaced(agent, agent.requests.update("8b", "", ""))
            await agent.until(lambda: "updated" in agent.kinds)
            assert outside.engines.ran == [OLD, NEW]
            await replaced(agent, agent.requests.rollback("8b"))
            await agent.serve(OLD)
            await asyncio.sleep(60)
            assert outside.engines.ran == [OLD, NEW, OLD]
            assert outside.kept == {"current": OLD, "previous": NEW, "trial": ""}
            assert agent.view.phase is Phase.SERVING

    virtual.run(monkeypatch, one)
