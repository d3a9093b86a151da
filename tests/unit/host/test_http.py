# SPDX-License-Identifier: MulanPSL-2.0
"""One request to an engine: an answer, or which of the three ways there was none."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from agent.host.http import BODY_LIMIT_BYTES, LocalHttp
from agent.ports import Answer, NoAnswer

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def ask(serve: Serve, deadline_s: float = 3.0, body: bytes = b"") -> Answer | NoAnswer:
    async def serve_and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await serve(reader, writer)
            await writer.drain()
        except (OSError, asyncio.CancelledError):
            pass  # the client has gone
        finally:
            writer.close()

    server = await asyncio.start_server(serve_and_close, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        method = "POST" if body else "GET"
        return await LocalHttp().ask("127.0.0.1", port, method, "/health", deadline_s, body)
    finally:
        server.close()
        await asyncio.sleep(0.01)


def says(raw: bytes) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)

    return serve


@pytest.mark.parametrize(
    ("raw", "answer"),
    [
        (OK, Answer(200, b"ok")),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", Answer(503, b"")),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, Answer(200, b"ok")),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", Answer(200, b"until the end")),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            Answer(200, b"abc"),
        ),
        (b"", NoAnswer.BROKEN),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", NoAnswer.BROKEN),
        (b"SSH-2.0-OpenSSH_9.6\r\n", NoAnswer.BROKEN),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, NoAnswer.BROKEN),
    ],
)
def test_what_it_says(raw: bytes, answer: Answer | NoAnswer) -> None:
    assert asyncio.run(ask(says(raw))) == answer


def test_the_body_is_sent_whole() -> None:
    body = b"x" * 3_000_000

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(len(body)) == body
        writer.write(OK)

    assert asyncio.run(ask(count, body=body)) == Answer(200, b"ok")


def test_an_answer_that_is_too_big() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n"
    assert asyncio.run(ask(says(head + b"x" * (BODY_LIMIT_BYTES + 1)))) is NoAnswer.BROKEN


async def _never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def _drips(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"x")
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("serve", [_never, _drips])
def test_the_deadline_is_for_all_of_it(serve: Serve) -> None:
    assert asyncio.run(ask(serve, 0.2)) is NoAnswer.TIMEOUT


def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        answer = asyncio.run(LocalHttp().ask("127.0.0.1", port, "GET", "/health", 1.0))
    assert answer is NoAnswer.REFUSED
