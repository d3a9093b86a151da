# SPDX-License-Identifier: MulanPSL-2.0
"""The socket API over a socket, with a double of the writer behind it."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.errors import Failure
from agent.host.own_process import read_own_process
from agent.model import Phase
from agent.status.api.app import build_app
from agent.status.api.metrics import MetricsText
from agent.status.api.peer import SocketServer
from agent.status.changes import Changes
from agent.status.snapshot import Board, EventView
from tests.build import build_snapshot, build_view
from tests.fakes.control import FakeControl


@dataclass
class Serving:
    """A server that answers at `path`."""

    path: Path
    board: Board
    control: FakeControl
    changes: Changes = field(default_factory=Changes)

    def show(self, phase: Phase, failure: Failure | None = None, **changes: Any) -> None:
        view = build_view(phase, failure=failure, **changes)
        self.board.put(build_snapshot(view, events=(EventView(1.0, "8b", "held", "x"),)))

    async def ask(self, raw: str) -> bytes:
        """Sends `raw` and reads to the end."""
        reader, writer = await asyncio.open_unix_connection(self.path)
        writer.write(raw.encode(errors="surrogateescape"))
        try:
            async with asyncio.timeout(5):
                return await reader.read()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def get(self, path: str, *headers: str, method: str = "GET") -> tuple[int, Any]:
        head = "".join(f"{header}\r\n" for header in ("Connection: close", *headers))
        answer = await self.ask(f"{method} {path} HTTP/1.1\r\nHost: a\r\n{head}\r\n")
        top, _, body = answer.partition(b"\r\n\r\n")
        return int(top.split()[1]), json.loads(body) if body[:1] == b"{" else body.decode()


@contextlib.asynccontextmanager
async def serving(folder: Path, mode: int = 0o666) -> AsyncIterator[Serving]:
    board, control = Board(build_snapshot(build_view())), FakeControl()
    one = Serving(folder / "agent.sock", board, control)
    metrics = MetricsText(board, read_own_process)
    server = SocketServer(build_app(board, control, metrics, share=folder, changes=one.changes))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(one.path))
        listener.listen()
        one.path.chmod(mode)
        listener.setblocking(False)
        await server.start(listener)
        try:
            yield one
        finally:
            board.close()
            await server.close()
            await asyncio.sleep(0.02)
