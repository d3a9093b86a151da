# SPDX-License-Identifier: MulanPSL-2.0
"""Threads that nobody waits for: one that hangs takes nothing from the others."""

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from agent.threads import in_thread


@pytest.fixture
def released() -> Iterator[threading.Event]:
    """What hangs waits for it."""
    event = threading.Event()
    yield event
    event.set()


def count_hanging(released: threading.Event) -> int:
    return sum(one.name == "work" and one.is_alive() for one in threading.enumerate())


async def give_up_on(released: threading.Event, key: object) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await in_thread(lambda: released.wait(10), key)


def test_it_returns_what_came_of_it() -> None:
    def broken() -> None:
        raise OSError("odd")

    assert asyncio.run(in_thread(lambda: 7)) == 7
    with pytest.raises(OSError, match="odd"):
        asyncio.run(in_thread(broken, "one"))
    assert asyncio.run(in_thread(lambda: 8, "one")) == 8


def test_many_that_hang_leave_all_others_alone(released: threading.Event) -> None:
    async def scenario() -> None:
        for number in range(40):  # more than asyncio's own pool has, on any machine
            await give_up_on(released, number)
        assert await asyncio.wait_for(in_thread(lambda: 7), 1) == 7
        assert await asyncio.wait_for(asyncio.to_thread(lambda: 8), 1) == 8

    asyncio.run(scenario())


def test_of_one_key_no_more_than_one_hangs(released: threading.Event) -> None:
    async def scenario() -> None:
        before = count_hanging(released)
        for _ in range(10):
            await give_up_on(released, "disk")
        assert count_hanging(released) == before + 1
        after = asyncio.create_task(in_thread(lambda: 7, "disk"))
        await asyncio.sleep(0.1)
        assert not after.done()
        released.set()
        assert await asyncio.wait_for(after, 2) == 7

    asyncio.run(scenario())


def test_the_end_of_the_loop_waits_for_nobody(released: threading.Event) -> None:
    began = time.monotonic()
    asyncio.run(give_up_on(released, "end"))
    assert time.monotonic() - began < 5


def test_a_thread_that_cannot_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def scenario() -> None:
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError, match="new thread"):
                await in_thread(lambda: 7, "refused")
        assert await asyncio.wait_for(in_thread(lambda: 7, "refused"), 1) == 7

    asyncio.run(scenario())
