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

from agent.status.api.bounded import (
    App,
    BoundedProtocol,
    Bounds,
    HttpServer,
    Message,
    Receive,
    Send,
)

# struct ucred (unix(7)): pid, uid, gid.
_UCRED = struct.Struct("3i")

HEADER_LIMIT_BYTES = 16 * 1024
REQUEST_DEADLINE_S = 10.0
READER_DEADLINE_S = 30.0
# Connections at a time. Each costs a descriptor, of which the agent has 1024, and some 10 KiB.
CONNECTIONS = 512
CONNECTIONS_OF_ROOT = 256
CONNECTIONS_OF_A_USER = 64


# Requests of a user other than root: whoever asks faster waits, and not those after him.
REQUESTS_PER_S = 100.0
REQUESTS_AT_ONCE = 20
# Who is as far ahead as that has his new connections closed, also when he sends nonsense on each.
PATIENCE_S = 1.0
USERS_KNOWN = 100


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


class Pace:
    """How soon each user may ask again. `now` is monotonic."""

    def __init__(self) -> None:
        self._due_at: dict[int, float] = {}  # when all that was asked so far is paid for

    def ask(self, uid: int, now: float) -> float:
        """Counts a request; how long it has to wait."""
        if uid == 0:
            return 0.0
        self._forget(now)
        due_at = max(self._due_at.get(uid, now), now) + 1 / REQUESTS_PER_S
        self._due_at[uid] = due_at
        return max(0.0, due_at - now - REQUESTS_AT_ONCE / REQUESTS_PER_S)

    def is_far_ahead(self, uid: int, now: float) -> bool:
        ahead_s = self._due_at.get(uid, now) - now - REQUESTS_AT_ONCE / REQUESTS_PER_S
        return ahead_s > PATIENCE_S

    def _forget(self, now: float) -> None:
        if len(self._due_at) > USERS_KNOWN:
            self._due_at = {uid: at for uid, at in self._due_at.items() if at > now}


class PeerProtocol(BoundedProtocol):
    """With `state.peer` in every request, and limits to the connections and the pace of a user."""

    quota: Connections
    pace: Pace
    _uid: int = -1  # whose connection it counts as

    def admit(self, transport: asyncio.Transport) -> bool:
        peer = read_peer(transport.get_extra_info("socket"))
        self._uid = peer.uid
        # handle_events() copies app_state into every scope; ours is per connection.
        self.app_state = {**self.app_state, "peer": peer}
        if self.pace.is_far_ahead(peer.uid, self.loop.time()):
            return False
        return self.quota.take(peer.uid)

    def send_400_response(self, msg: str) -> None:
        self.pace.ask(self._uid, self.loop.time())
        super().send_400_response(msg)

    def gone(self) -> None:
        self.quota.give_back(self._uid)


def read_peer(connection: socket.socket) -> Peer:
    """Credentials of the peer, from the kernel."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    return Peer(*_UCRED.unpack(raw))


class SocketServer(HttpServer):
    """Answers on the agent's unix socket."""

    def __init__(self, app: App) -> None:
        self._connections, self._pace = Connections(), Pace()
        super().__init__(self._paced(app), self._connect, HEADER_LIMIT_BYTES)

    def _paced(self, app: App) -> App:
        async def paced(scope: Message, receive: Receive, send: Send) -> None:
            uid = scope["state"]["peer"].uid
            wait_s = self._pace.ask(uid, asyncio.get_running_loop().time())
            if wait_s:
                await asyncio.sleep(wait_s)
            await app(scope, receive, send)

        return paced

    def _connect(self, config: Config, state: ServerState) -> PeerProtocol:
        protocol = PeerProtocol(config=config, server_state=state, app_state={})
        protocol.quota, protocol.pace = self._connections, self._pace
        protocol.bounds = Bounds(REQUEST_DEADLINE_S, READER_DEADLINE_S)
        return protocol
