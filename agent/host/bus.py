# SPDX-License-Identifier: MulanPSL-2.0
"""One connection to a D-Bus bus; the only importer of dbus_next.

In: method calls as plain values. Out: the reply's plain values (no Variants), `CallRefused` for an
error reply, `HostUnavailable` when nobody answers. Low-level messages only: high-level proxies
introspect whole objects.

What dbus-next 0.2.3 does not do for us (facts: podman-systemd, 4), and is done here: a call after
the connection is lost hangs for ever; a peer that hangs up during the greeting makes it spin, with
the loop blocked; connecting blocks; the descriptor stays open after the end.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from dbus_next import AuthError, BusType, Message, MessageType, Variant
from dbus_next.aio import MessageBus

from agent.errors import Code, HostUnavailable

BUS = "org.freedesktop.DBus"
BUS_PATH = "/org/freedesktop/DBus"

# The bus daemon answers in milliseconds, PID 1 too; in a daemon-reload on a busy host in seconds.
CALL_DEADLINE_S = 15.0
CONNECT_DEADLINE_S = 5.0
# What goes wrong below us, at any time: the peer is gone, or does not speak D-Bus.
BROKEN = (OSError, EOFError, TimeoutError, ValueError, AuthError)

GREETING_LINE_LIMIT_BYTES = 16 * 1024  # DBUS_MAXIMUM_AUTH_LINE of the reference implementation


class CallRefused(Exception):
    """The peer answered with an error of this name."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name


@dataclass(frozen=True, slots=True)
class Signal:
    """What a peer tells without being asked; anybody may. `sender` is the bus's own word: a unique
    name, or BUS."""

    sender: str
    member: str
    path: str
    body: tuple[object, ...]


class _Connection(MessageBus):  # type: ignore[misc] # dbus-next has no types
    """dbus-next's, mended in three places, each covered by tests against a real socket. Each call
    of it brings `inspect` (1 MiB); that is well: asyncio wants it to tell of an error, and when it
    has no descriptors left it is too late to load anything."""

    def _setup_socket(self) -> None:
        """Without blocking: with a bus that is stopped and a full queue, connect(2) would wait."""
        places = [options for transport, options in self._bus_address if transport == "unix"]
        if not places:
            raise ValueError(f"no unix socket in the bus address {self._bus_address}")
        path = places[0].get("path") or "\0" + places[0].get("abstract", "")
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._stream = self._sock.makefile("rwb")
        self._fd = self._sock.fileno()
        try:
            self._sock.connect(path)
        except OSError:
            self.shut()
            raise

    async def _auth_readline(self) -> str:
        line = b""
        while not line.endswith(b"\r\n"):
            piece = await self._loop.sock_recv(self._sock, 2)
            if not piece or len(line) > GREETING_LINE_LIMIT_BYTES:
                raise ConnectionError("the bus hung up during the greeting")
            line += piece
        return line[:-2].decode()

    def forget(self, message: Message) -> None:
        """Nobody waits for its answer any more. Without that a systemd that is frozen while its bus
        goes on would have each call kept for ever."""
        self._method_return_handlers.pop(message.serial, None)

    def shut(self) -> None:
        """Gives the descriptor back; the makefile holds it too."""
        with suppress(OSError):
            self._stream.close()
        self._sock.close()


class Bus:
    """A connection, made anew by each `connect`."""

    def __init__(self, address: str | None = None) -> None:
        """`address` is for tests; by default the system bus."""
        self._address = address
        self._connection: _Connection | None = None

    async def connect(self, on_signal: Callable[[Signal], None]) -> None:
        """`on_signal` is called with every signal that a rule of `match` asks for, and with
        whatever others address to us, for which no rule is asked."""
        self.close()
        try:
            self._connection = _Connection(bus_address=self._address, bus_type=BusType.SYSTEM)
            async with asyncio.timeout(CONNECT_DEADLINE_S):
                await self._connection.connect()
        except BROKEN as error:
            self.close()
            raise _unavailable("connect to the system bus", error) from error

        def take(message: Message) -> None:
            if message.message_type is MessageType.SIGNAL:
                body = tuple(plain(value) for value in message.body)
                sender, member = str(message.sender), str(message.member)
                on_signal(Signal(sender, member, str(message.path), body))

        # As add_message_handler() does, which asks for a signature: 0.8 MiB that would stay.
        self._connection._user_message_handlers.append(take)

    @property
    def connected(self) -> bool:
        return self._connection is not None and self._connection.connected

    async def wait_lost(self) -> None:
        """Returns when the connection is gone; it is closed then."""
        if self._connection is not None:
            # Not wait_for_disconnect(), which would raise whatever ended the reader, and whose
            # cancellation would end the future for everybody.
            await asyncio.wait({self._connection._disconnect_future})
        self.close()

    def close(self) -> None:
        """Ends the connection; pending calls end with HostUnavailable."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        connection._finalize(ConnectionError("closed"))
        connection._disconnect_future.exception()  # taken, so that asyncio does not complain
        connection.shut()

    async def match(self, rule: str) -> None:
        """Asks for the signals that fit."""
        await self.call(BUS, BUS_PATH, BUS, "AddMatch", "s", [rule])

    async def ping(self, deadline_s: float) -> None:
        """Raises HostUnavailable when the bus itself does not answer; a refusal is an answer."""
        with suppress(CallRefused):
            await self.call(BUS, BUS_PATH, BUS, "GetId", deadline_s=deadline_s)

    async def call(
        self,
        destination: str,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        body: Sequence[object] = (),
        deadline_s: float = CALL_DEADLINE_S,
    ) -> list[object]:
        """The reply's values."""
        what = f"call {member}"
        connection = self._connection
        if connection is None or not connection.connected:
            raise _unavailable(what, ConnectionError("not connected to the system bus"))
        message = Message(
            destination=destination,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=list(body),
        )
        try:
            async with asyncio.timeout(deadline_s):
                reply = await connection.call(message)
        except TimeoutError as error:
            reason = TimeoutError(f"no answer over the system bus within {deadline_s:g} s")
            raise _unavailable(what, reason) from error
        except BROKEN as error:
            raise _unavailable(what, error) from error
        finally:
            connection.forget(message)
        if reply is None:
            raise _unavailable(what, ConnectionError("no reply"))
        if reply.message_type is MessageType.ERROR:
            text = str(reply.body[0]) if reply.body else str(reply.error_name)
            raise CallRefused(str(reply.error_name), text)
        return [plain(value) for value in reply.body]


def plain(value: object) -> object:
    """Without the Variants, at any depth."""
    if isinstance(value, Variant):
        return plain(value.value)
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    return value


def _unavailable(what: str, error: BaseException) -> HostUnavailable:
    cause = str(error) or type(error).__name__
    return HostUnavailable(
        Code.SYSTEMD_UNAVAILABLE, f"cannot {what}: {cause}", "see: systemctl status dbus"
    )
