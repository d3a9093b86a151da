# SPDX-License-Identifier: MulanPSL-2.0
"""The socket on which npud tells what it knows: bytes to publish come in, go out to every client.

Clients listen; the few lines that they may send are in requests.py, and what else they send means
nothing. Nobody can hold up the loop: what a client does not take is kept up to a bound, and then
the client goes. Touches the socket file.
"""

import contextlib
import os
import socket
import stat
import struct
from collections.abc import Callable
from selectors import EVENT_READ, EVENT_WRITE, BaseSelector

from agent.npud.log import Log
from agent.npud.requests import MAX_REQUEST_BYTES, Request, parse_request

MAX_CLIENTS = 16
MAX_BACKLOG_BYTES = 1024 * 1024  # the longest message is a fraction of it
MAX_STALL_S = 20.0  # a client that takes nothing for so long would keep its place for days
MAX_REQUESTS_AT_ONCE = 16
ACCEPT_PAUSE_S = 1.0  # whoever cannot be let in keeps the listener readable

Answer = Callable[[bytes], None]  # to the client that asked, if it is still there
OnRequest = Callable[[Request, Answer], None]

_UCRED = struct.Struct("3i")  # pid, uid, gid: unix(7)


class SocketTaken(Exception):
    """The place is taken by somebody alive, or by something that is not ours to remove."""


def listen(path: str) -> socket.socket:
    """A listening socket at `path`, root only. Raises SocketTaken, or OSError.

    It gets its name when it already listens with the right mode, so that no client can ever find
    one that is half set up; rename(2) replaces a stale file at the same moment.
    """
    _check_free(path)
    new = f"{path}.{os.getpid()}"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    before = os.umask(0o177)
    try:
        listener.bind(new)
        listener.listen(MAX_CLIENTS)
        os.rename(new, path)
    except OSError:
        listener.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)
        raise
    finally:
        os.umask(before)
    return listener


def _check_free(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise SocketTaken(f"{path} is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return  # nobody behind it
        except BlockingIOError:
            pass  # alive, with a full queue
    raise SocketTaken(f"another npud answers at {path}")


class _Client:
    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.backlog = b""
        self.heard = b""  # of a request whose line has not ended
        self.stalled_at = float("inf")  # since when it has taken nothing of its backlog


class Server:
    """All clients, and the message that a new one gets first."""

    def __init__(
        self,
        path: str,
        selector: BaseSelector,
        log: Log,
        greeting: Callable[[], bytes],
        on_request: OnRequest,
        now: Callable[[], float],
    ) -> None:
        self._path = path
        self._selector = selector
        self._log = log
        self._greeting = greeting
        self._on_request = on_request
        self._now = now
        self._clients: set[_Client] = set()
        self._allowed = {0, os.geteuid()}
        self._listener = listen(path)
        self._inode = os.stat(path).st_ino
        self._open_at = float("inf")  # when clients are let in again; inf: they are now
        self._open()

    def publish(self, message: bytes) -> None:
        for client in tuple(self._clients):
            self._send(client, message)

    def next_at(self) -> float:
        return self._open_at

    def tick(self, now: float) -> None:
        if now >= self._open_at:
            self._open()
        for client in tuple(self._clients):
            if now - client.stalled_at > MAX_STALL_S:
                self._drop(client, "it takes nothing")

    def close(self) -> None:
        for client in tuple(self._clients):
            self._drop(client)
        if self._open_at == float("inf"):
            self._selector.unregister(self._listener)
        self._listener.close()
        with contextlib.suppress(OSError):
            if os.stat(self._path).st_ino == self._inode:
                os.unlink(self._path)

    def _open(self) -> None:
        self._open_at = float("inf")
        self._selector.register(self._listener, EVENT_READ, lambda _mask: self._accept())

    def _pause(self) -> None:
        self._open_at = self._now() + ACCEPT_PAUSE_S
        self._selector.unregister(self._listener)

    def _accept(self) -> None:
        try:
            connection, _address = self._listener.accept()
        except OSError as error:  # gone again, or no file descriptors left
            self._log.warning("cannot accept a client", error=error.strerror)
            self._pause()
            return
        connection.setblocking(False)
        refusal = self._refusal(connection)
        if refusal:
            connection.close()
            self._log.warning("client refused", reason=refusal)
            return
        client = _Client(connection)
        self._clients.add(client)
        self._selector.register(connection, EVENT_READ, lambda mask: self._serve(client, mask))
        self._send(client, self._greeting())

    def _refusal(self, connection: socket.socket) -> str:
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        _pid, uid, _gid = _UCRED.unpack(raw)
        if uid not in self._allowed:
            return f"uid {uid} may not listen"
        return "too many clients" if len(self._clients) >= MAX_CLIENTS else ""

    def _serve(self, client: _Client, mask: int) -> None:
        if mask & EVENT_READ and not self._listen_to(client):
            self._drop(client)
        elif mask & EVENT_WRITE:
            self._send(client, b"")

    def _listen_to(self, client: _Client) -> bool:
        """False: it is gone."""
        try:
            data = client.connection.recv(MAX_REQUEST_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            return False
        *lines, client.heard = (client.heard + data).split(b"\n")
        if len(client.heard) > MAX_REQUEST_BYTES:
            client.heard = b""
        # Who is here is root, or npud's own user: see _refusal.
        requests = [parse_request(line) for line in lines[:MAX_REQUESTS_AT_ONCE]]
        for request in requests:
            if request is not None:
                self._on_request(request, lambda message: self._answer(client, message))
        return bool(data)

    def _answer(self, client: _Client, message: bytes) -> None:
        if client in self._clients:
            self._send(client, message)

    def _send(self, client: _Client, message: bytes) -> None:
        if len(client.backlog) + len(message) > MAX_BACKLOG_BYTES:
            self._drop(client, "it is too slow")
            return
        client.backlog += message
        try:
            sent = client.connection.send(client.backlog)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._drop(client)
            return
        client.backlog = client.backlog[sent:]
        self._mark(client, sent)

    def _mark(self, client: _Client, sent: int) -> None:
        """Ask for writability only while there is something to write."""
        if not client.backlog:
            client.stalled_at = float("inf")
        elif sent or client.stalled_at == float("inf"):
            client.stalled_at = self._now()
        wanted = EVENT_READ | (EVENT_WRITE if client.backlog else 0)
        key = self._selector.get_key(client.connection)
        if key.events != wanted:
            self._selector.modify(client.connection, wanted, key.data)

    def _drop(self, client: _Client, reason: str = "") -> None:
        self._clients.discard(client)
        self._selector.unregister(client.connection)
        client.connection.close()
        if reason:
            self._log.warning("client dropped", reason=reason)
