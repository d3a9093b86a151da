# SPDX-License-Identifier: MulanPSL-2.0
"""What anybody on the host may send to the agent's socket: method, path, query, body."""

import asyncio
import json
from pathlib import Path
from urllib.parse import unquote

from agent.host.own_process import read_own_process
from agent.status.api.app import build_app
from agent.status.api.bounded import App, Message
from agent.status.api.metrics import MetricsText
from agent.status.api.peer import Peer
from agent.status.snapshot import Board
from tests.build import build_snapshot, build_view
from tests.fakes.control import FakeControl
from tests.fuzz.target import Target

ETC = Path(__file__).resolve().parents[2] / "etc"  # as the package's share
ANSWER_LIMIT = 512 * 1024
DEADLINE_S = 2.0


def _app() -> App:
    board = Board(build_snapshot(build_view()))
    return build_app(board, FakeControl(), MetricsText(board, read_own_process), share=ETC)


async def _ask(app: App, scope: Message, body: bytes) -> tuple[int, bytes]:
    """Status and answer; a stream is read until the other side has gone."""
    waiting: list[Message] = [
        {"type": "http.request", "body": body, "more_body": False},
        {"type": "http.disconnect"},
    ]
    status, answer = 0, bytearray()

    async def receive() -> Message:
        await asyncio.sleep(0)
        return waiting.pop(0) if len(waiting) > 1 else waiting[0]

    async def send(message: Message) -> None:
        nonlocal status
        status = message.get("status", status)
        answer.extend(message.get("body", b""))

    async with asyncio.timeout(DEADLINE_S):
        await app(scope, receive, send)
    return status, bytes(answer)


def check_api(data: bytes) -> None:
    """A line as in HTTP, headers, an empty line, the body. uvicorn and h11 are not asked."""
    head, _, body = data.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    method, _, target = first.partition(b" ")
    path, _, query = target.partition(b"?")
    headers = [(name.lower(), value) for name, _, value in (one.partition(b": ") for one in lines)]
    scope: Message = {
        "type": "http",
        "method": method.decode("latin-1"),
        "path": unquote(path.decode("latin-1")),
        "query_string": query,
        "headers": headers,
        "state": {"peer": Peer(1, 0, 0)},
    }
    status, answer = asyncio.run(_ask(_app(), scope, body))
    assert 200 <= status < 500 or status == 503, (status, answer[:200])
    assert len(answer) <= ANSWER_LIMIT
    if status >= 400:
        assert json.loads(answer)["error"]["message"]


TARGETS = (Target("api", check_api, is_json=True),)
