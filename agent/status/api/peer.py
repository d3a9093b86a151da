# SPDX-License-Identifier: MulanPSL-2.0
"""HTTP over the unix socket with the caller's credentials (docs/adr/0001).

uvicorn tells its application nothing about the peer of a unix socket, so its HTTP protocol is
subclassed: what SO_PEERCRED says when the connection is made goes into `scope["state"]`.
"""

import asyncio
import socket
import struct
from collections import Counter
from dataclasses import dataclass

from uvicorn.config import Config
from uvicorn.server import ServerState

from agent.status.api.bounded import App, BoundedProtocol, Bounds, HttpServer

# struct ucred (unix(7)): pid, uid, gid.
_UCRED = struct.Struct("3i")

HEADER_LIMIT_BYTES = 16 * 1024
REQUEST_DEADLINE_S = 10.0
READER_DEADLINE_S = 30.0
# Connections at a time. Each costs a descriptor, of which the agent has 1024, and some 10 KiB.
CONNECTIONS = 512
CONNECTIONS_OF_ROOT = 256
CONNECTIONS_OF_A_USER = 64


@dataclass(frozen=True, slots=True)
class Peer:
    """The process at the other end, as it was when it connected."""

    pid: int
    uid: int
    gid: int


class Connections:
    """How many each user has: no local user may use up what the others need."""

    def __init__(self) -> None:
        self._of: Counter[int] = Counter()

    def take(self, uid: int) -> bool:
        """Whether there may be another one."""
        limit = CONNECTIONS_OF_A_USER if uid else CONNECTIONS_OF_ROOT
        if self._of[uid] >= limit or self._of.total() >= CONNECTIONS:
            return False
        self._of[uid] += 1
        return True

    def give_back(self, uid: int) -> None:
        self._of[uid] -= 1
        if not self._of[uid]:
            del self._of[uid]


class PeerProtocol(BoundedProtocol):
    """With `state.peer` in every request, and a limit to the connections of a user."""

    quota: Connections
    _uid: int = -1  # whose connection it counts as

    def admit(self, transport: asyncio.Transport) -> bool:
        peer = read_peer(transport.get_extra_info("socket"))
        self._uid = peer.uid
        # handle_events() copies app_state into every scope; ours is per connection.
        self.app_state = {**self.app_state, "peer": peer}
        return self.quota.take(peer.uid)

    def gone(self) -> None:
        self.quota.give_back(self._uid)


def read_peer(connection: socket.socket) -> Peer:
    """Credentials of the peer, from the kernel."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    return Peer(*_UCRED.unpack(raw))


class SocketServer(HttpServer):
    """Answers on the agent's unix socket."""

    def __init__(self, app: App) -> None:
        super().__init__(app, self._connect, HEADER_LIMIT_BYTES)
        self._connections = Connections()

    def _connect(self, config: Config, state: ServerState) -> PeerProtocol:
        protocol = PeerProtocol(config=config, server_state=state, app_state={})
        protocol.quota = self._connections
        protocol.bounds = Bounds(REQUEST_DEADLINE_S, READER_DEADLINE_S)
        return protocol
