# SPDX-License-Identifier: MulanPSL-2.0
"""JSON lines between the API server and EngineCore: in and out one end of a socket pair."""

import json
import select
import socket
import threading
from typing import Any

Message = dict[str, Any]


class Channel:
    """One end. `send` may be called by any thread, `receive` by one."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._lock = threading.Lock()
        self._rest = b""

    def send(self, message: Message) -> None:
        """Raises OSError when the other end is gone."""
        line = json.dumps(message).encode() + b"\n"
        with self._lock:
            self._end.sendall(line)

    def receive(self, timeout: float | None) -> list[Message]:
        """The messages that have arrived, none after `timeout` seconds. Raises EOFError."""
        ready, _, _ = select.select([self._end], [], [], timeout)
        if not ready:
            return []
        try:
            data = self._end.recv(65536)
        except ConnectionError:
            data = b""
        if not data:
            raise EOFError
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        self._end.close()


def open_channels() -> tuple[Channel, Channel]:
    ours, theirs = socket.socketpair()
    return Channel(ours), Channel(theirs)
