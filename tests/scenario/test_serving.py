# SPDX-License-Identifier: MulanPSL-2.0
"""From `systemctl start` to serving, through every kind of trouble on the way, and back again."""

import asyncio
from pathlib import Path

import pytest

from agent.errors import AgentError, Code, HostUnavailable
from agent.host.containers import Podman
from agent.model import DriverState, Inventory, Phase, engine_unit, front_unit
from tests.build import build_inventory
from tests.fakes.podman_api import FakePodmanApi
from tests.fakes.systemd import SERVICE, Job, escape
from tests.scenario.world import Agent, World, play, until

ENGINE, FRONT = engine_unit("8b"), front_unit("8b")
START, STOP = ("StartUnit", ENGINE), ("StopUnit", ENGINE)
PODMAN_DOWN = HostUnavailable(Code.PODMAN_UNAVAILABLE, "cannot ask Podman: connection refused")


# --- a good start --------------------------------------------------------------------------------


def test_from_start_to_serving(world: World) -> None:
    world.loads = False

    async def scenario(world: World, agent: Agent) -> None:
        assert agent.view().phase is Phase.IDLE
        world.start()
        await agent.reach(Phase.LOADING)
        assert world.acted() == [("Reload", ""), ("ResetFailedUnit", ENGINE), START]
        assert world.front() == "activating"
        assert agent.view().npus == (0,)
        assert agent.view().unit_file == "/run/containers/systemd/deepseek-vllm-8b.container"
        text = world.files.read(Path(agent.view().unit_file))  # type: ignore[arg-type]
        assert text is not None
        assert "/dev/davinci0" in text
        world.load()
        await agent.reach(Phase.SERVING)
        await until(lambda: world.front() == "active")
        assert world.endpoints["8b"].asked[:2] == ["/health", "/v1/completions"]
        assert agent.kinds() == ["starting", "loading", "serving"]
        assert [line["ready"] for line in world.lines["8b"]][-1] is True

    play(world, scenario)


def test_health_alone_is_not_serving(world: World) -> None:
    """/health of vLLM says 200 before, and while, nothing is generated."""
    world.endpoints["8b"].completes = False

    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await until(lambda: "/v1/completions" in world.endpoints["8b"].asked)
        await asyncio.sleep(0.3)
        assert agent.view().phase is Phase.LOADING
        world.endpoints["8b"].completes = True
        await agent.reach(Phase.SERVING)

    play(world, scenario)


def test_stop(world: World) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await agent.reach(Phase.SERVING)
        world.stop()
        await agent.reach(Phase.IDLE)
        assert world.engine() == "inactive"
        assert STOP not in world.acted()  # systemd does it, also without us (PartOf=)
        await asyncio.sleep(0.3)
        assert world.acted().count(START) == 1
        assert not agent.view().wished

    play(world, scenario)


def test_a_wanted_stop_is_no_failure(world: World) -> None:
    """Seen by the agent only when the engine is already down, as on a busy host."""

    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await agent.reach(Phase.SERVING)
        await until(lambda: world.front() == "active")
        world.systemd.delay_s["LoadUnit"] = 0.1
        world.stop()
        await agent.reach(Phase.IDLE)
        assert "backoff" not in agent.kinds()
        assert agent.view().failure is None

    play(world, scenario)


def test_what_was_seen_before_the_start_does_not_count_after_it(world: World) -> None:
    """A look at the units that PID 1 answers late, as during a reload."""
    world.podman.survey_takes_s = 0.2

    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await until(lambda: world.podman.surveys == 1)
        world.systemd.late_once[SERVICE, escape(ENGINE)] = 0.6
        world.systemd.change(FRONT, "activating")  # the agent looks: the engine is inactive
        await agent.reach(Phase.SERVING)
        await asyncio.sleep(0.6)
        assert not world.systemd.late_once
        assert agent.kinds() == ["starting", "loading", "serving"]
        assert agent.view().failures == 0

    play(world, scenario)


def test_started_again_after_a_stop(world: World) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        for _ in range(3):
            world.start()
            await agent.reach(Phase.SERVING)
            await until(lambda: world.front() == "active")
            world.stop()
            await agent.reach(Phase.IDLE)
            world.systemd.jobs[FRONT] = Job(ends=False)
        assert world.acted().count(START) == 3
        assert world.acted().count(("Reload", "")) == 1
        assert world.files.written.count("/run/containers/systemd/deepseek-vllm-8b.container") == 1

    play(world, scenario)


# --- trouble that passes -------------------------------------------------------------------------


def test_the_engine_dies_and_is_started_again(world: World) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await agent.reach(Phase.SERVING)
        await until(lambda: world.front() == "active")
        world.kill_engine()
        await until(lambda: world.acted().count(START) == 2)
        await agent.reach(Phase.SERVING)
        wanted = ["serving", "backoff", "evidence", "starting", "loading", "serving"]
        assert agent.kinds()[2:] == wanted
        assert agent.view().failures == 1
        assert world.front() == "active"  # READY stays READY
        assert world.acted().count(("ResetFailedUnit", ENGINE)) == 2

    play(world, scenario)


def test_an_engine_that_dies_while_loading(world: World) -> None:
    world.loads = False

    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        for number in range(1, 5):
            await until(lambda number=number: world.acted().count(START) == number)  # type: ignore[misc]
            await agent.reach(Phase.LOADING)
            world.kill_engine()
            await agent.reach(Phase.BACKOFF)
        failure = agent.view().failure
        assert failure is not None
        assert failure.code is Code.ENGINE_DIED
        assert "exit status 1" in failure.message
        assert agent.view().failures == 4
        assert all(line.get("exit") is None for line in world.lines["8b"])

    play(world, scenario)


def test_podman_is_down_for_a_while(world: World) -> None:
    world.podman.broken = PODMAN_DOWN

    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await until(lambda: world.podman.surveys >= 4)
        assert world.acted() == []
        failure = agent.view().failure
        assert failure is not None
        assert failure.code is Code.PODMAN_UNAVAILABLE
        world.podman.broken = None
        await agent.reach(Phase.SERVING)
        assert all(line.get("exit") is None for line in world.lines["8b"])

    play(world, scenario)


@pytest.mark.parametrize(
    "inventory",
    [
        Inventory(DriverState.ABSENT, detail="no /dev/davinci*"),
        Inventory(DriverState.UNKNOWN, detail="npud has said nothing for 16 s"),
        build_inventory(manager_devices=()),
    ],
)
def test_the_driver_comes_late(world: World, inventory: Inventory) -> None:
    world.inventory = inventory

    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await agent.reach(Phase.WAITING)
        assert world.podman.surveys == 0
        assert world.front() == "activating"  # waiting is never held
        agent.see(build_inventory())
        await agent.reach(Phase.SERVING, within_s=1.5)  # at once, not after recheck_held_s

    play(world, scenario)


def test_npud_falls_silent_while_it_serves(world: World) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await agent.reach(Phase.SERVING)
        agent.see(Inventory(DriverState.UNKNOWN, detail="silent"))
        agent.see(build_inventory(0))
        await asyncio.sleep(0.3)
        assert agent.view().phase is Phase.SERVING  # nothing is done on UNKNOWN
        assert world.acted().count(START) == 1

    play(world, scenario)


@pytest.mark.parametrize("result", ["failed", "timeout", "canceled"])
def test_a_start_that_systemd_reports_as_failed(world: World, result: str) -> None:
    world.systemd.jobs[ENGINE] = Job(result)

    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await until(lambda: world.acted().count(START) == 3)
        world.systemd.jobs[ENGINE] = Job()
        await agent.reach(Phase.SERVING)

    play(world, scenario)


def test_a_reload_that_is_refused(world: World) -> None:
    world.systemd.refuse["Reload"] = "org.freedesktop.systemd1.ReloadLimited"

    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await until(lambda: world.systemd.calls.count(("Reload", "")) >= 3)
        assert START not in world.acted()
        world.systemd.refuse.clear()
        await agent.reach(Phase.SERVING)

    play(world, scenario)


def test_a_generator_that_refuses_is_told_and_served_around(world: World) -> None:
    world.files.refusal = "unsupported key 'ShmSize'"

    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await agent.reach(Phase.SERVING)
        assert agent.view().unit_file == f"/run/systemd/system/{ENGINE}"
        assert "quadlet-refused" in agent.kinds()

    play(world, scenario)


@pytest.mark.parametrize(
    "surprise", [OSError(28, "No space left on device"), RuntimeError("a mistake of ours")]
)
def test_a_start_that_ends_with_a_surprise_is_tried_again(
    world: World, surprise: Exception
) -> None:
    world.files.fails = surprise

    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await agent.reach(Phase.BACKOFF, within_s=1.5)
        world.files.fails = None
        await agent.reach(Phase.SERVING)

    play(world, scenario)


# --- held ----------------------------------------------------------------------------------------


def test_an_image_that_is_missing_is_held_and_asked_again(world: World) -> None:
    profile = world.profile("8b")
    world.podman.images[profile.images.a2] = ""

    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await until(lambda: world.front() == "failed")
        assert world.lines["8b"][-1]["exit"] == 69
        assert world.supplier.orders != []
        assert world.systemd.units[FRONT].exit_status == 69
        assert agent.view().phase is Phase.HELD
        assert agent.view().wished  # it is enabled
        assert world.acted() == []
        # the operator pulls the image and starts it by hand
        world.podman.images.clear()
        world.start()
        await agent.reach(Phase.SERVING)

    play(world, scenario)


def test_held_comes_back_by_itself_when_the_cause_changes(world: World) -> None:
    world.inventory = build_inventory(0)

    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await until(lambda: world.front() == "failed")
        assert agent.view().phase is Phase.HELD
        agent.see(build_inventory(1))
        await agent.reach(Phase.SERVING)
        assert world.systemd.asked("StartUnit")[0] == ("StartUnit", FRONT)  # the front first
        await until(lambda: world.front() == "active")

    play(world, scenario)


def test_held_and_not_enabled_is_no_wish(world: World) -> None:
    world.systemd.units[FRONT].file_state = "disabled"
    world.inventory = build_inventory(0)

    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await until(lambda: world.front() == "failed")
        await agent.reach(Phase.IDLE)
        agent.see(build_inventory(1))
        await asyncio.sleep(0.3)
        assert world.acted() == []
        failure = agent.view().failure
        assert failure is not None
        assert failure.code is Code.NPU_TOO_FEW  # the reason stays to be seen

    play(world, scenario)


# --- the wish ------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["survey", "job"])
def test_the_wish_is_withdrawn_while_it_starts(world: World, moment: str) -> None:
    world.podman.survey_takes_s = 0.2 if moment == "survey" else 0.0
    world.systemd.jobs[ENGINE] = Job(after_s=0.2)

    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        seen = world.podman.surveys
        ready = (lambda: world.podman.surveys > seen) if moment == "survey" else None
        await until(ready or (lambda: START in world.acted()))
        world.stop()
        await agent.reach(Phase.IDLE)
        await until(lambda: world.engine() in ("inactive", "failed"))
        await asyncio.sleep(0.3)
        assert world.engine() in ("inactive", "failed")
        assert world.acted().count(START) <= 1
        assert not world.podman.containers

    play(world, scenario)


def test_an_unknown_instance(world: World) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        with pytest.raises(AgentError) as raised:
            await agent.requests.attach("9z", resumed=False)
        assert raised.value.failure.code is Code.INSTANCE_UNKNOWN
        assert "there are: 8b" in raised.value.failure.message

    play(world, scenario)


def test_the_real_podman_worker_over_a_fake_api(world: World) -> None:
    """The whole path: controller, actions, worker process, HTTP."""
    api = FakePodmanApi(world.folder / "podman.sock")
    api.images[world.profile("8b").images.a2] = "ab" * 32
    worker = Podman(("--socket", f"unix://{api.path}"))
    world.podman = worker  # type: ignore[assignment]
    world.systemd.on_started = lambda unit: world.load()

    async def scenario(world: World, agent: Agent) -> None:
        world.start()
        await agent.reach(Phase.BACKOFF)  # podman.socket is not there yet
        await api.start()
        try:
            await agent.reach(Phase.SERVING)
        finally:
            await api.close()

    play(world, scenario)
