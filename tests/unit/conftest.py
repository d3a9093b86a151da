# SPDX-License-Identifier: MulanPSL-2.0
"""For unit tests: nothing that a test starts may outlive it; a fake agent on a unix socket."""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

# A thread or child that is told to end needs a moment to be gone.
SETTLE_S = 10.0
# For anything that a test waits for.
DEADLINE_S = 20.0


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """No thread and no child process is left that was not there before."""
    threads, children = set(threading.enumerate()), read_children()
    yield
    deadline = time.monotonic() + SETTLE_S
    while True:
        left = set(threading.enumerate()) - threads
        orphans = read_children() - children
        if not left and not orphans:
            return
        if time.monotonic() > deadline:
            pytest.fail(f"left behind: threads {left}, children {orphans}")
        time.sleep(0.01)


def read_children() -> set[str]:
    """Process ids of this process's children, those of all its threads."""
    found: set[str] = set()
    for task in Path(f"/proc/{os.getpid()}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # the thread ended meanwhile
            found |= set((task / "children").read_text(encoding="ascii").split())
    return found


class Connection:
    """One client of the fake agent: its request, and what it is answered."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._socket.settimeout(DEADLINE_S)
        self._head, _, self._rest = self._read_head().partition("\r\n\r\n")
        self.request = self._head.partition("\r\n")[0]

    def body(self) -> bytes:
        """What came with the request."""
        length = int(self._head.lower().partition("content-length: ")[2].split()[0])
        body = self._rest.encode()
        while len(body) < length and (more := self._socket.recv(65536)):
            body += more
        return body

    def _read_head(self) -> str:
        head = b""
        while b"\r\n\r\n" not in head:
            more = self._socket.recv(65536)
            if not more:
                break
            head += more
        return head.decode()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def head(self, status: int = 200) -> None:
        self.send(f"HTTP/1.1 {status} Whatever\r\nserver: fake\r\n\r\n".encode())

    def line(self, value: object) -> None:
        self.send(json.dumps(value, ensure_ascii=False).encode() + b"\n")

    def answer(self, status: int, body: bytes) -> None:
        """A whole answer, with its length. Nothing may follow on this connection, and HTTP/1.1 has
        that said: a client that was quick sent its next request into the one that was closing."""
        head = f"HTTP/1.1 {status} Whatever\r\ncontent-length: {len(body)}\r\nconnection: close"
        self.send(f"{head}\r\n\r\n".encode() + body)
        self.close()

    def close(self) -> None:
        self._socket.close()


class FakeAgent:
    """The agent's end of the socket, moved by the test itself: no thread, nothing by surprise."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listener: socket.socket | None = None
        self._connections: list[Connection] = []

    def listen(self) -> None:
        self.path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.path))
        self._listener.listen()

    def accept(self, deadline_s: float = DEADLINE_S) -> Connection:
        assert self._listener is not None
        self._listener.settimeout(deadline_s)
        connection = Connection(self._listener.accept()[0])
        self._connections.append(connection)
        return connection

    def close(self) -> None:
        """Dead: nobody listens, and whoever was connected is cut off."""
        for connection in self._connections:
            connection.close()
        if self._listener is not None:
            self._listener.close()
            self._listener = None


@pytest.fixture
def agent_socket(tmp_path: Path) -> Iterator[FakeAgent]:
    """Listens already."""
    agent = FakeAgent(tmp_path / "agent.sock")
    agent.listen()
    yield agent
    agent.close()
