# SPDX-License-Identifier: MulanPSL-2.0
"""What is asked for over the socket, and how far it has come."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.model import Phase
from tests.build import build_snapshot, build_view
from tests.scenario.settled import settled
from tests.unit.api import Serving, serving


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    with settled():
        yield


def show(one: Serving, phase: Phase) -> None:
    one.board.put(build_snapshot(build_view(phase)))
    one.changes.turn(one.board.snapshot)


def test_a_restart_is_followed_to_its_end(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as one:
            status, taken = await one.get("/v1/instances/8b/restart", method="POST")
            assert status == 202
            change = f"/v1/changes/{taken['change']}"
            told: dict[str, object] = {}
            for phase, outcome in (
                (Phase.STOPPING, "running"),
                (Phase.LOADING, "running"),
                (Phase.SERVING, "done"),
            ):
                show(one, phase)
                status, told = await one.get(change)
                assert (status, told["outcome"], told["verb"]) == (200, outcome, "restart")
            status, all_of_them = await one.get("/v1/changes")
            assert all_of_them == {"changes": [told], "schema": 1}

    asyncio.run(scenario())


def test_what_is_refused_is_no_change(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as one:
            status, _ = await one.get("/v1/instances/9z/restart", method="POST")
            assert status == 404
            assert (await one.get("/v1/changes"))[1]["changes"] == []
            assert one.control.told == []

    asyncio.run(scenario())


def test_who_asked_is_written_down(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as one:
            for path in ("instances/8b/hold", "npus/3/clear", "host/trust"):
                await one.get(f"/v1/{path}", method="POST")
            assert [(verb, what) for verb, what, _ in one.control.told] == [
                ("hold", "8b"),
                ("clear", "NPU 3"),
                ("trust", ""),
            ]
            assert all(by for _, _, by in one.control.told)

    asyncio.run(scenario())


def test_an_instance_that_is_none(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as one:
            status, answer = await one.get("/v1/instances/9z")
            assert (status, answer["error"]["code"]) == (404, "instance-unknown")
            status, answer = await one.get("/v1/instances/8b")
            assert (status, answer["name"]) == (200, "8b")

    asyncio.run(scenario())
