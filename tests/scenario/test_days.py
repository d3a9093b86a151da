# SPDX-License-Identifier: MulanPSL-2.0
"""Days of random trouble in simulated time, each with another seed: the real writer comes back from
each, tells of nothing else, and holds no more at the end than after the first hours.
"""

import asyncio
import gc
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from agent.control.controller import Controller
from agent.control.messages import InventorySeen
from agent.model import Phase, UnitActive
from tests.build import build_inventory, build_npu
from tests.fakes.events import FakeEventKeeper
from tests.scenario import virtual
from tests.scenario.ports import RootedFiles

HOUR = 3600.0
DAY = 24 * HOUR
# Something happens as often as that on the average; a start is well within what is waited then.
EVERY_S = 900.0
WELL_S = 1200.0
SETTLED_S = 900.0
WARM_S = 4 * HOUR
# Histories that are bounded are full by then.
MORE_OBJECTS = 3000
# What may be told of what happens here.
EXPLAINED = frozenset(
    {"backoff", "engine-died", "engine-killed", "engine-failed", "evidence", "idle", "loading"}
    | {"npu-fault", "npu-fault-over", "npu-lost", "npu-released", "npu-set-aside", "npus"}
    | {"serving", "starting", "stopping"}
)


@dataclass
class Host:
    """One simulated host, and the writer that lives on it now."""

    units: virtual.Units
    around: virtual.Around
    files: RootedFiles
    controller: Controller
    task: "asyncio.Task[None]"

    @classmethod
    async def begin(cls, folder: Path) -> "Host":
        units, around, files = virtual.Units(), virtual.Around(), RootedFiles(folder)
        return cls(units, around, files, *await virtual.begin(units, files, around))

    async def engine_dies(self) -> None:
        self.units.die()

    async def agent_dies(self) -> None:
        await self.end()
        begun = await virtual.begin(self.units, self.files, self.around)
        self.controller, self.task = begun

    async def person_stops_and_starts(self) -> None:
        self.units.front = UnitActive.INACTIVE
        self.units.engine = UnitActive.INACTIVE
        await self.units.tell()
        await asyncio.sleep(30)
        self.units.front = UnitActive.ACTIVATING
        await self.units.tell()

    async def spare_npu_goes_and_comes(self) -> None:
        npus = [build_npu(one, device_present=one != 7) for one in range(8)]
        self.controller.put(InventorySeen(build_inventory(npus)))
        await asyncio.sleep(60)
        self.controller.put(InventorySeen(build_inventory()))

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    def phase(self) -> Phase:
        return self.controller.board.snapshot.instances[0].phase


async def wait_serving(host: Host) -> None:
    async with asyncio.timeout(WELL_S):
        while host.phase() is not Phase.SERVING:  # noqa: ASYNC110 - the clock is simulated
            await asyncio.sleep(5)


async def held() -> tuple[int, int]:
    """Tasks, and objects of the whole process, after a while in which nothing happens."""
    await asyncio.sleep(SETTLED_S)
    gc.collect()
    return len(asyncio.all_tasks()), len(gc.get_objects())


@pytest.mark.timeout(600)
def test_days_of_random_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config
) -> None:
    for seed in range(pytestconfig.getoption("--days")):
        folder = tmp_path / f"{seed}"
        folder.mkdir()
        with capture_logs():
            told = virtual.run(monkeypatch, partial(day, folder, seed))
        kinds = {view.kind for view in told.kept}
        assert kinds <= EXPLAINED, f"seed {seed}: {sorted(kinds - EXPLAINED)}"


async def day(folder: Path, seed: int) -> FakeEventKeeper:
    """What was told."""
    chance = random.Random(seed)  # noqa: S311 - moments, no secrets
    host = await Host.begin(folder)
    troubles: list[Callable[[], Awaitable[None]]] = [
        host.engine_dies,
        host.agent_dies,
        host.person_stops_and_starts,
        host.spare_npu_goes_and_comes,
    ]
    loop = asyncio.get_running_loop()
    began, warm = loop.time(), None
    try:
        while loop.time() - began < DAY:
            await asyncio.sleep(chance.expovariate(1 / EVERY_S))
            await chance.choice(troubles)()
            await wait_serving(host)
            if warm is None and loop.time() - began > WARM_S:
                warm = await held()
        assert warm is not None
        tasks, objects = await held()
        assert tasks <= warm[0], f"seed {seed}"
        assert objects <= warm[1] + MORE_OBJECTS, f"seed {seed}"
    finally:
        await host.end()
    return host.around.events
