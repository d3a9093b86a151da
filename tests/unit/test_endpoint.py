# SPDX-License-Identifier: MulanPSL-2.0
"""The agent's own HTTP client, and what it makes of an engine: against real servers on loopback."""

import asyncio
import io
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import AgentError
from agent.health.endpoint import LOOK_DEADLINE_S, canary, wait_until_healthy
from agent.host.http import LIMIT_BYTES, LocalHttp
from agent.model import Health
from agent.ports import Answer, Ask, NoAnswer, Server
from agent.status.chat import chat
from tests.build import build_view
from tests.fakes.engine.certificate import make_certificate
from tests.fakes.engine.runner import RunningEngine
from tests.scenario.endpoint import Endpoint

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def port_of(engine: RunningEngine) -> int:
    return int(engine.target.base_url.rsplit(":", 1)[1])


async def ask_server(handle: Handler, deadline_s: float = 2.0) -> Answer | NoAnswer:
    """What LocalHttp says of a server that does `handle` for each connection."""
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        port = server.sockets[0].getsockname()[1]
        return await LocalHttp().ask(Server("127.0.0.1", port), Ask("GET", "/health"), deadline_s)
    finally:
        server.close()


def answering(*pieces: bytes) -> Handler:
    """Reads the request's head, sends `pieces` one by one, closes."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        writer.close()

    return handle


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", b"ok"), Answer(200, b"ok")),
        ((b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n",), Answer(503, b"")),
        (
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", b"0\r\n\r\n"),
            Answer(200, b"ok"),
        ),
        ((b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n",), Answer(204, b"")),
        ((b"HTTP/1.1 200 OK\r\n\r\nuntil the end",), Answer(200, b"until the end")),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b"short"), NoAnswer.BROKEN),
        ((b"SSH-2.0-OpenSSH_9.6\r\n",), NoAnswer.BROKEN),
        ((b"\x00\xff" * 100,), NoAnswer.BROKEN),
        ((), NoAnswer.BROKEN),
    ],
)
def test_answers_and_what_is_none(pieces: tuple[bytes, ...], expected: Answer | NoAnswer) -> None:
    assert asyncio.run(ask_server(answering(*pieces))) == expected


def test_nobody_listens() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        asked = LocalHttp().ask(Server("127.0.0.1", port), Ask("GET", "/health"), 2.0)
        assert asyncio.run(asked) is NoAnswer.REFUSED


def test_accepted_and_never_answered() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    assert asyncio.run(ask_server(handle, deadline_s=0.1)) is NoAnswer.TIMEOUT


def test_an_endless_body_ends_at_the_limit() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            for _ in range(2 * LIMIT_BYTES // 65536):
                writer.write(b"x" * 65536)
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()

    assert asyncio.run(ask_server(handle)) is NoAnswer.BROKEN


@pytest.mark.parametrize(
    "endless",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n" * 2000,
        # Each byte of the body with as much about it as h11 allows.
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        + (b"1;" + b"x" * 200 + b"\r\na\r\n") * 300,
    ],
    ids=["continue", "chunks"],
)
def test_what_never_comes_to_a_body_ends_at_the_limit_too(endless: bytes) -> None:
    head, _, rest = endless.partition(b"\r\n\r\n")

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head + b"\r\n\r\n")
        with suppress(ConnectionError):
            while True:
                writer.write(rest)
                await writer.drain()

    assert asyncio.run(ask_server(handle, deadline_s=20)) is NoAnswer.BROKEN


def test_waits_through_loading_for_a_completion(tmp_path: Path) -> None:
    with RunningEngine(tmp_path, load_s=0.5) as engine:
        waiting = wait_until_healthy(LocalHttp(), Server("127.0.0.1", port_of(engine)), "m")
        health = asyncio.run(asyncio.wait_for(waiting, 8))
        assert health is Health.HEALTHY


def test_a_server_that_takes_longer_for_each_answer_than_the_first_look_waits() -> None:
    """Its users came back at once, and its loop has much to do."""
    token = b'{"choices": [{"text": "1"}]}'
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(token)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(1.5 * LOOK_DEADLINE_S)
        await answering(head + token)(reader, writer)

    async def wait() -> Health:
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        try:
            here = Server("127.0.0.1", server.sockets[0].getsockname()[1])
            return await asyncio.wait_for(wait_until_healthy(LocalHttp(), here, "m"), 8)
        finally:
            server.close()

    assert asyncio.run(wait()) is Health.HEALTHY


def test_health_200_without_a_token_is_not_healthy(tmp_path: Path) -> None:
    with RunningEngine(tmp_path, load_s=0.05, hang=True) as engine:

        async def wait() -> None:
            waiting = wait_until_healthy(LocalHttp(), Server("127.0.0.1", port_of(engine)), "m")
            await asyncio.wait_for(waiting, 1.5)

        with pytest.raises(TimeoutError):
            asyncio.run(wait())


@pytest.mark.parametrize("flows", [True, False])
def test_tokens_for_others_are_a_proof_too(flows: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long queue, at whose end our own request waits."""
    monkeypatch.setattr("agent.health.endpoint.WORK_EVERY_S", 0.05)
    engine = Endpoint(hangs=True, flows=flows)

    async def wait() -> Health:
        await engine.open()
        waiting = wait_until_healthy(LocalHttp(), Server("127.0.0.1", engine.port), "m")
        try:
            return await asyncio.wait_for(waiting, 2.0 if flows else 0.5)
        except TimeoutError:
            return Health.UNKNOWN
        finally:
            engine.end()
            await asyncio.sleep(0.05)

    assert asyncio.run(wait()) is (Health.HEALTHY if flows else Health.UNKNOWN)


def test_a_canary_for_an_unknown_model_is_unhealthy(tmp_path: Path) -> None:
    with RunningEngine(tmp_path, load_s=0.05) as engine:
        engine.wait_ready()
        asked = canary(LocalHttp(), Server("127.0.0.1", port_of(engine)), "another-model")
        assert asyncio.run(asked) is Health.UNHEALTHY


def test_the_canary_and_chat_have_the_key(tmp_path: Path) -> None:
    key = "0123456789abcdef"
    with RunningEngine(tmp_path, key=key) as engine:
        engine.wait_ready()
        here = Server("127.0.0.1", port_of(engine))
        assert asyncio.run(canary(LocalHttp(), here, "m")) is Health.UNHEALTHY
        assert asyncio.run(canary(LocalHttp(), here, "m", key)) is Health.HEALTHY
        waiting = wait_until_healthy(LocalHttp(), here, "m", key)
        assert asyncio.run(asyncio.wait_for(waiting, 5)) is Health.HEALTHY
        view = build_view(endpoint=f"http://127.0.0.1:{port_of(engine)}", served_name="m")
        out = io.StringIO()
        chat(view, "openEuler?", out, key)
        assert "openEuler" in out.getvalue()
        with pytest.raises(AgentError, match="HTTP 401"):
            chat(view, "openEuler?", out)


def test_an_engine_that_shows_another_certificate_lives_and_cannot_be_asked(tmp_path: Path) -> None:
    """vLLM's --enable-ssl-refresh shows one that was renewed in place; the agent knows the one that
    the engine was started with."""
    (tmp_path / "other").mkdir()
    own, other = make_certificate(tmp_path), make_certificate(tmp_path / "other")
    with RunningEngine(tmp_path, certificate=other) as engine:
        engine.wait_ready()
        here = Server("127.0.0.1", port_of(engine), str(own.certfile))
        asked = LocalHttp().ask(here, Ask("GET", "/health"), 2.0)
        assert asyncio.run(asked) is NoAnswer.UNABLE


def test_chat_trusts_the_engines_own_certificate_alone(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    own, other = make_certificate(tmp_path), make_certificate(tmp_path / "other")
    with RunningEngine(tmp_path, certificate=own) as engine:
        engine.wait_ready()
        view = build_view(
            endpoint=f"https://127.0.0.1:{port_of(engine)}",
            served_name="m",
            certificate=str(own.certfile),
        )
        chat(view, "openEuler?", out := io.StringIO())
        assert "openEuler" in out.getvalue()
        for wrong in (str(other.certfile), str(tmp_path / "none")):
            with pytest.raises(AgentError, match="cannot chat with 8b"):
                chat(replace(view, certificate=wrong), "openEuler?", out)
