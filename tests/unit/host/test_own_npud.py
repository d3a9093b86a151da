# SPDX-License-Identifier: MulanPSL-2.0
"""One look at the NPUs by an npud of our own: the real process, with scripts for npu-smi."""

import asyncio
import time
from pathlib import Path

from agent.host.own_npud import read_by_own_npud, read_known
from agent.model import DriverState, Inventory
from agent.npud.inventory import NO_ANSWER_YET
from tests.build import build_inventory
from tests.fakes.npud import FakeNpud
from tests.unit.npud.fake_smi import HANGING, write_script


def look(tmp_path: Path, smi: Path, deadline_s: float = 8) -> Inventory:
    dev = tmp_path / "dev"
    dev.mkdir(exist_ok=True)
    places = (f"--dev={dev}", f"--dcmi={tmp_path}/none", f"--npu-smi={smi}")
    return asyncio.run(read_by_own_npud(deadline_s, places))


def test_an_npud_that_has_just_begun_is_waited_for(tmp_path: Path) -> None:
    """Seen in the lab: asked right after its start it says that it does not know yet."""

    async def scenario() -> DriverState:
        npud = FakeNpud(tmp_path / "npu.sock")
        npud.say(NO_ANSWER_YET)
        await npud.start()
        asking = asyncio.create_task(read_known(str(npud.path), 5))
        while not npud.connections:  # noqa: ASYNC110 - the double has no event for it
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        npud.say(build_inventory())
        seen = await asking
        await npud.close()
        return seen.driver

    assert asyncio.run(scenario()) is DriverState.READY


def test_no_driver_is_told_at_once(tmp_path: Path) -> None:
    assert look(tmp_path, tmp_path / "none").driver is DriverState.ABSENT


def test_a_hang_ends_at_the_deadline_and_leaves_nothing(tmp_path: Path) -> None:
    """The fixture of all unit tests sees children that are left."""
    smi = write_script(tmp_path / "npu-smi", HANGING)
    started = time.monotonic()
    seen = look(tmp_path, smi, 2)
    assert seen.driver is DriverState.UNKNOWN
    assert seen.detail.startswith("no answer within 2 s (")
    assert time.monotonic() - started < 9


def test_one_that_cannot_start_is_not_waited_for(tmp_path: Path) -> None:
    started = time.monotonic()
    seen = asyncio.run(read_by_own_npud(30, ("--interval=nonsense",)))
    assert seen.driver is DriverState.UNKNOWN
    assert time.monotonic() - started < 9
