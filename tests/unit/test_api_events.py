# SPDX-License-Identifier: MulanPSL-2.0
"""Events over the socket: pages of the past, and a stream that can be resumed."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.control.events import EVENTS_KEPT, EventLog
from agent.errors import Code, HostUnavailable
from agent.ports import EventQuery, StoredEvent
from agent.status.api import frames
from agent.status.api.app import OPENAPI
from agent.status.snapshot import EventView
from tests.build import build_snapshot, build_view
from tests.fakes.events import FakeEventKeeper
from tests.scenario.settled import settled
from tests.unit.api import Serving, serving


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    with settled():
        yield


def happen(one: Serving, *numbers: int, shown: int = EVENTS_KEPT) -> None:
    """Events with these ids; the board has the latest `shown`."""
    for number in numbers:
        event = EventView(float(number), "8b", "died", f"event {number}", id=number)
        text = msgspec.json.encode(event).decode()
        one.control.history.add(StoredEvent(number, event.at, "8b", "died", None, text))
    known = [msgspec.json.decode(kept.text, type=EventView) for kept in one.control.history.kept]
    one.board.put(build_snapshot(build_view(), events=tuple(known[-shown:])))


@contextlib.asynccontextmanager
async def watching(
    one: Serving, query: str = "", *headers: str
) -> AsyncIterator[asyncio.StreamReader]:
    reader, writer = await asyncio.open_unix_connection(one.path)
    head = "".join(f"{line}\r\n" for line in headers)
    writer.write(f"GET /v1/watch{query} HTTP/1.0\r\nHost: a\r\n{head}\r\n".encode())
    try:
        async with asyncio.timeout(10):
            top = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            assert " 200 " in top
            assert "text/event-stream" in top
            yield reader
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def read_frame(reader: asyncio.StreamReader) -> dict[str, Any]:
    """One event of the stream; its data as values."""
    fields: dict[str, Any] = {}
    while (line := (await reader.readline()).decode()) not in ("\n", ""):
        name, _, value = line.rstrip("\n").partition(": ")
        fields[name] = json.loads(value) if name == "data" else value
    return fields


# --- pages ---------------------------------------------------------------------------------------


def test_a_page_of_the_past(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as one:
            happen(one, 11, 12, 13)
            status, page = await one.get("/v1/events?since=11&limit=1")
            assert status == 200
            assert page["schema"] == 1
            assert [event["id"] for event in page["events"]] == [12]
            assert page["next"] == 12

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "query",
    [
        "since=-1",
        "since=x",
        "since=1_0",
        "since=%D9%A3",
        "limit=0",
        "limit=1001",
        "newest=2",
        "newest=-1",
        "npu=-1",
        "since=" + "9" * 40,
    ],
)
def test_what_is_no_number_is_refused(tmp_path: Path, query: str) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as one:
            status, answer = await one.get(f"/v1/events?{query}")
            assert status == 400
            assert answer["error"]["code"] == "request-invalid"

    asyncio.run(scenario())


def test_pages_follow_each_other_without_a_gap() -> None:
    keeper = FakeEventKeeper()
    log = EventLog(keeper)
    for number in range(25):
        log.note("8b", "died", str(number))

    async def scenario() -> None:
        found: list[str] = []
        after, more = 0, True
        while more:
            page = await log.read(EventQuery(after=after, limit=10))
            found += [one.message for one in page.events]
            after, more = page.next, page.more
            assert not page.missed
        assert found == [str(number) for number in range(25)]
        assert (await log.read(EventQuery(after=after))).events == ()

    asyncio.run(scenario())


@pytest.mark.parametrize("first", [0, 3])
def test_what_happens_while_a_page_is_read_is_on_the_next(first: int) -> None:
    """It waits to be written, and what waits was looked at before the file."""

    class Slow(FakeEventKeeper):
        async def read(self, query: EventQuery) -> Sequence[StoredEvent]:
            found = await super().read(query)
            log.note("8b", "died", "meanwhile")
            return found

        async def oldest(self) -> int:
            log.note("8b", "died", "later")
            return await super().oldest()

    log = EventLog(Slow())
    for number in range(first):
        log.note("8b", "died", str(number))

    async def scenario() -> None:
        page = await log.read(EventQuery(after=1))
        assert len(page.events) == first
        later = await log.read(EventQuery(after=page.next))
        assert [one.message for one in later.events] == ["meanwhile", "later"]

    asyncio.run(scenario())


def test_what_was_removed_before_it_was_read_is_told() -> None:
    keeper = FakeEventKeeper()
    log = EventLog(keeper)
    for number in range(25):
        log.note("8b", "died", str(number))
    first = keeper.kept[0].id
    del keeper.kept[:10]

    async def scenario() -> None:
        assert (await log.read(EventQuery(after=first))).missed
        assert not (await log.read(EventQuery(after=keeper.kept[0].id - 1))).missed
        assert not (await log.read(EventQuery())).missed  # whatever there is was asked for

    asyncio.run(scenario())


def test_ids_go_on_where_the_agent_before_has_ended() -> None:
    keeper = FakeEventKeeper()
    EventLog(keeper).note("8b", "died", "before")
    log = EventLog(keeper, tuple(keeper.kept))
    log.note("8b", "died", "after")
    first, second = log.latest
    assert (first.message, second.message) == ("before", "after")
    assert second.id == first.id + 1


def test_without_those_before_ids_do_not_come_again() -> None:
    old, new = FakeEventKeeper(), FakeEventKeeper()
    EventLog(old).note("8b", "died", "lost")
    EventLog(new).note("8b", "died", "new")
    assert new.kept[0].id >= old.kept[0].id > 1_700_000_000_000


def test_one_of_another_version_is_left_out() -> None:
    keeper = FakeEventKeeper()
    EventLog(keeper).note("8b", "died", "this")
    kept = [replace(keeper.kept[0], text='{"what": 1}', id=keeper.kept[0].id - 1), *keeper.kept]
    assert [one.message for one in EventLog(keeper, kept).latest] == ["this"]


# --- the stream ----------------------------------------------------------------------------------


def test_events_come_as_they_happen(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as one:
            happen(one, 1, 2)
            async with watching(one) as reader:
                await asyncio.sleep(0.05)
                happen(one, 3)
                frame = await read_frame(reader)
                assert (frame["id"], frame["event"]) == ("3", "event")
                assert frame["data"]["message"] == "event 3"
                happen(one, 4, 5)
                assert [(await read_frame(reader))["id"] for _ in range(2)] == ["4", "5"]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "asked", [("?since=1",), ("", "Last-Event-ID: 1"), ("?since=9", "Last-Event-ID: 1")]
)
def test_a_stream_goes_on_where_it_was_cut(tmp_path: Path, asked: tuple[str, ...]) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as one:
            happen(one, 1, 2, 3)
            async with watching(one, *asked) as reader:
                assert [(await read_frame(reader))["id"] for _ in range(2)] == ["2", "3"]

    asyncio.run(scenario())


def test_a_reader_that_was_away_for_long_misses_nothing(tmp_path: Path) -> None:
    """The board has but the latest; the others come from the file."""

    async def scenario() -> None:
        async with serving(tmp_path) as one:
            happen(one, *range(1, 501), shown=10)
            async with watching(one, "?since=1") as reader:
                seen = [(await read_frame(reader))["id"] for _ in range(499)]
            assert seen == [str(number) for number in range(2, 501)]

    asyncio.run(scenario())


def test_a_file_that_cannot_be_read_ends_no_stream(tmp_path: Path) -> None:
    async def refuse(query: EventQuery) -> Any:
        raise HostUnavailable(Code.DISK_SILENT, "cannot use it")

    async def scenario() -> None:
        async with serving(tmp_path) as one:
            one.control.events = refuse  # type: ignore[method-assign]
            happen(one, *range(1, 21), shown=10)
            async with watching(one, "?since=1") as reader:
                assert [(await read_frame(reader))["id"] for _ in range(10)][-1] == "20"

    asyncio.run(scenario())


def test_a_quiet_stream_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "ALIVE_S", 0.1)

    async def scenario() -> None:
        async with serving(tmp_path) as one:
            happen(one, 1)
            async with watching(one) as reader:
                for _ in range(3):  # also while the board changes, and nothing happens
                    happen(one)
                    assert (await reader.readline()).startswith(b":")
                    assert await reader.readline() == b"\n"

    asyncio.run(scenario())


def test_a_stream_ends_with_the_agent(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as one, watching(one) as reader:
            one.board.close()
            assert await reader.read() == b""

    asyncio.run(scenario())


def test_the_status_as_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "STATUS_EVERY_S", 0.01)

    async def scenario() -> None:
        async with serving(tmp_path) as one, watching(one, "/status") as reader:
            first = await read_frame(reader)
            assert first["event"] == "status"
            assert first["data"]["schema"] == 1
            happen(one, 7)
            assert (await read_frame(reader))["data"]["events"][0]["id"] == 7

    asyncio.run(scenario())


# --- what is not there ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1/nothing", 404),
        ("POST", "/v1/status", 405),
        ("PUT", "/v1/npus/0/clear", 405),
    ],
)
def test_what_cannot_be_asked_is_said_in_json(
    tmp_path: Path, method: str, path: str, status: int
) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as one:
            got, answer = await one.get(path, method=method)
            assert got == status
            assert answer["error"]["code"] == "request-invalid"
            assert answer["error"]["hint"] == "see /v1/openapi.json"

    asyncio.run(scenario())


def test_the_description_comes_from_its_file(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as one:
            status, answer = await one.get("/v1/openapi.json")
            assert status == 500
            assert OPENAPI in answer["error"]["message"]
            assert answer["error"]["hint"].startswith("it comes with the package")
            (tmp_path / OPENAPI).write_text('{"openapi": "3.1.0"}')
            assert await one.get("/v1/openapi.json") == (200, {"openapi": "3.1.0"})

    asyncio.run(scenario())
