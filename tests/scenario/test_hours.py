# SPDX-License-Identifier: MulanPSL-2.0
"""Hours of trouble in simulated time: the real writer, policy, events and journal."""

import asyncio
import itertools
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from agent.model import Phase, UnitActive, UnitStatus, front_unit
from tests.scenario import virtual
from tests.scenario.ports import RootedFiles

HOUR = 3600.0


def test_an_engine_that_dies_at_once_for_two_hours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    units = virtual.Units(lives_s=0.2)

    async def two_hours() -> tuple[float, float, int]:
        controller, task = await virtual.begin(units, RootedFiles(tmp_path))
        await asyncio.sleep(2 * HOUR)
        mended_at, tries = time.monotonic(), len(units.started)
        units.lives_s = None
        while controller.board.snapshot.instances[0].phase is not Phase.SERVING:  # noqa: ASYNC110
            await asyncio.sleep(1)
        serving_at = time.monotonic()
        view = controller.board.snapshot.instances[0]
        assert view.failures == tries  # until it has been well for long enough
        await asyncio.sleep(700)
        assert controller.board.snapshot.instances[0].failures == 0
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return mended_at, serving_at, tries

    began = time.process_time()
    with capture_logs() as lines:
        mended_at, serving_at, tries = virtual.run(monkeypatch, two_hours)
    spent_s = time.process_time() - began

    # 1 + 2 + 4 ... 256 s, and every 300 s from then on; each a tenth more or less, and a start of
    # two seconds between them.
    waits = [late - early for early, late in itertools.pairwise(units.started[:tries])]
    wanted = [min(2.0**number, 300.0) for number in range(len(waits))]
    for wait_s, plain_s in zip(waits, wanted, strict=True):
        assert plain_s * 0.9 <= wait_s - units.takes_s - 0.2 <= plain_s * 1.1 + 0.5
    assert 29 <= tries <= 34
    assert serving_at - mended_at <= 300 + units.takes_s + units.serves_s + 2
    # Three lines for each try, and a few for the rest.
    assert len(lines) <= 4 * tries + 20
    print(f"{tries} tries in 2 h, {len(lines)} lines, {spent_s:.2f} s of CPU with the simulation")


def test_a_day_of_serving_is_quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    units = virtual.Units()

    async def day() -> None:
        controller, task = await virtual.begin(units, RootedFiles(tmp_path))
        await asyncio.sleep(24 * HOUR)
        assert controller.board.snapshot.instances[0].phase is Phase.SERVING
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    with capture_logs() as lines:
        virtual.run(monkeypatch, day)
    assert len(units.started) == 1
    assert len(lines) < 10


@dataclass
class BrokenFront(virtual.Units):
    """While its front unit is failed, systemd cannot run it."""

    asked: list[float] = field(default_factory=list)  # monotonic

    async def status(self, unit: str) -> UnitStatus:
        seen = await super().status(unit)
        if seen.active is not UnitActive.FAILED or unit != front_unit("8b"):
            return seen
        return replace(seen, result="exit-code", exit_status=203)

    async def dispatch_start(self, unit: str) -> None:
        self.asked.append(time.monotonic())
        await self.tell()

    async def become(self, active: UnitActive) -> list[float]:
        """Pauses between the starts of the next five minutes."""
        self.front = active
        self.asked.clear()
        await self.tell()
        await asyncio.sleep(300)
        return [late - early for early, late in itertools.pairwise(self.asked)]


def test_a_front_that_cannot_be_run_is_tried_more_and_more_seldom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each try calls whoever `OnFailure=` names."""
    units = BrokenFront()

    async def minutes() -> None:
        controller, task = await virtual.begin(units, RootedFiles(tmp_path))
        await asyncio.sleep(60)
        for _ in range(2):
            pauses = await units.become(UnitActive.FAILED)
            assert pauses == pytest.approx([5, 10, 20, 40, 60, 60, 60], abs=0.5)
            assert await units.become(UnitActive.ACTIVE) == []
        assert controller.board.snapshot.instances[0].phase is Phase.SERVING
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    virtual.run(monkeypatch, minutes)
