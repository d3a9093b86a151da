# SPDX-License-Identifier: MulanPSL-2.0
"""Events that outlive the agent, in a real SQLite file."""

import asyncio
import errno
import multiprocessing
import os
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from agent.errors import Code, Failure, HostUnavailable
from agent.host import events
from agent.host.event_file import PAGE_BYTES, EventFile, is_damage
from agent.host.events import AT_LEAST, KEPT_S, WAITING_LIMIT, EventStore
from agent.ports import EventQuery, StoredEvent

NOW = 1_800_000_000.0
MB = 1_000_000


def event(number: int, instance: str = "8b", kind: str = "died", **fields: object) -> StoredEvent:
    at, npu, text = NOW + number, None, f'{{"id": {number}}}'
    return StoredEvent(
        number,
        float(str(fields.get("at", at))),
        instance,
        kind,
        npu if fields.get("npu") is None else int(str(fields["npu"])),
        str(fields.get("text", text)),
    )


def ids(found: "list[StoredEvent] | tuple[StoredEvent, ...]") -> list[int]:
    return [one.id for one in found]


# --- the file ------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> EventFile:
    return EventFile(tmp_path / "events.db", 50 * MB, KEPT_S, AT_LEAST)


def test_what_is_added_is_read_back(file: EventFile) -> None:
    written = [event(1), event(2, npu=3, text="天气"), event(3, instance="", kind="npus")]
    file.add(written, NOW)
    assert file.read(EventQuery()) == written
    assert file.read(EventQuery(limit=2, newest=True)) == written[1:]
    assert file.oldest() == 1


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (EventQuery(after=2), [3, 4]),
        (EventQuery(limit=2), [1, 2]),
        (EventQuery(instance="7b"), [2]),
        (EventQuery(kind="npus"), [3]),
        (EventQuery(npu=0), [4]),
        (EventQuery(after=4), []),
        (EventQuery(limit=2, newest=True), [3, 4]),
        (EventQuery(instance="8b", limit=1, newest=True), [4]),
        (EventQuery(instance="8b", kind="died", after=1), [4]),
        (EventQuery(instance="' OR 1=1 --"), []),
    ],
)
def test_what_is_looked_for(file: EventFile, query: EventQuery, found: list[int]) -> None:
    file.add([event(1), event(2, "7b"), event(3, "", "npus"), event(4, npu=0)], NOW)
    assert ids(file.read(query)) == found


def test_the_old_go_and_the_latest_stay(tmp_path: Path) -> None:
    file = EventFile(tmp_path / "events.db", 50 * MB, kept_s=100.0, at_least=3)
    file.add([event(number) for number in range(10)], NOW)
    file.add([event(10)], NOW + 105.0)
    assert ids(file.read(EventQuery(after=-1))) == [5, 6, 7, 8, 9, 10]


def test_a_clock_that_jumps_takes_not_all(tmp_path: Path) -> None:
    file = EventFile(tmp_path / "events.db", 50 * MB, kept_s=100.0, at_least=3)
    file.add([event(number) for number in range(10)], NOW)
    file.add([event(10)], NOW + 10 * 365 * 86400)
    assert ids(file.read(EventQuery(after=-1))) == [7, 8, 9, 10]


def test_it_never_gets_longer_than_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    file = EventFile(path, 1 * MB, KEPT_S, AT_LEAST)
    for start in range(0, 2000, 10):
        file.add([event(start + one, text="x" * 1000) for one in range(10)], NOW)
    assert path.stat().st_size <= 1 * MB
    kept = ids(file.read(EventQuery(limit=2000)))
    assert kept[-1] == 1999
    assert len(kept) > 500
    assert kept == list(range(kept[0], 2000))


def test_what_the_old_took_is_given_back_to_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    file = EventFile(path, 50 * MB, kept_s=100.0, at_least=3)
    file.add([event(number, at=NOW, text="x" * 1000) for number in range(4000)], NOW)
    for number in range(4000, 4005):
        file.add([event(number)], NOW + 5000.0)
    file.close()
    assert path.stat().st_size < 20 * PAGE_BYTES


def test_others_do_not_read_it(file: EventFile, tmp_path: Path) -> None:
    file.add([event(1)], NOW)
    for path in tmp_path.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path


def test_one_that_was_removed_begins_anew(file: EventFile, tmp_path: Path) -> None:
    file.add([event(1)], NOW)
    for path in tmp_path.iterdir():
        path.unlink()
    file.add([event(2)], NOW)
    file.close()
    assert ids(EventFile(tmp_path / "events.db", MB, KEPT_S, 1).read(EventQuery())) == [2]


@pytest.mark.parametrize("where", [0, PAGE_BYTES, 3 * PAGE_BYTES])
def test_damage_is_known_as_such(file: EventFile, tmp_path: Path, where: int) -> None:
    file.add([event(number, text="x" * 500) for number in range(100)], NOW)
    file.close()
    with open(tmp_path / "events.db", "r+b") as stream:
        stream.seek(where)
        stream.write(os.urandom(PAGE_BYTES))
    with pytest.raises(sqlite3.Error) as raised:
        file.read(EventQuery())
    assert is_damage(raised.value)


def test_a_full_disk_is_no_damage(file: EventFile, tmp_path: Path) -> None:
    (tmp_path / "events.db").mkdir()
    with pytest.raises(sqlite3.Error) as raised:
        file.read(EventQuery())
    assert not is_damage(raised.value)


def _write_for_ever(path: Path, ready: "multiprocessing.synchronize.Event") -> None:
    file = EventFile(path, 50 * MB, KEPT_S, AT_LEAST)
    for number in range(1, 10**9):
        file.add([event(2 * number), event(2 * number + 1)], NOW)
        if number == 20:
            ready.set()


def test_a_writer_that_is_killed_leaves_whole_batches(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for _ in range(5):
        ready = context.Event()
        writer = context.Process(target=_write_for_ever, args=(tmp_path / "events.db", ready))
        writer.start()
        assert ready.wait(30)
        writer.kill()
        writer.join()
        file = EventFile(tmp_path / "events.db", 50 * MB, KEPT_S, AT_LEAST)
        found = ids(file.read(EventQuery(limit=10**6)))
        assert found == list(range(2, 2 + len(found)))
        assert len(found) % 2 == 0
        assert len(found) >= 40
        file.close()


# --- the store around it -------------------------------------------------------------------------


def run(
    path: Path, scenario: Callable[[EventStore, list[Failure | None]], Awaitable[None]]
) -> list[Failure | None]:
    told: list[Failure | None] = []

    async def go() -> None:
        store = EventStore(path)
        task = asyncio.create_task(store.run(told.append))
        try:
            async with asyncio.timeout(20):
                await scenario(store, told)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await store.close()

    asyncio.run(go())
    return told


def latest(path: Path) -> list[int]:
    file = EventFile(path, MB, KEPT_S, AT_LEAST)
    try:
        return ids(file.read(EventQuery()))
    finally:
        file.close()


def test_they_outlive_the_agent(tmp_path: Path) -> None:
    path = tmp_path / "deepseek-agent" / "events.db"

    async def first(store: EventStore, told: list[Failure | None]) -> None:
        assert list(await store.open(10)) == []
        store.add(event(1))
        store.add(event(2))

    async def second(store: EventStore, told: list[Failure | None]) -> None:
        assert ids(list(await store.open(10))) == [1, 2]

    assert run(path, first) == []
    assert run(path, second) == []


def test_what_is_not_written_yet_is_read_too(tmp_path: Path) -> None:
    async def scenario(store: EventStore, told: list[Failure | None]) -> None:
        store.add(event(1))
        store.add(event(2, "7b"))
        assert ids(list(await store.read(EventQuery()))) == [1, 2]
        assert ids(list(await store.read(EventQuery(instance="7b")))) == [2]
        assert ids(list(await store.read(EventQuery(limit=1)))) == [1]
        assert ids(list(await store.read(EventQuery(limit=1, newest=True)))) == [2]
        assert await store.oldest() == 1

    run(tmp_path / "events.db", scenario)


def test_a_damaged_file_is_set_aside_and_said(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    path.write_bytes(b"no database, " * 1000)

    async def scenario(store: EventStore, told: list[Failure | None]) -> None:
        assert list(await store.open(10)) == []
        store.add(event(1))

    told = run(path, scenario)
    assert [one.code if one else None for one in told] == [Code.STATE_DAMAGED]
    assert (tmp_path / "events.db.damaged").read_bytes().startswith(b"no database")
    assert latest(path) == [1]


def test_damage_while_it_runs_loses_nothing_new(tmp_path: Path) -> None:
    path = tmp_path / "events.db"

    async def scenario(store: EventStore, told: list[Failure | None]) -> None:
        store.add(event(1))
        await settle(lambda: path.exists() and not store._waiting)
        for beside in ("events.db-wal", "events.db-shm"):
            (tmp_path / beside).unlink()
        (tmp_path / "other").write_bytes(b"gone wrong, " * 1000)
        (tmp_path / "other").rename(path)
        store.add(event(2))

    told = run(path, scenario)
    assert [one.code if one else None for one in told] == [Code.STATE_DAMAGED]
    assert latest(path) == [2]


async def settle(reached: Callable[[], bool]) -> None:
    while not reached():  # noqa: ASYNC110 - a thread's work, and nobody tells of it
        await asyncio.sleep(0.01)


def test_what_cannot_be_written_is_said_once_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "AGAIN_S", 0.05)
    path = tmp_path / "events.db"
    path.mkdir()

    async def scenario(store: EventStore, told: list[Failure | None]) -> None:
        store.add(event(1))
        await settle(lambda: len(told) == 1)
        store.add(event(2))
        await asyncio.sleep(0.3)
        path.rmdir()
        await settle(lambda: len(told) == 2)

    told = run(path, scenario)
    assert told[0] is not None
    assert told[0].code is Code.FILE_NOT_WRITTEN
    assert str(path) in told[0].message
    assert told[1:] == [None]
    assert latest(path) == [1, 2]


@pytest.mark.parametrize("deadline_s", [None, 5.0])
def test_a_disk_that_itself_says_that_it_timed_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deadline_s: float | None
) -> None:
    """A network file system that is mounted with softerr. For Python that is a TimeoutError."""
    monkeypatch.setattr(events, "AGAIN_S", 0.05)
    path = tmp_path / "events.db"
    silent = [True]

    async def scenario(store: EventStore, told: list[Failure | None]) -> None:
        add = store._file.add

        def adding(batch: Sequence[StoredEvent], now: float) -> None:
            if silent[0]:
                raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT), str(path))
            add(batch, now)

        monkeypatch.setattr(store._file, "add", adding)
        store.add(event(1))
        await settle(lambda: len(told) == 1)
        with pytest.raises(HostUnavailable) as raised:
            await store._in_thread(lambda: adding([], NOW), deadline_s)
        assert raised.value.failure.code is Code.FILE_NOT_WRITTEN
        silent[0] = False
        await settle(lambda: len(told) == 2)

    told = run(path, scenario)
    assert told[0] is not None
    assert told[0].code is Code.FILE_NOT_WRITTEN
    assert "Connection timed out" in told[0].message
    assert told[1:] == [None]
    assert latest(path) == [1]


def test_a_disk_that_hangs_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "READ_DEADLINE_S", 0.1)
    monkeypatch.setattr(events, "OPEN_DEADLINE_S", 0.1)
    monkeypatch.setattr(events, "CLOSE_DEADLINE_S", 0.1)
    hangs = threading.Event()

    async def scenario(store: EventStore, told: list[Failure | None]) -> None:
        store._thread.submit(hangs.wait)
        assert list(await store.open(10)) == []
        for number in range(WAITING_LIMIT + 5):
            store.add(event(number))
        with pytest.raises(HostUnavailable) as raised:
            await store.read(EventQuery())
        assert raised.value.failure.code is Code.DISK_SILENT
        assert len(store._waiting) == WAITING_LIMIT

    try:
        told = run(tmp_path / "events.db", scenario)
    finally:
        hangs.set()
    assert [one.code if one else None for one in told] == [Code.DISK_SILENT]


def test_nothing_piles_up_behind_a_disk_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "READ_DEADLINE_S", 0.05)
    hangs = threading.Event()
    begun: list[int] = []

    async def scenario(store: EventStore, told: list[Failure | None]) -> None:
        read = store._file.read

        def slow(query: EventQuery) -> list[StoredEvent]:
            begun.append(query.after)
            hangs.wait()
            return list(read(query))

        monkeypatch.setattr(store._file, "read", slow)
        for _ in range(3):
            asked = [store.read(EventQuery(after=number)) for number in range(20)]
            answers = await asyncio.gather(*asked, return_exceptions=True)
            assert all(isinstance(answer, HostUnavailable) for answer in answers)
        store.add(event(1))
        hangs.set()
        await settle(lambda: not store._waiting)
        assert ids(list(await store.read(EventQuery(after=-1)))) == [1]

    try:
        assert run(tmp_path / "events.db", scenario) == []
    finally:
        hangs.set()
    assert begun == [0, -1]
