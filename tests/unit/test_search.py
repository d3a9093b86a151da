# SPDX-License-Identifier: MulanPSL-2.0
"""The search for the container of an engine that is up. In simulated time."""

import asyncio
import time

import pytest

from agent.control.messages import ContainerFound
from agent.control.watching import SEARCH_AGAIN_MAX_S, SEARCH_AGAIN_S, search
from agent.errors import Code, HostUnavailable
from tests.build import build_container
from tests.scenario import virtual
from tests.scenario.ports import FakePodman

DOWN = HostUnavailable(Code.PODMAN_SILENT, "cannot ask Podman: it does not answer")
OURS = build_container("deepseek-vllm-8b", "/dev/davinci3")


class Search:
    """One that is under way."""

    def __init__(self) -> None:
        self.podman, self.over = FakePodman(), asyncio.Event()
        self.found: list[ContainerFound] = []

    def begin(self) -> "asyncio.Task[None]":
        return asyncio.create_task(search("8b", self.podman, self.found.append, self.over))


def test_it_goes_on_for_as_long_as_podman_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    async def whole() -> None:
        one = Search()
        one.podman.broken = DOWN
        task = one.begin()
        await asyncio.sleep(24 * 3600)
        day = 24 * 3600 / SEARCH_AGAIN_MAX_S
        assert day <= one.podman.surveys <= day + 5  # each minute
        one.podman.broken = None
        one.podman.containers["other"] = build_container("other")
        await asyncio.sleep(600)
        assert one.found == []  # it may be made just now
        one.podman.containers[OURS.name] = OURS
        await asyncio.sleep(SEARCH_AGAIN_MAX_S)
        assert one.found == [ContainerFound("8b", OURS, (3,))]
        assert task.done()

    virtual.run(monkeypatch, whole)


def test_it_asks_again_soon_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    async def whole() -> None:
        one = Search()
        task, began = one.begin(), time.monotonic()
        await asyncio.sleep(1)
        one.podman.containers[OURS.name] = OURS
        await task
        assert time.monotonic() - began == pytest.approx(SEARCH_AGAIN_S)

    virtual.run(monkeypatch, whole)


@pytest.mark.parametrize("after_s", [1.0, 35.0])
def test_it_ends_with_the_engine(monkeypatch: pytest.MonkeyPatch, after_s: float) -> None:
    """Within a question, whose answer is of an engine that is gone, or between two."""

    async def whole() -> None:
        one = Search()
        one.podman.survey_takes_s = 30.0
        one.podman.containers = {} if after_s > 30.0 else {OURS.name: OURS}
        task = one.begin()
        await asyncio.sleep(after_s)
        one.over.set()
        one.podman.containers[OURS.name] = OURS
        await asyncio.wait_for(task, 30.0)
        assert (one.found, one.podman.surveys) == ([], 1)

    virtual.run(monkeypatch, whole)


def test_a_surprise_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def whole() -> None:
        one = Search()
        one.podman.broken = ValueError("what is that?")  # type: ignore[assignment]
        task = one.begin()
        await asyncio.sleep(1)
        one.podman.broken = None
        one.podman.containers[OURS.name] = OURS
        await task
        assert len(one.found) == 1

    virtual.run(monkeypatch, whole)
