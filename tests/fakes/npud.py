# SPDX-License-Identifier: MulanPSL-2.0
"""A fake npud: a unix socket on which a test says what it likes (agent/npud/inventory.py)."""

import asyncio
import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from agent.model import Inventory
from tests.fakes.connections import Connections


class FakeNpud:
    """Greets every client with the newest inventory, when there is one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.inventory: Inventory | None = None
        self.connections = 0
        self.requests: list[dict[str, object]] = []  # what clients asked for
        self._clients: set[asyncio.StreamWriter] = set()
        self._connections = Connections(self._greet)
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._connections.take, self.path)

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._clients.add(writer)
        if self.inventory is not None:
            writer.write(_line("inventory", inventory=asdict(self.inventory)))
        try:
            with suppress(OSError):
                while line := await reader.readline():  # ends when they go
                    self.requests.append(json.loads(line))
        finally:
            self._clients.discard(writer)

    def say(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self.send(_line("inventory", inventory=asdict(inventory)))

    def end_reset(self, logic_id: int, outcome: str, detail: str) -> None:
        self.send(_line("reset", logic_id=logic_id, outcome=outcome, detail=detail))

    def beat(self) -> None:
        self.send(_line("heartbeat", sequence=1))

    def send(self, raw: bytes) -> None:
        """Anything, also what is not JSON."""
        for client in self._clients:
            client.write(raw)

    async def drop(self) -> None:
        """Closes every connection; new ones are taken."""
        for client in list(self._clients):
            client.close()
            with suppress(OSError):
                await client.wait_closed()

    async def close(self) -> None:
        await self._connections.end(self._server)
        self.path.unlink(missing_ok=True)


def _line(kind: str, **more: object) -> bytes:
    return json.dumps({"schema": 1, "type": kind, **more}).encode() + b"\n"
