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


@dataclass(frozen=True, slots=True)
class Peer:
    """The process at the other end, as it was when it connected."""

    pid: int
    uid: int
    gid: int


class PeerProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 with `state.peer` in every request."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        peer = read_peer(transport.get_extra_info("socket"))
        # handle_events() copies app_state into every scope; ours is per connection.
        self.app_state = {**self.app_state, "peer": peer}


def read_peer(connection: socket.socket) -> Peer:
    """Credentials of the peer, from the kernel."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    return Peer(*_UCRED.unpack(raw))


async def serve(app: ASGIApp, listener: socket.socket) -> asyncio.Server:
    """Answers on `listener` until the returned server is closed."""
    config = Config(
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
    config.load()
    state = ServerState()
    return await asyncio.get_running_loop().create_server(
        lambda: PeerProtocol(config=config, server_state=state, app_state={}), sock=listener
    )
