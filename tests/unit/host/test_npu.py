# SPDX-License-Identifier: MulanPSL-2.0
"""Following npud: what it says, and that a silent or broken one is UNKNOWN, never "no NPUs"."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from agent.host.npu import (
    LINE_LIMIT_BYTES,
    RECONNECT_S,
    REFRESH_DEADLINE_S,
    RESET_DEADLINE_S,
    SILENCE_S,
    NpuFollower,
    read_inventory,
)
from agent.model import (
    DriverState,
    FaultSeverity,
    Inventory,
    NpuFault,
    NpuReadings,
    ResetOutcome,
)
from agent.ports import ResetOrder, ResetReport
from tests.build import build_inventory
from tests.fakes.npud import FakeNpud
from tests.scenario.clock import run, skip


@contextlib.asynccontextmanager
async def following(folder: Path) -> AsyncIterator[tuple[FakeNpud, list[Inventory]]]:
    seen: list[Inventory] = []
    npud = FakeNpud(folder / "npu.sock")
    following = asyncio.create_task(NpuFollower(str(npud.path), seen.append).run())
    await until(lambda: len(seen) == 1)  # it is not there yet
    try:
        yield npud, seen
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await npud.close()


async def until(condition: Callable[[], bool]) -> None:
    """No deadline of the loop's: the clock is moved by the tests."""
    while not condition():  # noqa: ASYNC110 - any condition
        await asyncio.sleep(0)


async def reconnected(npud: FakeNpud, times: int) -> None:
    """Moves the clock over the pauses between attempts."""
    while npud.connections < times:
        skip(RECONNECT_S)
        for _ in range(20):
            await asyncio.sleep(0)


def states(seen: list[Inventory]) -> list[DriverState]:
    return [one.driver for one in seen]


def test_inventories_arrive_as_they_are(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with following(tmp_path) as (npud, seen):
            npud.inventory = build_inventory(2)
            await npud.start()
            await reconnected(npud, 1)
            await until(lambda: len(seen) == 2)
            npud.say(changed := build_inventory(1, sequence=7))
            await until(lambda: len(seen) == 3)
            assert seen[1:] == [build_inventory(2), changed]
            assert seen[0].driver is DriverState.UNKNOWN  # it was not there at first

    run(scenario())


def test_faults_and_readings_arrive_and_may_be_missing(tmp_path: Path) -> None:
    """An npud of before does not send them; one of now does."""
    fault = NpuFault("80E01801", FaultSeverity.MAJOR, "words", 1.5, one_off=True)
    plain = build_inventory(1)
    npu = replace(plain.npus[0], faults=(fault,), readings=NpuReadings(power_w=1.5), reason="why")
    rich = replace(plain, npus=(npu,), board_id=0x33)

    async def scenario() -> None:
        npud = FakeNpud(tmp_path / "npu.sock")
        npud.inventory = rich
        await npud.start()
        assert await read_inventory(str(npud.path)) == rich
        await npud.close()
        old = asdict(plain)
        del old["board_id"]
        for field in ("faults", "readings", "reason"):
            del old["npus"][0][field]
        seen: list[Inventory] = []
        follower = NpuFollower(str(npud.path), seen.append)
        follower._take(json.dumps({"type": "inventory", "inventory": old}).encode())
        assert seen == [plain]

    asyncio.run(scenario())


def test_one_look(tmp_path: Path) -> None:
    async def scenario() -> None:
        npud = FakeNpud(tmp_path / "npu.sock")
        missing = await read_inventory(str(npud.path))
        assert (missing.driver, "No such file" in missing.detail) == (DriverState.UNKNOWN, True)
        npud.inventory = build_inventory(2)
        await npud.start()
        assert await read_inventory(str(npud.path)) == build_inventory(2)
        await npud.close()

    asyncio.run(scenario())


def test_no_npud_is_said_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with following(tmp_path) as (_, seen):
            for _ in range(10):
                skip(RECONNECT_S)
                await asyncio.sleep(0.001)
            assert states(seen) == [DriverState.UNKNOWN]
            assert "No such file" in seen[0].detail

    run(scenario())


def test_heartbeats_keep_what_is_known(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with following(tmp_path) as (npud, seen):
            npud.inventory = build_inventory(1)
            await npud.start()
            await reconnected(npud, 1)
            await until(lambda: len(seen) == 2)
            for _ in range(6):  # a minute
                skip(SILENCE_S * 0.6)
                npud.beat()
                await asyncio.sleep(0.01)
            assert states(seen) == [DriverState.UNKNOWN, DriverState.READY]
            assert npud.connections == 1

    run(scenario())


def test_heartbeats_alone_say_nothing_about_npus(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with following(tmp_path) as (npud, seen):
            await npud.start()
            await reconnected(npud, 1)
            npud.beat()
            await asyncio.sleep(0.02)
            assert all(state is DriverState.UNKNOWN for state in states(seen))

    run(scenario())


def test_silence_is_unknown_within_the_deadline(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with following(tmp_path) as (npud, seen):
            npud.inventory = build_inventory(1)
            await npud.start()
            await reconnected(npud, 1)
            await until(lambda: len(seen) == 2)
            skip(SILENCE_S - 1)
            await asyncio.sleep(0.02)
            assert len(seen) == 2
            skip(1)
            await until(lambda: len(seen) == 3)
            assert seen[2].driver is DriverState.UNKNOWN
            assert not seen[2].npus
            assert seen[2].detail == "npud has said nothing for 16 s"

    run(scenario())


def test_an_npud_that_hangs_before_accepting_anything_counts_as_silent(tmp_path: Path) -> None:
    """Connected by the kernel, never served: half a line and then nothing."""

    async def scenario() -> None:
        async with following(tmp_path) as (npud, seen):
            await npud.start()
            await reconnected(npud, 1)
            before = len(seen)
            npud.send(b'{"type": "inven')
            await asyncio.sleep(0.02)
            assert len(seen) == before
            skip(SILENCE_S)
            await reconnected(npud, 2)
            assert all(state is DriverState.UNKNOWN for state in states(seen))

    run(scenario())


GARBAGE = {
    "no JSON": b"npu-smi: command not found\n",
    "no object": b"[]\n",
    "no text": b"\xff\xfe\xff\n",
    "an empty line": b"\n",
    "a word that we do not know": b'{"type": "inventory", "inventory": {"driver": "odd"}}\n',
    "a line without end": b"x" * (LINE_LIMIT_BYTES * 2 + 1),
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_is_unknown_and_npud_is_asked_anew(tmp_path: Path, kind: str) -> None:
    async def scenario() -> None:
        async with following(tmp_path) as (npud, seen):
            npud.inventory = build_inventory(1)
            await npud.start()
            await reconnected(npud, 1)
            await until(lambda: len(seen) == 2)
            npud.send(GARBAGE[kind])
            await until(lambda: len(seen) == 3)
            assert seen[2].driver is DriverState.UNKNOWN
            await reconnected(npud, 2)
            await until(lambda: len(seen) == 4)
            assert seen[3].driver is DriverState.READY

    run(scenario())


def test_messages_of_a_newer_npud_are_passed_over(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with following(tmp_path) as (npud, seen):
            npud.inventory = build_inventory(1)
            await npud.start()
            await reconnected(npud, 1)
            await until(lambda: len(seen) == 2)
            npud.send(b'{"type": "reset-done", "chips": [1], "schema": 2}\n')
            npud.say(build_inventory(2))
            await until(lambda: len(seen) == 3)
            assert len(seen[2].npus) == 2

    run(scenario())


def test_npud_restarts(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with following(tmp_path) as (npud, seen):
            npud.inventory = build_inventory(1)
            await npud.start()
            for turn in range(1, 4):
                await reconnected(npud, turn)
                await until(lambda turn=turn: len(seen) == 2 * turn)  # type: ignore[misc]
                await npud.drop()
            await until(lambda: len(seen) == 7)
            assert states(seen) == [DriverState.UNKNOWN, DriverState.READY] * 3 + [
                DriverState.UNKNOWN
            ]
            assert seen[-1].detail == "npud closed the connection"

    run(scenario())


# --- requests ------------------------------------------------------------------------------------

ORDER = ResetOrder(3, (2, 3), ("80FA4E00",))


@contextlib.asynccontextmanager
async def asking(folder: Path) -> AsyncIterator[tuple[FakeNpud, NpuFollower]]:
    """A follower that is connected."""
    npud = FakeNpud(folder / "npu.sock")
    npud.inventory = build_inventory(1)
    await npud.start()
    seen: list[Inventory] = []
    follower = NpuFollower(str(npud.path), seen.append)
    following = asyncio.create_task(follower.run())
    await until(lambda: len(seen) == 1)
    try:
        yield npud, follower
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await npud.close()


def test_a_refresh_ends_with_the_next_inventory(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with asking(tmp_path) as (npud, follower):
            refreshing = asyncio.create_task(follower.refresh())
            await until(lambda: npud.requests == [{"type": "refresh"}])
            npud.beat()
            await asyncio.sleep(0.02)
            assert not refreshing.done()
            npud.say(build_inventory(1))
            await refreshing

    run(scenario())


def test_a_refresh_that_nobody_answers_ends_all_the_same(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with asking(tmp_path) as (npud, follower):
            refreshing = asyncio.create_task(follower.refresh())
            await until(lambda: npud.requests != [])
            skip(REFRESH_DEADLINE_S)
            await refreshing

    run(scenario())


def test_a_reset_is_told_with_its_ring_and_ends_with_its_own_word(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with asking(tmp_path) as (npud, follower):
            reset = asyncio.create_task(follower.reset(ORDER))
            told = {"type": "reset", "logic_id": 3, "ring": [2, 3], "codes": ["80FA4E00"]}
            await until(lambda: npud.requests == [told])
            npud.end_reset(2, "ok", "another one's")
            again = await follower.reset(ORDER)
            assert again.outcome is ResetOutcome.BUSY
            npud.end_reset(3, "busy", "in use by process 4711")
            assert await reset == ResetReport(ResetOutcome.BUSY, "in use by process 4711")

    run(scenario())


@pytest.mark.parametrize("how", ["gone", "silent", "unknown word"])
def test_a_reset_whose_end_is_not_told_has_failed(tmp_path: Path, how: str) -> None:
    async def scenario() -> None:
        async with asking(tmp_path) as (npud, follower):
            reset = asyncio.create_task(follower.reset(ORDER))
            await until(lambda: npud.requests != [])
            match how:
                case "gone":
                    await npud.drop()
                case "silent":
                    for _ in range(int(RESET_DEADLINE_S / 10)):
                        skip(10)
                        npud.beat()
                        await asyncio.sleep(0.002)
                case _:
                    npud.end_reset(3, "splendid", "")
            assert (await reset).outcome is ResetOutcome.FAILED

    run(scenario())


def test_without_npud_nothing_is_reset_and_nobody_waits(tmp_path: Path) -> None:
    async def scenario() -> None:
        follower = NpuFollower(str(tmp_path / "npu.sock"), lambda seen: None)
        await follower.refresh()
        assert (await follower.reset(ORDER)).outcome is ResetOutcome.BUSY

    run(scenario())
