# SPDX-License-Identifier: MulanPSL-2.0
"""The engine's port: closed while it loads, then /health and one completion answer."""

import asyncio
import contextlib
import socket
from dataclasses import dataclass, field


@dataclass
class Endpoint:
    """Keeps its port from the beginning, so that a closed one refuses."""

    asked: list[str] = field(default_factory=list)
    completes: bool = True

    def __post_init__(self) -> None:
        self._server: asyncio.Server | None = None
        self._socket = self._bind(0)
        self.port: int = self._socket.getsockname()[1]

    async def open(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, sock=self._socket)

    def close(self) -> None:
        """As when the engine dies."""
        if self._server is not None:
            self._server.close()
            self._server = None
            self._socket = self._bind(self.port)

    def end(self) -> None:
        self.close()
        self._socket.close()

    @staticmethod
    def _bind(port: int) -> socket.socket:
        bound = socket.socket()
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", port))
        bound.setblocking(False)
        return bound

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            target = head.split()[1]
            self.asked.append(target)
            fine = target == "/health" or self.completes
            status = "200 OK" if fine else "500 Internal Server Error"
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}".encode())
            await writer.drain()
        writer.close()
