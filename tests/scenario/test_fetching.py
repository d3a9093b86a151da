# SPDX-License-Identifier: MulanPSL-2.0
"""What is missing is brought: before a start, through trouble on the way, and ahead of time."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from agent.errors import AgentError, Code, Failure, HostError
from agent.model import DriverState, Phase, engine_unit, front_unit
from agent.supplies import Item, Order, Progress, Report, Stage
from tests.build import IMAGE_ID, SUPPLY, build_inventory
from tests.fakes.systemd import Job
from tests.scenario.world import Agent, World, host, play, recheck, running, until

FRONT = front_unit("8b")
HALF = Progress(Item.MODEL, Stage.FETCHING, "hub.example", 5 * 2**30, 10 * 2**30, 2.0**20)
DOWN = Failure(Code.SOURCE_UNREACHABLE, "cannot fetch the model: hub.example does not answer")
GONE = Failure(Code.SOURCE_NOT_FOUND, "cannot fetch the model: there is none", "see the repo")
BROUGHT = Report(None, IMAGE_ID, "sha256:00", "c0ffee")


def lacks_everything(world: World) -> None:
    world.podman.images[world.profile("8b").images.a2] = ""
    world.machine.present = False


def bring(world: World) -> Report:
    world.podman.images.clear()
    world.machine.present = True
    return BROUGHT


def test_a_bare_host_serves_by_one_command(world: World) -> None:
    lacks_everything(world)
    world.supplier.brings = lambda order: bring(world)

    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await agent.reach(Phase.SERVING)
        await until(lambda: world.front() == "active")
        (order,) = world.supplier.orders
        assert order.image is not None
        assert order.model is not None
        kinds = ["starting", "fetching", "fetched", "starting", "loading", "serving"]
        assert agent.kinds() == kinds
        view = agent.view()
        assert (view.fetch, view.restarts, view.failures) == (None, 0, 0)
        assert view.fetch_end is not None
        assert (view.fetch_end.image_id, view.fetch_end.model_revision) == (IMAGE_ID, "c0ffee")

    play(world, scenario)


def test_what_is_being_brought_is_shown_and_counts_as_progress(world: World) -> None:
    lacks_everything(world)
    world.supplier.progress = (HALF, replace(HALF, done_bytes=6 * 2**30))
    world.supplier.takes_s = 60.0

    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await until(lambda: "60 %" in str(world.lines["8b"][-1:]))
        last = world.lines["8b"][-1]
        assert last["phase"] == "fetching"
        assert last["status"] == (
            "fetching the model from hub.example: 60 % (6.4 GB of 10.7 GB), "
            "1.0 MB/s, 1 h 8 min left"
        )
        progress = [int(str(line["progress"])) for line in world.lines["8b"]]
        assert progress == sorted(progress)
        assert world.front() == "activating"
        view = agent.view().fetch
        assert view is not None
        assert view.progress == replace(HALF, done_bytes=6 * 2**30)
        assert view.seconds_left == 4096

    play(world, scenario)


def test_a_lost_network_is_no_failure(world: World) -> None:
    lacks_everything(world)
    tries: list[Order] = []

    def third_time(order: Order) -> Report:
        tries.append(order)
        return Report(DOWN) if len(tries) < 3 else bring(world)

    world.supplier.brings = third_time

    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await agent.reach(Phase.SERVING)
        assert [kind for kind in agent.kinds() if kind in ("backoff", "fetched")] == [
            *("backoff", "backoff", "fetched")
        ]
        assert not any(isinstance(line.get("exit"), int) for line in world.lines["8b"])
        assert agent.view().restarts == 0  # no engine has failed

    play(world, scenario)


def test_what_is_not_there_is_said_and_held(world: World) -> None:
    lacks_everything(world)
    world.supplier.brings = lambda order: Report(GONE)

    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await until(lambda: world.front() == "failed")
        assert agent.view().phase is Phase.HELD
        assert agent.view().failure == GONE
        assert world.lines["8b"][-1]["exit"] == 69
        told = len(agent.kinds())
        agent.see(build_inventory(7))  # it is looked at again, and held again
        await until(lambda: len(world.supplier.orders) == 2)
        await agent.reach(Phase.HELD)
        assert len(agent.kinds()) == told
        world.supplier.brings = lambda order: bring(world)
        agent.see(build_inventory(8))
        await agent.reach(Phase.SERVING)

    play(world, scenario)


def test_what_still_lacks_after_a_fetch_is_no_loop(world: World) -> None:
    lacks_everything(world)
    world.supplier.brings = lambda order: BROUGHT  # says so, and has done nothing

    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await agent.reach(Phase.HELD)
        assert len(world.supplier.orders) == 1

    play(world, scenario)


def test_a_stop_ends_the_fetch(world: World) -> None:
    lacks_everything(world)
    world.supplier.takes_s = 60.0

    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await agent.reach(Phase.FETCHING)
        world.stop()
        await agent.reach(Phase.IDLE)
        await until(lambda: world.supplier.ended == ["8b"])
        assert agent.view().fetch is None

    play(world, scenario)


def test_a_changed_order_takes_the_place_of_the_old_one(world: World) -> None:
    lacks_everything(world)
    world.supplier.takes_s = 60.0

    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await agent.reach(Phase.FETCHING)
        mended = replace(world.profile("8b"), sources=())
        await agent.requests.take_config(world.config(profiles=(mended,)))
        await until(lambda: len(world.supplier.orders) == 2)
        assert world.supplier.orders[1].model is not None
        assert world.supplier.orders[1].model.sources == ()
        assert agent.view().phase is Phase.FETCHING

    play(world, scenario)


def test_other_news_leave_it_alone(world: World) -> None:
    lacks_everything(world)
    world.supplier.takes_s = 60.0

    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await agent.reach(Phase.FETCHING)
        surveys = world.podman.surveys
        agent.see(replace(world.inventory, npus=world.inventory.npus[1:]))
        await until(lambda: world.podman.surveys > surveys)
        await agent.reach(Phase.FETCHING)
        await asyncio.sleep(0.1)
        assert len(world.supplier.orders) == 1
        assert world.supplier.ended == []

    play(world, scenario)


def test_what_is_there_already_ends_not_the_rest(world: World) -> None:
    """The model comes first: a look after that finds only the image missing, whose pull goes on."""
    lacks_everything(world)
    world.supplier.takes_s = 1.0
    world.supplier.brings = lambda order: bring(world)

    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await agent.reach(Phase.FETCHING)
        world.machine.present = True
        surveys = world.podman.surveys
        agent.see(build_inventory(7))
        await until(lambda: world.podman.surveys > surveys)
        await agent.reach(Phase.SERVING)
        assert len(world.supplier.orders) == 1
        assert agent.kinds().count("fetched") == 1

    play(world, scenario)


SILENT = HostError(Code.PODMAN_SILENT, "cannot ask Podman: no answer")


def podman_is_silent(world: World, agent: Agent) -> None:
    """Its storage is locked, most likely by the pull itself."""
    world.podman.broken = SILENT


def npud_is_silent(world: World, agent: Agent) -> None:
    agent.see(replace(world.inventory, driver=DriverState.UNKNOWN, npus=()))


@pytest.mark.parametrize(
    ("trouble", "phase"),
    [(podman_is_silent, Phase.BACKOFF), (npud_is_silent, Phase.WAITING)],
)
def test_a_look_that_fails_for_a_moment_leaves_it_alone(
    world: World, trouble: Callable[[World, Agent], None], phase: Phase
) -> None:
    lacks_everything(world)
    world.supplier.takes_s = 60.0

    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await agent.reach(Phase.FETCHING)
        trouble(world, agent)
        agent.see(replace(world.inventory, npus=world.inventory.npus[1:]))
        await agent.reach(phase)
        assert agent.view().fetch is not None
        world.podman.broken = None
        agent.see(build_inventory(8))
        await agent.reach(Phase.FETCHING)
        await asyncio.sleep(0.1)
        assert len(world.supplier.orders) == 1
        assert world.supplier.ended == []

    play(world, scenario)


def test_a_fetch_that_ends_in_such_a_moment_is_looked_at_at_once(world: World) -> None:
    lacks_everything(world)
    world.supplier.takes_s = 0.5
    world.supplier.brings = lambda order: bring(world)

    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await agent.reach(Phase.FETCHING)
        npud_is_silent(world, agent)
        await agent.reach(Phase.WAITING)
        agent.controller.desk.inventory = build_inventory(8)  # it is back, and that is no news
        await agent.reach(Phase.SERVING)
        assert len(world.supplier.orders) == 1

    play(world, scenario)


def test_what_nobody_lacks_any_more_is_not_brought(world: World) -> None:
    """Somebody else has put it there, and the engine that was started then dies."""
    lacks_everything(world)
    world.supplier.takes_s = 60.0

    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await agent.reach(Phase.FETCHING)
        bring(world)
        world.systemd.jobs[engine_unit("8b")] = Job(result="failed")
        agent.see(build_inventory(7))
        await agent.reach(Phase.BACKOFF)
        await until(lambda: world.supplier.ended == ["8b"])
        assert agent.view().fetch is None

    play(world, scenario)


def test_a_new_agent_goes_on_with_it(world: World) -> None:
    lacks_everything(world)
    world.supplier.takes_s = 60.0

    async def scenario() -> None:
        async with host(world):
            async with running(world) as agent:
                world.start()
                await agent.reach(Phase.FETCHING)
            world.supplier.takes_s = 0.0
            world.supplier.brings = lambda order: bring(world)
            async with running(world) as agent:
                await agent.reach(Phase.SERVING)
            first, second = world.supplier.orders
            assert first == second
            assert world.supplier.ended == []

    asyncio.run(scenario())


@pytest.mark.parametrize("fetch", [True, False])
def test_without_leave_only_the_import_folder_is_looked_into(world: World, fetch: bool) -> None:
    lacks_everything(world)
    world.supply = replace(SUPPLY, fetch=fetch)

    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await agent.reach(Phase.HELD)
        order = world.supplier.orders[0]
        assert order.model is not None
        assert order.image is not None
        assert (order.model.sources != (), order.image.sources != ()) == (fetch, fetch)

    play(world, scenario)


# --- a model that is damaged ---------------------------------------------------------------------


def is_damaged(world: World) -> None:
    """As the plan sees it: no engine is started on it."""
    world.machine.problem, world.machine.revision = "config.json is damaged: no JSON", "c0ffee"


def mend(world: World) -> Report:
    world.machine.problem = ""
    return BROUGHT


def test_a_model_that_the_plan_finds_damaged_is_mended(world: World) -> None:
    is_damaged(world)
    world.supplier.brings = lambda order: replace(mend(world), model_source="/import/usb")

    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await agent.reach(Phase.SERVING)
        (fetched,) = (one.message for one in agent.events("8b") if one.kind == "fetched")
        assert "model revision c0ffee from /import/usb, in " in fetched
        (order,) = world.supplier.orders
        assert order.model is not None
        assert (order.model.recheck, order.image) == (True, None)
        assert agent.kinds() == [
            *("starting", "fetching", "fetched", "starting", "loading", "serving")
        ]

    play(world, scenario)


def test_an_operators_own_model_is_never_mended(world: World) -> None:
    """Not even looked at; nor is an image fetched for it that cannot be used."""
    is_damaged(world)
    world.machine.revision = ""
    world.podman.images[world.profile("8b").images.a2] = ""

    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await agent.reach(Phase.HELD)
        failure = agent.view().failure
        assert failure is not None
        assert failure.code is Code.MODEL_INVALID
        assert world.supplier.orders == []

    play(world, scenario)


def test_mending_that_does_not_help_is_no_loop(world: World) -> None:
    """Each byte is what the source has: to read them all every five minutes changes nothing."""
    is_damaged(world)
    world.supplier.brings = lambda order: BROUGHT

    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await agent.reach(Phase.HELD)
        await until(lambda: world.front() == "failed")
        failure = agent.view().failure
        assert failure is not None
        assert failure.code is Code.MODEL_INVALID
        assert "config.json is damaged" in failure.message
        assert "deepseekctl update" in failure.hint
        for _ in range(3):
            await recheck(world, agent)
            await agent.reach(Phase.HELD)
        assert len(world.supplier.orders) == 1
        world.start()  # a person wants it tried
        await until(lambda: len(world.supplier.orders) == 2)
        await agent.reach(Phase.HELD)
        world.supplier.brings = lambda order: mend(world)
        await agent.requests.pull("8b")
        await agent.reach(Phase.SERVING)
        assert len(world.supplier.orders) == 3

    play(world, scenario)


def test_mending_waits_for_the_network(world: World) -> None:
    is_damaged(world)
    tries: list[Order] = []

    def third_time(order: Order) -> Report:
        tries.append(order)
        return Report(DOWN) if len(tries) < 3 else mend(world)

    world.supplier.brings = third_time

    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await agent.reach(Phase.SERVING)
        assert [kind for kind in agent.kinds() if kind in ("backoff", "fetched", "held")] == [
            *("backoff", "backoff", "fetched")
        ]

    play(world, scenario)


# --- ahead of time -------------------------------------------------------------------------------


def test_it_is_brought_ahead_of_time(world: World) -> None:
    lacks_everything(world)
    world.supplier.brings = lambda order: bring(world)
    world.supply = replace(SUPPLY, fetch=False)  # a person has asked for it

    async def scenario(world: World, agent: Agent) -> None:
        await agent.requests.pull("8b")
        await until(lambda: agent.view().fetch_end is not None)
        order = world.supplier.orders[0]
        assert order.model is not None
        assert order.model.sources != ()
        assert agent.view().phase is Phase.IDLE
        assert agent.kinds() == ["fetched"]
        world.start()
        await agent.reach(Phase.SERVING)
        assert len(world.supplier.orders) == 1

    play(world, scenario)


def test_a_stop_does_not_end_what_a_person_asked_for(world: World) -> None:
    lacks_everything(world)
    world.supplier.takes_s = 60.0

    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await agent.reach(Phase.FETCHING)
        await agent.requests.pull("8b")
        world.stop()
        await agent.reach(Phase.IDLE)
        await asyncio.sleep(0.1)
        assert world.supplier.ended == []
        assert agent.view().fetch is not None
        assert len(world.supplier.orders) == 1

    play(world, scenario)


def test_nothing_is_missing(world: World) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        await agent.requests.pull("8b")
        end = agent.view().fetch_end
        assert end is not None
        assert end.failure is None
        assert world.supplier.orders == []

    play(world, scenario)


def test_a_failed_pull_is_told(world: World) -> None:
    lacks_everything(world)
    world.supplier.brings = lambda order: Report(GONE)

    async def scenario(world: World, agent: Agent) -> None:
        await agent.requests.pull("8b")
        await until(lambda: agent.view().fetch_end is not None)
        assert agent.view().fetch_end.failure == GONE  # type: ignore[union-attr]
        assert agent.view().phase is Phase.IDLE

    play(world, scenario)


def test_nobody_pulls_an_unknown_instance(world: World) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        with pytest.raises(AgentError) as caught:
            await agent.requests.pull("9b")
        assert caught.value.failure.code is Code.INSTANCE_UNKNOWN

    play(world, scenario)
