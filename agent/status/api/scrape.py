# SPDX-License-Identifier: MulanPSL-2.0
"""A TCP port for Prometheus alone, where the operator wants one: `GET /metrics`, nothing else.

Whoever reaches it may read it, so it has limits of its own: what comes over it takes nothing from
the agent's socket.
"""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress

import structlog
from uvicorn.config import Config
from uvicorn.server import ServerState

from agent.errors import AgentError, Failure
from agent.status.api.bounded import App, BoundedProtocol, Bounds, HttpServer
from agent.status.api.peer import Peer

log = structlog.get_logger(__name__)

CONNECTIONS = 16
HEADER_LIMIT_BYTES = 8 * 1024
REQUEST_DEADLINE_S = 5.0
READER_DEADLINE_S = 10.0
# A port that something else has, an address that is not there yet.
RETRY_S = 30.0
# Nobody knows who is at the other end.
STRANGER = Peer(0, -1, -1)


class _Door:
    """How many are in."""

    def __init__(self) -> None:
        self.inside = 0


class _ScrapeProtocol(BoundedProtocol):
    door: _Door

    def admit(self, transport: asyncio.Transport) -> bool:
        if self.door.inside >= CONNECTIONS:
            return False
        self.door.inside += 1
        self.app_state = {**self.app_state, "peer": STRANGER}
        return True

    def gone(self) -> None:
        self.door.inside -= 1


class ScrapePort:
    """Answers by `app`, where it shall. `open_port` raises AgentError; `tell` hears why it cannot
    be, and None when it is again."""

    def __init__(
        self,
        app: App,
        open_port: Callable[[str], socket.socket],
        tell: Callable[[Failure | None], None],
    ) -> None:
        self._app = app
        self._open_port = open_port
        self._tell = tell
        self._door = _Door()
        self._wanted = ""
        self._changed = asyncio.Event()
        self._served = ""
        self._server: HttpServer | None = None
        self._trouble: Failure | None = None

    def want(self, listen: str) -> None:
        """`listen`: address and port; empty: nowhere."""
        self._wanted = listen
        self._changed.set()

    async def run(self) -> None:
        """Ends only by cancellation."""
        try:
            while True:
                self._changed.clear()
                await self._follow()
                with suppress(TimeoutError):
                    async with asyncio.timeout(RETRY_S if self._trouble else None):
                        await self._changed.wait()
        finally:
            await self._close()

    async def _follow(self) -> None:
        wanted = self._wanted
        if wanted == self._served:
            return
        await self._close()
        if not wanted:
            self._trouble = None
            return
        try:
            listener = self._open_port(wanted)
        except AgentError as error:
            self._note(error.failure)
            return
        self._server = HttpServer(self._app, self._connect, HEADER_LIMIT_BYTES)
        await self._server.start(listener)
        self._served = wanted
        self._note(None)
        log.info("metrics-listen", address=wanted)

    def _note(self, trouble: Failure | None) -> None:
        """Once, however often it is tried."""
        before, self._trouble = self._trouble, trouble
        if before != trouble:
            self._tell(trouble)

    async def _close(self) -> None:
        server, self._server, self._served = self._server, None, ""
        if server is not None:
            await server.close()

    def _connect(self, config: Config, state: ServerState) -> _ScrapeProtocol:
        protocol = _ScrapeProtocol(config=config, server_state=state, app_state={})
        protocol.door = self._door
        protocol.bounds = Bounds(REQUEST_DEADLINE_S, READER_DEADLINE_S)
        return protocol
