# SPDX-License-Identifier: MulanPSL-2.0
"""Disks that are too full: told once, pruned at most once an hour; and people who prune."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agent.config.values import BrokenProfile, Config, Mode
from agent.control.controller import NOT_ASKED_YET, Controller
from agent.disks import GIB, Kind, PruneOrder, PruneReport, Removal, Wanted
from agent.errors import AgentError, Code, HostError
from agent.model import Phase
from agent.status.show import show
from agent.status.snapshot import DiskView
from tests.build import IMAGES, SUPPLY, build_config, build_profile
from tests.scenario import virtual
from tests.scenario.ports import FakeDisks, RootedFiles
from tests.scenario.world import Agent, World, play, until

HOUR = 3600.0
MODELS = "/var/lib/deepseek/models"
OLD = Removal(
    Kind.MODEL, f"{MODELS}/.store/8b/abc", f"{MODELS}/8b abc", "nobody needs it", 16 * 10**9
)
Play = Callable[[Controller], Awaitable[None]]


def hours(
    monkeypatch: pytest.MonkeyPatch, folder: Path, disks: FakeDisks, config: Config, scenario: Play
) -> None:
    """A scenario in simulated time."""

    async def whole() -> None:
        controller, task = await virtual.begin(
            virtual.Units(), RootedFiles(folder), disks=disks, config=config
        )
        try:
            await asyncio.sleep(120)
            await scenario(controller)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    virtual.run(monkeypatch, whole)


def config(**changes: object) -> Config:
    return replace(build_config(build_profile(), supply=SUPPLY), **changes)  # type: ignore[arg-type]


def told(controller: Controller) -> list[tuple[str, str]]:
    """About disks."""
    kinds = (Code.DISK_TOO_FULL, "disk-has-room", "pruned", Code.UNIT_START_FAILED)
    events = controller.board.snapshot.events
    return [(str(one.kind), one.message) for one in events if one.kind in kinds]


def test_as_good_as_full_does_not_wait_for_the_hour(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What may go only then was left by the prune before."""
    disks = FakeDisks()

    async def scenario(controller: Controller) -> None:
        disks.free_bytes = 44 * GIB
        await asyncio.sleep(600)
        assert len(disks.orders) == 1
        disks.free_bytes = 2 * GIB
        await asyncio.sleep(600)
        assert len(disks.orders) == 2
        await asyncio.sleep(HOUR - 700)
        assert len(disks.orders) == 2
        await asyncio.sleep(200)
        assert len(disks.orders) == 3

    hours(monkeypatch, tmp_path, disks, config(), scenario)


def test_low_is_told_once_and_pruned_at_most_hourly(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    disks = FakeDisks()

    async def scenario(controller: Controller) -> None:
        assert disks.orders == []
        assert controller.board.snapshot.disks == (
            DiskView(MODELS, 500 * GIB, 900 * GIB, low=False, low_below_bytes=45 * GIB),
        )
        disks.free_bytes = 44 * GIB
        await asyncio.sleep(2.5 * HOUR)
        assert told(controller) == [("disk-too-full", f"{MODELS}: 44 GiB free of 900, below 45")]
        assert controller.board.snapshot.disks[0].low
        assert len(disks.orders) == 3
        assert not any(one.dry_run for one in disks.orders)
        assert disks.orders[0].until == (Wanted(MODELS, int(45 * GIB * 1.1)),)
        assert disks.orders[0].models_dirs == (MODELS,)
        assert len({one.number for one in disks.orders}) == 3
        disks.free_bytes = 60 * GIB
        await asyncio.sleep(3 * HOUR)
        assert told(controller)[1:] == [("disk-has-room", f"{MODELS}: 60 GiB free of 900")]
        assert len(disks.orders) == 3
        disks.free_bytes = 1 * GIB
        await asyncio.sleep(120)
        assert len(told(controller)) == 3
        assert len(disks.orders) == 4

    hours(monkeypatch, tmp_path, disks, config(), scenario)


def test_what_was_left_in_models_dir_is_pruned_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Images are put together there, also where no profile's model lies below it."""
    disks = FakeDisks(free_bytes=44 * GIB)
    elsewhere = replace(build_profile(), model="/data/models/own")

    async def scenario(controller: Controller) -> None:
        assert disks.orders[0].models_dirs == ("/data/models", MODELS)
        # Little room where no model lies is no news.
        assert [one.path for one in controller.board.snapshot.disks] == ["/data/models"]

    hours(monkeypatch, tmp_path, disks, build_config(elsewhere, supply=SUPPLY), scenario)


def test_it_flaps_without_news(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    disks = FakeDisks(free_bytes=44 * GIB)

    async def scenario(controller: Controller) -> None:
        for _ in range(60):
            disks.free_bytes = 89 * GIB - disks.free_bytes
            await asyncio.sleep(60)
        assert len(told(controller)) == 1

    hours(monkeypatch, tmp_path, disks, config(), scenario)


def test_what_was_removed_is_told_and_the_disk_is_looked_at_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    disks = FakeDisks(free_bytes=44 * GIB)

    def removes(order: PruneOrder) -> PruneReport:
        disks.free_bytes = 60 * GIB
        return PruneReport(order.number, (OLD,), left_bytes=5)

    disks.prunes = removes

    async def scenario(controller: Controller) -> None:
        await asyncio.sleep(HOUR)
        assert told(controller) == [
            ("disk-too-full", f"{MODELS}: 44 GiB free of 900, below 45"),
            ("pruned", f"model {MODELS}/8b abc, 16.0 GB: nobody needs it"),
            ("disk-has-room", f"{MODELS}: 60 GiB free of 900"),
        ]
        assert len(disks.orders) == 1
        assert controller.board.snapshot.prunable_bytes == 5

    hours(monkeypatch, tmp_path, disks, config(), scenario)


@pytest.mark.parametrize(
    "changes",
    [{"supply": replace(SUPPLY, prune=False)}, {"mode": Mode.OBSERVE}],
)
def test_without_leave_it_only_says_what_could_go(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, changes: dict[str, object]
) -> None:
    disks = FakeDisks(free_bytes=12 * GIB)
    disks.prunes = lambda order: PruneReport(order.number, (OLD,), dry_run=order.dry_run)

    async def scenario(controller: Controller) -> None:
        await asyncio.sleep(2 * HOUR)
        assert [one.dry_run for one in disks.orders] == [True] * 3
        assert [kind for kind, _ in told(controller)] == ["disk-too-full"]
        text = show(controller.board.snapshot, 0.0)
        assert (
            f"disk {MODELS}: 12 GiB free of 900, below 45\n"
            "  16.0 GB that nobody uses go with: deepseekctl prune\n"
        ) in text

    hours(monkeypatch, tmp_path, disks, config(**changes), scenario)


def test_one_that_may_not_act_yet_prunes_as_soon_as_it_may(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As right after its start, when systemd has not answered yet."""
    disks = FakeDisks()

    async def scenario(controller: Controller) -> None:
        controller.systemd_problem = NOT_ASKED_YET
        disks.free_bytes = 12 * GIB
        await asyncio.sleep(120)
        assert [one.dry_run for one in disks.orders] == [True]
        controller.systemd_problem = None
        await asyncio.sleep(10)
        assert [one.dry_run for one in disks.orders] == [True, False]
        await asyncio.sleep(HOUR / 2)
        assert len(disks.orders) == 2

    hours(monkeypatch, tmp_path, disks, config(), scenario)


def test_a_prune_that_fails_is_tried_an_hour_later(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    disks = FakeDisks(free_bytes=12 * GIB)

    def fails(order: PruneOrder) -> PruneReport:
        raise HostError(Code.UNIT_START_FAILED, "cannot prune: job failed")

    disks.prunes = fails

    async def scenario(controller: Controller) -> None:
        await asyncio.sleep(1.5 * HOUR)
        assert [kind for kind, _ in told(controller)] == [
            *("disk-too-full", "unit-start-failed", "unit-start-failed")
        ]
        assert "nothing of the agent's can go" in show(controller.board.snapshot, 0.0)

    hours(monkeypatch, tmp_path, disks, config(), scenario)


def test_a_look_that_breaks_is_not_the_last_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    disks = FakeDisks(free_bytes=12 * GIB, breaks=2)

    async def scenario(controller: Controller) -> None:
        await asyncio.sleep(HOUR)
        assert controller.board.snapshot.disks[0].low
        assert 55 <= disks.looks <= 65

    hours(monkeypatch, tmp_path, disks, config(), scenario)


def test_a_disk_that_does_not_answer_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    disks = FakeDisks(hangs=True)

    async def scenario(controller: Controller) -> None:
        await asyncio.sleep(HOUR)
        assert controller.board.snapshot.instances[0].phase is Phase.SERVING
        assert controller.board.snapshot.disks == ()
        assert 55 <= disks.looks <= 65

    hours(monkeypatch, tmp_path, disks, config(), scenario)


def test_what_instances_need_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    disks = FakeDisks(free_bytes=12 * GIB)
    broken = (BrokenProfile("own", "it is damaged", ""),)

    async def scenario(controller: Controller) -> None:
        keep = disks.orders[0].keep
        assert keep.is_complete is not bool(controller.config.broken)
        assert keep.image_references == (IMAGES.a2, IMAGES.a3, IMAGES.duo)
        assert [one.directory for one in keep.models] == [build_profile().model]
        assert keep.instances == ("8b", *(one.name for one in controller.config.broken))

    hours(monkeypatch, tmp_path, disks, config(), scenario)
    disks.orders.clear()
    hours(monkeypatch, tmp_path, disks, config(broken=broken), scenario)


def test_a_person_prunes(world: World) -> None:
    world.disks.prunes = lambda order: PruneReport(order.number, (OLD,), dry_run=order.dry_run)

    async def scenario(world: World, agent: Agent) -> None:
        dry, done, again = await asyncio.gather(
            agent.requests.prune(True), agent.requests.prune(False), agent.requests.prune(True)
        )
        assert (dry.dry_run, done.dry_run, dry.number == again.number) == (True, False, True)
        assert [one.dry_run for one in world.disks.orders] == [True, False]
        assert all(one.until == () for one in world.disks.orders)
        assert [kind for kind in agent.kinds("") if kind == "pruned"] == ["pruned"]

    play(world, scenario)


def test_a_refusal_comes_to_the_one_who_asked(world: World) -> None:
    def fails(order: PruneOrder) -> PruneReport:
        raise HostError(Code.UNIT_START_FAILED, "cannot prune: job failed")

    world.disks.prunes = fails

    async def scenario(world: World, agent: Agent) -> None:
        with pytest.raises(AgentError, match="job failed"):
            await agent.requests.prune(False)
        assert "unit-start-failed" not in agent.kinds("")

    play(world, scenario)


def test_nothing_is_removed_while_it_only_watches(world: World) -> None:
    world.mode = Mode.OBSERVE

    async def scenario(world: World, agent: Agent) -> None:
        with pytest.raises(AgentError) as caught:
            await agent.requests.prune(False)
        assert caught.value.failure.code is Code.OBSERVING
        assert (await agent.requests.prune(True)).dry_run
        await until(lambda: world.disks.looks)

    play(world, scenario)
