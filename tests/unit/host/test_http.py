# SPDX-License-Identifier: MulanPSL-2.0
"""One request to an engine: an answer, or which of the three ways there was none."""

import asyncio
import contextlib
import socket
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from agent.host.http import LIMIT_BYTES, MOST_PIECES, LocalHttp
from agent.ports import Answer, Ask, NoAnswer, Server

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
        server_of = Server("127.0.0.1", port)
        return await LocalHttp().ask(server_of, Ask(method, "/health", body), deadline_s)
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
    assert asyncio.run(ask(says(head + b"x" * (LIMIT_BYTES + 1)))) is NoAnswer.BROKEN


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n" * MOST_PIECES + OK,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"1\r\na\r\n" * MOST_PIECES
        + b"0\r\n\r\n",
    ],
    ids=["continue", "chunks"],
)
def test_an_answer_in_too_many_pieces(raw: bytes) -> None:
    """Few bytes, and seconds of a CPU for all that LIMIT_BYTES lets in."""
    assert len(raw) < LIMIT_BYTES
    assert asyncio.run(ask(says(raw))) is NoAnswer.BROKEN


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
        server = Server("127.0.0.1", port)
        answer = asyncio.run(LocalHttp().ask(server, Ask("GET", "/health"), 1.0))
    assert answer is NoAnswer.REFUSED


# --- the key, TLS --------------------------------------------------------------------------------


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers with the request's head."""
    head = await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(head) + head)
    with contextlib.suppress(OSError):
        await writer.drain()
    writer.close()


async def echoed(tls: ssl.SSLContext | None, certificate: str = "", key: str = "") -> object:
    server = await asyncio.start_server(_echo, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    try:
        asked = Ask("GET", "/health", key=key)
        return await LocalHttp().ask(Server("127.0.0.1", port, certificate), asked, 3.0)
    finally:
        server.close()
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("key", ["", "abc.~+/=123"])
def test_the_key_goes_along(key: str) -> None:
    answer = asyncio.run(echoed(None, key=key))
    assert isinstance(answer, Answer)
    header = f"Authorization: Bearer {key}\r\n".encode()
    assert (header in answer.body) is bool(key)
    assert b"Authorization" not in answer.body or key


def make_certificate(folder: Path, name: str, *, expired: bool = False) -> ssl.SSLContext:
    """NAME.pem and NAME.key in `folder`, made out for a name that nobody asks for."""
    folder.mkdir(exist_ok=True)
    (folder / "ca.cnf").write_text(
        "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\nserial=serial\nnew_certs_dir=.\n"
        "default_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n"
    )
    (folder / "index.txt").touch()
    (folder / "serial").write_text("01")
    begin, end = ("20200101", "20200102") if expired else ("20200101", "20490101")
    key, request, certificate = f"{name}.key", f"{name}.csr", f"{name}.pem"
    new = ["req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=serving.example"]
    sign = ["ca", "-batch", "-selfsign", "-config", "ca.cnf"]
    times = ["-startdate", f"{begin}000000Z", "-enddate", f"{end}000000Z"]
    for command in (
        [*new, "-keyout", key, "-out", request],
        [*sign, *times, "-in", request, "-keyfile", key, "-out", certificate],
    ):
        subprocess.run(["openssl", *command], cwd=folder, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / certificate, folder / key)
    return context


@pytest.mark.parametrize("expired", [False, True])
def test_the_engines_own_certificate_is_taken(tmp_path: Path, expired: bool) -> None:
    """For any name; and an engine does not fall ill by the date."""
    tls = make_certificate(tmp_path, "engine", expired=expired)
    answer = asyncio.run(echoed(tls, str(tmp_path / "engine.pem")))
    assert isinstance(answer, Answer)
    assert answer.status == 200


def test_another_certificate_is_not(tmp_path: Path) -> None:
    """Who shows it does not get the key. It may be the engine, with a renewed one: no reason to
    have it replaced."""
    tls = make_certificate(tmp_path / "a", "engine")
    make_certificate(tmp_path / "b", "other")
    assert asyncio.run(echoed(tls, str(tmp_path / "b/other.pem"))) is NoAnswer.UNABLE
    assert asyncio.run(echoed(tls, "/nonexistent.pem")) is NoAnswer.UNABLE
    assert asyncio.run(echoed(tls)) is NoAnswer.BROKEN
