# SPDX-License-Identifier: MulanPSL-2.0
"""No local user takes the socket away from the others."""

import asyncio
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import journal
from agent.model import Phase
from agent.status.api import peer
from agent.status.api.peer import (
    CONNECTIONS,
    CONNECTIONS_OF_A_USER,
    CONNECTIONS_OF_ROOT,
    PATIENCE_S,
    REQUESTS_AT_ONCE,
    REQUESTS_PER_S,
    USERS_KNOWN,
    Connections,
    Pace,
    Peer,
)
from tests.scenario.settled import settled
from tests.unit.api import Serving, serving

STATUS = b"GET /v1/status HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    with settled():
        yield


def take_all(connections: Connections, uid: int) -> int:
    taken = 0
    while connections.take(uid):
        taken += 1
    return taken


def test_each_user_has_a_limit() -> None:
    connections = Connections()
    assert take_all(connections, 1000) == CONNECTIONS_OF_A_USER
    assert take_all(connections, 1001) == CONNECTIONS_OF_A_USER
    assert take_all(connections, 0) == CONNECTIONS_OF_ROOT
    connections.give_back(1000)
    assert take_all(connections, 1000) == 1


def test_all_together_have_a_limit() -> None:
    connections = Connections()
    taken = sum(take_all(connections, uid) for uid in range(1000, 1100))
    assert taken == CONNECTIONS


def test_one_more_is_closed_at_once_and_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer, "CONNECTIONS_OF_ROOT", 3)
    monkeypatch.setattr(peer, "CONNECTIONS_OF_A_USER", 3)

    async def scenario() -> None:
        async with serving(tmp_path) as one:
            kept = [await asyncio.open_unix_connection(one.path) for _ in range(3)]
            reader, writer = await asyncio.open_unix_connection(one.path)
            async with asyncio.timeout(5):
                assert await reader.read() == b""
            writer.close()
            kept[0][1].write(STATUS)
            async with asyncio.timeout(5):
                assert b" 200 " in await kept[0][0].readline()
            kept.pop()[1].close()
            await asyncio.sleep(0.05)
            assert (await one.get("/v1/health"))[0] == 200
            for _, writer in kept:
                writer.close()

    asyncio.run(scenario())


def test_a_user_s_pace() -> None:
    """Some at once, and then so many in a second; others and root are not touched."""
    pace = Pace()
    waits = [pace.ask(1000, 5.0) for _ in range(REQUESTS_AT_ONCE + 50)]
    assert waits[:REQUESTS_AT_ONCE] == [0.0] * REQUESTS_AT_ONCE
    assert waits[-1] == pytest.approx(50 / REQUESTS_PER_S)
    assert pace.ask(1001, 5.0) == 0.0
    assert [pace.ask(0, 5.0) for _ in range(1000)] == [0.0] * 1000
    assert pace.ask(1000, 5.0 + 70 / REQUESTS_PER_S) == 0.0


def test_who_is_far_ahead_of_his_pace() -> None:
    pace = Pace()
    for _ in range(int(REQUESTS_PER_S * (PATIENCE_S + 0.5)) + REQUESTS_AT_ONCE):
        pace.ask(1000, 5.0)
    assert pace.is_far_ahead(1000, 5.0)
    assert not pace.is_far_ahead(1000, 6.0)
    assert not pace.is_far_ahead(1001, 5.0)


def test_users_of_long_ago_are_forgotten() -> None:
    pace = Pace()
    for uid in range(1000, 1000 + 3 * USERS_KNOWN):
        pace.ask(uid, float(uid))
    assert len(pace._due_at) <= USERS_KNOWN + 1


@pytest.mark.skipif(os.geteuid() != 0, reason="asks as another user")
def test_who_asks_too_fast_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All at once over one connection: each is answered, in its time."""
    monkeypatch.setattr(peer, "REQUESTS_PER_S", 10.0)
    monkeypatch.setattr(peer, "REQUESTS_AT_ONCE", 2)
    monkeypatch.setattr(peer, "read_peer", lambda _: Peer(os.getpid(), 1000, 1000))

    async def scenario() -> None:
        async with serving(tmp_path) as one:
            asked = asyncio.get_running_loop().time()
            last = STATUS.replace(b"Host: a", b"Host: a\r\nConnection: close")
            answer = await one.ask((STATUS * 6 + last).decode())
            assert answer.count(b"HTTP/1.1 200") == 7
            assert asyncio.get_running_loop().time() - asked >= 0.45

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "head",
    [
        "POST /v1/npus/3/quarantine HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{",
        "GET /v1/watch HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{",
    ],
)
def test_a_body_that_never_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: str
) -> None:
    monkeypatch.setattr(peer, "REQUEST_DEADLINE_S", 0.2)

    async def scenario() -> None:
        async with serving(tmp_path) as one:
            await one.ask(head)  # it ends, within 5 s
            assert one.control.calls == []

    asyncio.run(scenario())


NONSENSE = (
    "GET / nonsense\r\n\r\n",
    # The answer is out, or a stream of it has begun, when the nonsense comes.
    "POST /v1/host/trust HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    "GET /v1/watch HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    "POST /v1/npus/3/quarantine HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    "GET /v1/status HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
)


@pytest.mark.parametrize("head", NONSENSE)
def test_nonsense_does_not_reach_the_journal(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, head: str
) -> None:
    """Any local user may send it: he could fill the journal, and push out what is in it."""
    journal.set_up()

    async def scenario() -> None:
        async with serving(tmp_path) as one:
            reader, writer = await asyncio.open_unix_connection(one.path)
            writer.write(head.encode())
            await asyncio.sleep(0.05)
            writer.write(b"no chunk at all\r\n\r\n")
            async with asyncio.timeout(5):
                await reader.read()
            writer.close()
            assert (await one.get("/v1/health"))[0] == 200

    asyncio.run(scenario())
    assert caplog.text == ""


async def stall(one: Serving) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Somebody who asks for much, and reads nothing of it."""
    reader, writer = await asyncio.open_unix_connection(one.path, limit=1)
    writer.write(STATUS)
    await asyncio.sleep(0.05)
    return reader, writer


@pytest.mark.parametrize("length", [30_000, 5_000_000])
def test_who_does_not_read_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    """Also of what fits into the buffers: the answer is over then, and no request follows."""
    monkeypatch.setattr(peer, "READER_DEADLINE_S", 0.3)
    monkeypatch.setattr(peer, "REQUEST_DEADLINE_S", 0.3)
    monkeypatch.setattr(peer, "CONNECTIONS_OF_ROOT", 4)
    monkeypatch.setattr(peer, "CONNECTIONS_OF_A_USER", 4)

    async def scenario() -> None:
        async with serving(tmp_path) as one:
            one.show(Phase.SERVING, status="x" * length)
            stalled = [await stall(one) for _ in range(4)]
            await asyncio.sleep(0.6)
            async with asyncio.timeout(5):
                assert (await one.get("/v1/health"))[0] == 200
            for _, writer in stalled:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    asyncio.run(scenario())


def test_who_reads_slowly_gets_all(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as one:
            one.show(Phase.SERVING, status="x" * 2_000_000)
            reader, writer = await asyncio.open_unix_connection(one.path, limit=2**16)
            writer.write(STATUS.replace(b"1.1", b"1.0"))
            got = 0
            async with asyncio.timeout(20):
                while part := await reader.read(100_000):
                    got += len(part)
                    await asyncio.sleep(0.03)
            assert got > 2_000_000
            writer.close()

    asyncio.run(scenario())
