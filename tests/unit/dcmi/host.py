# SPDX-License-Identifier: MulanPSL-2.0
"""A host with the double of libdcmi: its driver side, and programs that have loaded the library."""

import json
import os
import select
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

from tests.fakes.dcmi.control import DcmiDouble

CLIENT = Path(__file__).parent / "client.py"
ANSWER_S = 20.0


class Client:
    """A process of its own: what the library keeps (a subscription, a hang) ends with it."""

    def __init__(self, library: Path, state: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-E", str(CLIENT), str(library)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"DCMI_DOUBLE": str(state), "PATH": os.environ["PATH"]},
        )
        self.pid = self._process.pid
        self._events: deque[dict[str, Any]] = deque()
        self._answers: deque[dict[str, Any]] = deque()
        self._rest = b""

    def call(self, name: str, *words: int | str) -> Any:
        """The result; with something to fill in, a tuple of the result and that."""
        self.send(name, *words)
        return self.answer()

    def send(self, name: str, *words: int | str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([name, *words]).encode() + b"\n")
        self._process.stdin.flush()

    def answer(self, within_s: float = ANSWER_S) -> Any:
        answer = self._next(self._answers, within_s)
        out = answer.get("out")
        return (answer["result"], *out) if out else answer["result"]

    def event(self, within_s: float = ANSWER_S) -> dict[str, Any]:
        return self._next(self._events, within_s)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _next(self, queue: deque[dict[str, Any]], within_s: float) -> dict[str, Any]:
        deadline = time.monotonic() + within_s
        while not queue:
            self._read(deadline - time.monotonic())
        return queue.popleft()

    def _read(self, within_s: float) -> None:
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        if within_s <= 0 or not select.select([fd], [], [], within_s)[0]:
            raise TimeoutError
        data = os.read(fd, 65536)
        assert data, "the client has ended"
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "event" in message:
                self._events.append(message["event"])
            else:
                self._answers.append(message)


class Host:
    """The file that the library follows, and who follows it."""

    def __init__(self, folder: Path, library: Path) -> None:
        self.double = DcmiDouble(folder / "state")
        self.library = library
        self._clients: list[Client] = []

    def client(self, library: Path | None = None) -> Client:
        """A program that has called dcmi_init with success."""
        client = self.load(library)
        assert client.call("init") == 0
        return client

    def load(self, library: Path | None = None) -> Client:
        client = Client(library or self.library, self.double.path)
        self._clients.append(client)
        return client

    def close(self) -> None:
        for client in self._clients:
            client.close()
