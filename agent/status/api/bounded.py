# SPDX-License-Identifier: MulanPSL-2.0
"""uvicorn's HTTP/1.1 with bounds: a limit to connections, deadlines for asking and reading.

The server around it (uvicorn.Server) is not used: it wakes up ten times a second.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Event = h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]
App = Callable[[Message, Receive, Send], Awaitable[None]]

KEEP_ALIVE_S = 5
CLOSE_DEADLINE_S = 1.0
# From the turn of the loop in which a connection is accepted to the one in which it is made.
TURNS_TO_CONNECT = 3
# asyncio takes so many before it looks at anything else, and closes those who may not stay some
# turns later: descriptors have to last for a few times as many.
ACCEPTED_AT_ONCE = 32
# Of what has been sent ahead of its answers as much is kept for each connection; asyncio reads four
# times that. Who sends more than that at once may not get to see why it is refused.
READ_BYTES = 64 * 1024
# Beyond it whoever writes an answer waits for its reader; asyncio would take twice that.
WRITE_AHEAD_BYTES = 32 * 1024


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of one connection."""

    request_s: float  # from connecting, or from the last answer, to a whole request
    # Who has not taken what is beyond WRITE_AHEAD_BYTES of an answer by then is cut off.
    reader_s: float


class _Connection(h11.Connection):
    """Takes no body in chunks: h11 needs 40 us for each, which may be of one byte, and uvicorn does
    nothing else before it has seen all that was read, which took 2 s."""

    def next_event(self) -> Event:
        event = super().next_event()
        headers = event.headers if isinstance(event, h11.Request) else ()
        if any(name == b"transfer-encoding" for name, _ in headers):
            raise h11.RemoteProtocolError("a body has to come with its length")
        return event


class BoundedProtocol(H11Protocol):
    """`admit` says whether there may be this connection; `gone` is told of the end of one that
    might."""

    bounds: Bounds
    _admitted: bool = False
    _request_timer: asyncio.TimerHandle | None = None
    _reader_timer: asyncio.TimerHandle | None = None

    def admit(self, transport: asyncio.Transport) -> bool:
        raise NotImplementedError

    def gone(self) -> None:
        raise NotImplementedError

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=WRITE_AHEAD_BYTES)
        transport.max_size = READ_BYTES  # type: ignore[attr-defined]
        self.conn = _Connection(h11.SERVER, self.config.h11_max_incomplete_event_size or 0)
        self._admitted = self.admit(transport)
        if self._admitted:
            self._expect_request()
        else:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._expect_request()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._expect_request()

    def send_400_response(self, msg: str) -> None:
        """uvicorn sends it whatever has been sent before, and h11 raises then: a traceback in the
        journal for everyone who likes to."""
        if self.cycle is not None:
            self.cycle.disconnected = True  # who works at an answer need not send it any more
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._reader_timer is None:
            self._reader_timer = self.loop.call_later(self.bounds.reader_s, self.transport.abort)

    def resume_writing(self) -> None:
        self._forget_reader()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_request()
        self._forget_reader()
        if self._admitted:
            self.gone()
        super().connection_lost(exc)

    def _expect_request(self) -> None:
        """Anybody may connect: who does not ask in time is not kept. (uvicorn waits for a first
        request, or for the rest of one, for ever.)"""
        cycle = self.cycle
        is_asked = cycle is not None and not cycle.response_complete and not cycle.more_body
        if is_asked:
            self._forget_request()
        elif self._request_timer is None:
            # Not close(): that waits for a reader of what was answered before.
            self._request_timer = self.loop.call_later(self.bounds.request_s, self.transport.abort)

    def _forget_request(self) -> None:
        if self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None

    def _forget_reader(self) -> None:
        if self._reader_timer is not None:
            self._reader_timer.cancel()
            self._reader_timer = None


class HttpServer:
    """Answers on one listening socket until it is closed. `build` makes the end of a connection."""

    def __init__(
        self,
        app: App,
        build: Callable[[Config, ServerState], BoundedProtocol],
        header_limit_bytes: int,
    ) -> None:
        self._config = Config(
            app,
            interface="asgi3",
            http=BoundedProtocol,
            lifespan="off",
            ws="none",
            loop="none",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            h11_max_incomplete_event_size=header_limit_bytes,
        )
        self._config.load()
        self._build = build
        self._state = ServerState()
        self._server: asyncio.Server | None = None

    async def start(self, listener: socket.socket) -> None:
        self._server = await asyncio.get_running_loop().create_server(
            lambda: self._build(self._config, self._state),
            sock=listener,
            backlog=ACCEPTED_AT_ONCE,
        )
        # asyncio has set it to that number, and who finds the queue full is refused at once.
        listener.listen(socket.SOMAXCONN)

    async def close(self) -> None:
        """Lets requests that are being answered come to their end, for a moment."""
        await self._stop_accepting()
        for connection in list(self._state.connections):
            connection.shutdown()  # one that is idle; the others end with their answer
        if self._state.tasks:
            await asyncio.wait(self._state.tasks, timeout=CLOSE_DEADLINE_S)

    async def _stop_accepting(self) -> None:
        """What is accepted already is made first: asyncio 3.11 would lose it half made, with its
        descriptor (Server._attach() fails in a closed one, python/cpython 109564)."""
        if self._server is None:
            return
        for listener in self._server.sockets:
            asyncio.get_running_loop().remove_reader(listener)
        for _ in range(TURNS_TO_CONNECT):
            await asyncio.sleep(0)
        # wait_closed() would also wait for idle connections (Python >= 3.12).
        self._server.close()
