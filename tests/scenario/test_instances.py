# SPDX-License-Identifier: MulanPSL-2.0
"""Several instances on one host: each has its own NPUs, and its own trouble."""

from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import Code
from agent.facts import PayloadFacts
from agent.model import NpuProcess, Phase, engine_unit
from tests.build import build_container, build_inventory, build_npu
from tests.fakes.bus import PrivateBus
from tests.fakes.systemd import Job
from tests.scenario.world import Agent, World, play, until

START = ("StartUnit", engine_unit("8b"))


def test_instances_started_one_after_the_other_share_no_npu(
    tmp_path: Path, bus: PrivateBus
) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        for name in world.profiles:
            world.start(name)
            await agent.reach(Phase.SERVING, name)
        assert [agent.view(name).npus for name in world.profiles] == [(0,), (1,), (2,)]

    play(World(tmp_path, bus, profiles=("8b", "14b", "32b")), scenario)


def test_instances_started_at_once_share_no_npu(tmp_path: Path, bus: PrivateBus) -> None:
    """As at boot."""

    async def scenario(world: World, agent: Agent) -> None:
        for name in world.profiles:
            world.start(name)
        for name in world.profiles:
            await agent.reach(Phase.SERVING, name)
        npus = [npu for name in world.profiles for npu in agent.view(name).npus]
        assert sorted(npus) == [0, 1, 2]

    world = World(tmp_path, bus, profiles=("8b", "14b", "32b"))
    world.podman.survey_takes_s = 0.05  # the worker process takes longer than that
    play(world, scenario)


def test_one_that_podman_has_lost_outlives_the_stop_and_the_start_of_another(
    tmp_path: Path, bus: PrivateBus
) -> None:
    """Podman's database was given up for another while engines served (podman#28216)."""

    async def scenario(world: World, agent: Agent) -> None:
        for name in world.profiles:
            world.start(name)
            await agent.reach(Phase.SERVING, name)
        lost = world.podman.containers.pop("deepseek-vllm-8b")
        alive = PayloadFacts(4711, 7, lost.container_id, engine_unit("8b"))
        world.payloads.running.append(alive)
        world.stop("7b")
        await agent.reach(Phase.IDLE, "7b")
        world.start("7b")
        await agent.reach(Phase.SERVING, "7b")
        assert world.payloads.killed == []
        assert agent.view("8b").phase is Phase.SERVING
        world.stop("8b")
        await until(lambda: world.payloads.killed == [4711])

    play(World(tmp_path, bus, profiles=("8b", "7b")), scenario)


def test_the_last_npu_is_for_one(tmp_path: Path, bus: PrivateBus) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        world.start("8b")
        await agent.reach(Phase.SERVING, "8b")
        world.start("14b")
        await agent.reach(Phase.HELD, "14b")
        assert agent.view("14b").failure.code is Code.NPU_TOO_FEW  # type: ignore[union-attr]
        assert agent.view("8b").phase is Phase.SERVING

    world = World(tmp_path, bus, profiles=("8b", "14b"))
    world.inventory = build_inventory(1)
    play(world, scenario)


def test_one_that_fails_does_not_disturb_the_other(tmp_path: Path, bus: PrivateBus) -> None:
    async def scenario(world: World, agent: Agent) -> None:
        for name in world.profiles:
            world.start(name)
            await agent.reach(Phase.SERVING, name)
        before = world.acted().count(START)
        world.systemd.jobs[engine_unit("14b")] = Job("failed")
        world.kill_engine("14b")
        await until(lambda: agent.view("14b").failures >= 3)
        assert agent.view("8b").phase is Phase.SERVING
        assert world.acted().count(START) == before

    play(World(tmp_path, bus, profiles=("8b", "14b")), scenario)


def test_the_end_of_a_process_that_held_the_npu_is_noticed(tmp_path: Path, bus: PrivateBus) -> None:
    """Held by a container, an NPU is waited for until something changes; npud tells of its end."""

    async def scenario(world: World, agent: Agent) -> None:
        foreign = build_container("foreign", "/dev/davinci0")
        world.podman.containers["foreign"] = foreign
        world.start("8b")
        await agent.reach(Phase.HELD, "8b")
        del world.podman.containers["foreign"]
        agent.see(build_inventory([build_npu(0)], sequence=2))
        await agent.reach(Phase.SERVING, "8b")

    world = World(tmp_path, bus)
    process = NpuProcess(4711, "python", 30_000)
    world.inventory = build_inventory([build_npu(0, processes=(process,))])
    play(world, scenario)


def test_npus_are_taken_before_the_start_that_takes_them_has_ended(
    tmp_path: Path, bus: PrivateBus
) -> None:
    """systemd has said "done", and the writer has not taken note of it: the next plan knows."""

    async def scenario(world: World, agent: Agent) -> None:
        record = agent.controller.roster.get("8b")
        assert record is not None
        agent.controller._worker.claims["14b"] = (3,)
        other = agent.controller.roster.get("14b")
        assert other is not None
        other.state = replace(other.state, phase=Phase.STARTING)
        (neighbor,) = agent.controller.pilot.request(record).neighbors
        assert (neighbor.name, neighbor.npus) == ("14b", (3,))

    play(World(tmp_path, bus, profiles=("8b", "14b")), scenario)


def test_what_hangs_of_one_keeps_no_other_down(
    tmp_path: Path, bus: PrivateBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its engine died, a process of it hangs in the driver, and Podman has dropped the record."""
    monkeypatch.setattr("agent.action.leftovers.END_DEADLINE_S", 0.01)

    async def scenario(world: World, agent: Agent) -> None:
        world.start("8b")
        await agent.reach(Phase.SERVING, "8b")
        container = world.podman.containers["deepseek-vllm-8b"]
        world.payloads.running.append(
            PayloadFacts(4711, 7, container.container_id, engine_unit("8b"))
        )
        world.payloads.hanging.add(4711)
        world.machine.alive[4711] = f"0::/deepseek.slice/libpod-{container.container_id}.scope"
        process = NpuProcess(4711, "python", 30_000)
        held = build_npu(0, processes=(process,), processes_told=True)
        agent.see(build_inventory([held, build_npu(1), build_npu(2)], sequence=2))
        world.kill_engine("8b")
        await until(lambda: agent.view("8b").failures >= 2)
        world.start("7b")
        await agent.reach(Phase.SERVING, "7b")
        assert agent.view("7b").npus == (1,)
        assert Code.PAYLOAD_LEFT in agent.kinds("7b")
        failure = agent.view("8b").failure
        assert failure is not None
        assert failure.code is Code.PAYLOAD_LEFT
        assert world.engine("8b") != "active"

    play(World(tmp_path, bus, profiles=("8b", "7b")), scenario)


def test_what_one_had_is_free_for_another_that_starts_beside_it(
    tmp_path: Path, bus: PrivateBus
) -> None:
    """The profile has other NPUs by now, and nobody has started it since."""
    world = World(tmp_path, bus, profiles=("8b", "7b"))
    world.npus = {"8b": (0, 1, 2, 3), "7b": (2, 3)}

    async def scenario(world: World, agent: Agent) -> None:
        world.start("8b")
        await agent.reach(Phase.SERVING, "8b")
        world.stop("8b")
        await agent.reach(Phase.IDLE, "8b")
        await until(lambda: agent.view("8b").unit_file == "")  # swept
        assert agent.view("8b").npus == ()
        world.npus["8b"] = (0, 1)
        await agent.requests.take_config(world.config())
        world.podman.survey_takes_s = 0.1
        world.start("8b")
        await agent.reach(Phase.STARTING, "8b")
        world.start("7b")
        for name in world.profiles:
            await agent.reach(Phase.SERVING, name)
        assert [agent.view(name).npus for name in world.profiles] == [(0, 1), (2, 3)]
        assert agent.kinds("7b").count("held") == 0

    play(world, scenario)


def test_a_claim_ends_with_its_start(tmp_path: Path, bus: PrivateBus) -> None:
    """The next start of the same plans anew, and meanwhile takes nothing from the others."""
    world = World(tmp_path, bus, profiles=("8b", "7b"))

    async def scenario(world: World, agent: Agent) -> None:
        world.start("8b")
        await until(lambda: agent.controller._worker.claims == {"8b": (0,)})
        await agent.reach(Phase.SERVING, "8b")
        assert agent.controller._worker.claims == {}

    play(world, scenario)
