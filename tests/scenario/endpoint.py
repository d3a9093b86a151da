# SPDX-License-Identifier: MulanPSL-2.0
"""The engine's port: closed while it loads, then /health, /metrics and one completion answer."""

import asyncio
import contextlib
import socket
from dataclasses import dataclass, field

NAMES = (
    "num_requests_running",
    "num_requests_waiting",
    "prompt_tokens_total",
    "generation_tokens_total",
)
ONE_TOKEN = '{"choices": [{"text": "1"}]}'


@dataclass
class Endpoint:
    """Keeps its port from the beginning, so that a closed one refuses."""

    asked: list[str] = field(default_factory=list)
    completes: bool = True
    hangs: bool = False  # no completion is answered, all else is
    ill: bool = False  # /health says 503
    flows: bool = False  # users' tokens do: the counters move
    counts: bool = True  # --disable-log-stats: False
    tokens: int = 0
    port: int = 0
    address: str = "127.0.0.1"

    def __post_init__(self) -> None:
        self._is_open = False
        self._entering: set[asyncio.Task[object]] = set()
        self._clients: set[asyncio.StreamWriter] = set()
        self._socket = self._bind(self.port)
        self.port = self._socket.getsockname()[1]

    async def open(self) -> None:
        """Not by asyncio.start_server(): one of Python 3.11 that is closed while a client comes in
        leaves that client's socket open (`Server._attach` asserts)."""
        if not self._is_open:
            self._is_open = True
            self._socket.listen()
            asyncio.get_running_loop().add_reader(self._socket, self._accept)

    def close(self) -> None:
        """As when the engine dies."""
        if self._is_open:
            self._is_open = False
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = self._bind(self.port)

    def end(self) -> None:
        """Before the loop's own end, which would leave the transports of clients open."""
        self.close()
        for client in self._clients:
            client.transport.abort()
        self._socket.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # gone again
            client, _ = self._socket.accept()
            client.setblocking(False)
            loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
            protocol = asyncio.StreamReaderProtocol(reader, self._serve)
            task = asyncio.ensure_future(loop.connect_accepted_socket(lambda: protocol, client))
            self._entering.add(task)
            task.add_done_callback(self._entering.discard)

    def _bind(self, port: int) -> socket.socket:
        bound = socket.socket()
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((self.address, port))
        bound.setblocking(False)
        return bound

    def _metrics(self) -> str:
        if not self.counts:
            return "python_info 1.0\n"
        return "".join(f'vllm:{name}{{engine="0"}} {self.tokens}.0\n' for name in NAMES)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                target = head.split()[1]
                self.asked.append(target)
                self.tokens += self.flows
                body = {"/health": "", "/metrics": self._metrics()}.get(target, ONE_TOKEN)
                fine = (
                    not self.ill if target == "/health" else target == "/metrics" or self.completes
                )
                if self.hangs and body is ONE_TOKEN:
                    await reader.read()  # until the client has had enough
                status = "200 OK" if fine else "500 Internal Server Error"
                head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write((head + body).encode())
                await writer.drain()
        finally:
            self._clients.discard(writer)
            writer.close()
