# SPDX-License-Identifier: MulanPSL-2.0
"""Metrics over the agent's socket, and over a TCP port for Prometheus alone."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.errors import Code, Failure
from agent.facts import OwnProcess
from agent.host.listener import open_tcp
from agent.model import Phase
from agent.status.api import scrape
from agent.status.api.app import build_scrape_app
from agent.status.api.metrics import MetricsText
from agent.status.api.scrape import ScrapePort
from agent.status.metrics.page import MEDIA_TYPE
from agent.status.snapshot import Board
from tests.build import build_snapshot, build_view
from tests.scenario.settled import settled
from tests.unit.api import serving

SERVES = 'deepseek_agent_instance_serving{name="8b"} 1'
OWN = OwnProcess(1.5, 4096)


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    with settled():
        yield


def free_port() -> str:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{one.getsockname()[1]}"


@dataclass
class Scraped:
    """A port of an agent that serves 8b."""

    port: ScrapePort
    listen: str
    board: Board
    told: list[Failure | None] = field(default_factory=list)

    async def ask(self, raw: str) -> str:
        """Sends `raw` and reads to the end; empty when there is no answer."""
        host, _, port = self.listen.rpartition(":")
        reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
        try:
            with contextlib.suppress(OSError):
                writer.write(raw.encode())
                async with asyncio.timeout(5):
                    return (await reader.read()).decode()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        return ""

    async def get(self, path: str, *headers: str, method: str = "GET") -> tuple[int, str]:
        head = "".join(f"{header}\r\n" for header in ("Connection: close", *headers))
        answer = await self.ask(f"{method} {path} HTTP/1.1\r\nHost: a\r\n{head}\r\n")
        return int(answer.split()[1]), answer

    async def is_open(self) -> bool:
        with contextlib.suppress(OSError):
            return (await self.get("/metrics"))[0] == 200
        return False


@contextlib.asynccontextmanager
async def scraped(listen: str = "") -> AsyncIterator[Scraped]:
    board = Board(build_snapshot(build_view()))
    told: list[Failure | None] = []
    port = ScrapePort(build_scrape_app(MetricsText(board, lambda: OWN)), open_tcp, told.append)
    one = Scraped(port, listen or free_port(), board, told)
    task = asyncio.create_task(port.run())
    try:
        port.want(one.listen)
        await asyncio.sleep(0.05)
        yield one
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0.02)


# --- over the agent's socket ---------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/metrics", "/v1/metrics"])
def test_over_the_agents_socket(tmp_path: Path, path: str) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as one:
            raw = await one.ask(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            head, _, body = raw.decode().partition("\r\n\r\n")
            assert head.startswith("HTTP/1.1 200 ")
            assert f"content-type: {MEDIA_TYPE}" in head.lower()
            assert SERVES in body
            assert "deepseek_agent_process_resident_memory_bytes " in body
            one.show(Phase.HELD)
            assert SERVES not in (await one.get(path))[1]
            assert (await one.get(path, "Origin: http://a"))[0] == 403

    asyncio.run(scenario())


def test_a_snapshot_is_put_into_words_once_and_the_process_each_time() -> None:
    board = Board(build_snapshot(build_view(served_name="\udcff")))
    used = [OwnProcess(1.0, 1), OwnProcess(2.0, 1), None]
    text = MetricsText(board, lambda: used.pop(0))
    first, second, third = text.newest(), text.newest(), text.newest()
    assert first == third + first[len(third) :]
    assert b"process_cpu_seconds_total 1\n" in first
    assert b"process_cpu_seconds_total 2\n" in second
    assert b"process_cpu" not in third
    assert b'served_name="?"' in first


# --- the port ------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_prometheus_gets_numbers(host: str) -> None:
    async def scenario() -> None:
        async with scraped(free_port().replace("127.0.0.1", host)) as one:
            status, answer = await one.get("/metrics")
            assert status == 200
            assert SERVES in answer
            assert "process_cpu_seconds_total 1.5\n" in answer
            assert f"content-type: {MEDIA_TYPE}" in answer.lower()
            one.board.put(build_snapshot(build_view(Phase.HELD)))
            assert SERVES not in (await one.get("/metrics"))[1]
            assert one.told == []

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("method", "path", "header", "status"),
    [
        ("GET", "/metrics?x=1", "X: y", 200),
        ("GET", "/", "X: y", 404),
        ("GET", "/v1/status", "X: y", 404),
        ("GET", "/v1/metrics", "X: y", 404),
        ("GET", "/metrics/", "X: y", 404),
        ("POST", "/v1/config/reload", "X: y", 404),
        ("POST", "/metrics", "X: y", 405),
        ("DELETE", "/metrics", "X: y", 405),
        ("GET", "/metrics", "Origin: http://a", 403),
        ("GET", "/metrics", "Referer: http://a/", 403),
    ],
)
def test_nothing_else_is_there(method: str, path: str, header: str, status: int) -> None:
    async def scenario() -> None:
        async with scraped() as one:
            got, answer = await one.get(path, header, method=method)
            assert got == status
            assert (SERVES in answer) is (status == 200)

    asyncio.run(scenario())


def test_a_port_that_is_taken_is_told_once_and_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scrape, "RETRY_S", 0.05)

    async def scenario() -> None:
        listen = free_port()
        with open_tcp(listen):
            async with scraped(listen) as one:
                await asyncio.sleep(0.2)
                (failure,) = one.told
                assert failure is not None
                assert failure.code is Code.METRICS_NOT_SERVED
                assert failure.message == (
                    f"cannot serve metrics at {listen}: Address already in use"
                )
        async with scraped(listen) as one:
            assert await one.is_open()

    asyncio.run(scenario())


def test_a_port_that_gets_free_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrape, "RETRY_S", 0.05)

    async def scenario() -> None:
        listen = free_port()
        other = open_tcp(listen)
        async with scraped(listen) as one:
            other.close()
            await asyncio.sleep(0.2)
            assert await one.is_open()
            assert [failure is None for failure in one.told] == [False, True]

    asyncio.run(scenario())


def test_an_address_that_is_not_of_this_host_is_told() -> None:
    async def scenario() -> None:
        async with scraped("192.0.2.1:9834") as one:
            (failure,) = one.told
            assert failure is not None
            assert "Cannot assign requested address" in failure.message

    asyncio.run(scenario())


def test_a_reload_moves_it_and_turns_it_off() -> None:
    async def scenario() -> None:
        async with scraped() as one:
            before = one.listen
            host, _, port = before.rpartition(":")
            idle, writer = await asyncio.open_connection(host, int(port))
            one.port.want(before)  # a reload that changes nothing cuts nobody off
            await asyncio.sleep(0.05)
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
            assert b" 200 " in await idle.readline()
            one.listen = free_port()
            one.port.want(one.listen)
            await asyncio.sleep(0.05)
            assert await one.is_open()
            async with asyncio.timeout(2):  # and who was connected is sent away
                await idle.read()
            writer.close()
            one.listen, after = before, one.listen
            assert not await one.is_open()
            one.listen = after
            one.port.want("")
            await asyncio.sleep(0.05)
            assert not await one.is_open()
            assert one.told == []

    asyncio.run(scenario())


# --- its limits ----------------------------------------------------------------------------------


def test_one_connection_too_many_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrape, "CONNECTIONS", 2)

    async def scenario() -> None:
        async with scraped() as one:
            host, _, port = one.listen.rpartition(":")
            kept = [await asyncio.open_connection(host, int(port)) for _ in range(2)]
            await asyncio.sleep(0.05)
            assert await one.ask("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n") == ""
            kept.pop()[1].close()
            await asyncio.sleep(0.05)
            assert await one.is_open()
            for _, writer in kept:
                writer.close()

    asyncio.run(scenario())


def test_who_does_not_ask_in_time_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrape, "REQUEST_DEADLINE_S", 0.1)

    async def scenario() -> None:
        async with scraped() as one:
            assert await one.ask("GET /metrics HTTP/1.1\r\nHost:") == ""

    asyncio.run(scenario())


def test_a_long_header_is_refused() -> None:
    async def scenario() -> None:
        async with scraped() as one:
            long = "x" * scrape.HEADER_LIMIT_BYTES
            answer = await one.ask(f"GET /metrics HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n")
            assert SERVES not in answer

    asyncio.run(scenario())
