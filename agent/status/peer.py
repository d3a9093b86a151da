# SPDX-License-Identifier: MulanPSL-2.0
"""HTTP over the unix socket with the caller's credentials (docs/adr/0001).

uvicorn tells its application nothing about the peer of a unix socket, so its HTTP protocol is
subclassed: what SO_PEERCRED says when the connection is made goes into `scope["state"]`. The server
around it (uvicorn.Server) is not used: it wakes up ten times a second.
"""

import asyncio
import socket
import struct
from dataclasses import dataclass

from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

# struct ucred (unix(7)): pid, uid, gid.
_UCRED = struct.Struct("3i")

HEADER_LIMIT_BYTES = 16 * 1024
KEEP_ALIVE_S = 5
CLOSE_DEADLINE_S = 1.0
# From connecting, or from the last answer, to a whole request.
REQUEST_DEADLINE_S = 10.0


@dataclass(frozen=True, slots=True)
class Peer:
    """The process at the other end, as it was when it connected."""

    pid: int
    uid: int
    gid: int


class PeerProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 with `state.peer` in every request, and a deadline for asking."""

    _request_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        peer = read_peer(transport.get_extra_info("socket"))
        # handle_events() copies app_state into every scope; ours is per connection.
        self.app_state = {**self.app_state, "peer": peer}
        self._expect_request()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._expect_request()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_request()
        super().connection_lost(exc)

    def _expect_request(self) -> None:
        """Every local user may connect: who does not ask in time is not kept. (uvicorn waits for a
        first request, or for the rest of one, for ever.)"""
        asking = self.cycle is not None and not self.cycle.response_complete
        if asking:
            self._forget_request()
        elif self._request_timer is None:
            self._request_timer = self.loop.call_later(REQUEST_DEADLINE_S, self.transport.close)

    def _forget_request(self) -> None:
        if self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None


def read_peer(connection: socket.socket) -> Peer:
    """Credentials of the peer, from the kernel."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    return Peer(*_UCRED.unpack(raw))


class SocketServer:
    """Answers on one listening socket until it is closed."""

    def __init__(self, app: ASGIApp) -> None:
        self._config = Config(
            app,
            http=PeerProtocol,
            lifespan="off",
            ws="none",
            loop="none",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            h11_max_incomplete_event_size=HEADER_LIMIT_BYTES,
        )
        self._config.load()
        self._state = ServerState()
        self._server: asyncio.Server | None = None

    async def start(self, listener: socket.socket) -> None:
        self._server = await asyncio.get_running_loop().create_server(
            lambda: PeerProtocol(config=self._config, server_state=self._state, app_state={}),
            sock=listener,
        )

    async def close(self) -> None:
        """Lets requests that are being answered come to their end, for a moment."""
        if self._server is not None:
            # wait_closed() would also wait for idle connections (Python >= 3.12).
            self._server.close()
        if self._state.tasks:
            await asyncio.wait(self._state.tasks, timeout=CLOSE_DEADLINE_S)
