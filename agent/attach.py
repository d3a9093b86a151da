# SPDX-License-Identifier: MulanPSL-2.0
"""attach: the main process of deepseek@<instance>.service; it holds the wish to serve.

In: lines of the agent's attach stream. Out: READY=1 when the model answers, STATUS= meanwhile; exit
status 69 when the agent holds, 78 when only a person can mend it, 0 on SIGTERM. Standard library
only and no asyncio: one of these lives beside every model for a year.

The agent may come and go (upgrade, crash): attach reconnects, at most 5 s apart, and what was READY
stays READY. The engine is not this process's child, so nothing here can disturb it.
"""

import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from types import FrameType

from agent import exits
from agent.notify import notify

SOCKET = "/run/deepseek-agent/agent.sock"
CONNECT_DEADLINE_S = 5.0
# The agent sends a line at least every 5 s.
SILENCE_S = 20.0
RECONNECT_MAX_S = 5.0
# Until the agent has told its own.
START_WAIT_S = 1800.0
# The head of an answer and one line of the stream are far below this.
LINE_LIMIT_BYTES = 256 * 1024
STDERR = 2


class Refused(Exception):
    """The agent answered that only a person can mend it."""


class Lost(Exception):
    """The agent is not there, or has gone; it will be back."""


class Told:
    """What systemd has been told so far. (No dataclass: they cost 2 MiB in each attach.)"""

    def __init__(self) -> None:
        self.ready = False
        self.status = ""
        self.phase = ""
        self.late = False  # READY was said although it does not serve: see start_wait
        self.start_wait_s = START_WAIT_S
        self.progress = 0
        self.progress_at = time.monotonic()


def main(argv: list[str] | None = None) -> int:
    """Runs until it is stopped or the agent says to leave."""
    arguments = sys.argv[1:] if argv is None else argv
    if len(arguments) != 1:
        _write("usage: attach INSTANCE", 3)
        return exits.PERSON
    signal.signal(signal.SIGTERM, _leave)
    told = Told()
    pause_s = 0.1
    while True:
        try:
            for line in stream(arguments[0], resumed=bool(told.phase)):
                pause_s = 0.1
                leave = take(line, told)
                if leave is not None:
                    return leave
        except Refused as refusal:
            _say(told, str(refusal), priority=3)
            if not told.ready:
                return exits.PERSON
            # To leave would stop the engine, which may serve: a new agent that cannot read its
            # configuration is no reason. It is asked again.
        except Lost as loss:
            text = f"the agent does not answer, trying again: {loss}"
            _wait_or_give_way(told, text, priority=4)
        time.sleep(pause_s * (1 - os.urandom(1)[0] / 512))  # jitter: half of it to all of it
        pause_s = min(pause_s * 2, RECONNECT_MAX_S)


def _leave(number: int, frame: FrameType | None) -> None:
    """SIGTERM: `systemctl stop`. systemd stops the engine, and waits for it in ExecStopPost=."""
    notify("STOPPING=1", "STATUS=stopping")
    sys.exit(0)


def take(line: "Line", told: Told) -> int | None:
    """Passes one line on to systemd; returns the exit status when it is time to leave."""
    if line.leave is not None:
        _say(told, line.status, priority=3)
        return line.leave
    if line.phase != told.phase:
        told.phase = line.phase
        _write(line.status, 6)
    if line.progress > told.progress:
        told.progress, told.progress_at = line.progress, time.monotonic()
    told.start_wait_s = line.start_wait_s
    if line.ready:
        told.late = False
        _ready(told, line.status)
    else:
        _wait_or_give_way(told, line.status)
    return None


def _wait_or_give_way(told: Told, status: str, priority: int = 6) -> None:
    """A start job must not stay pending for ever: then it ends, and the agent goes on trying."""
    if not told.ready and time.monotonic() - told.progress_at > told.start_wait_s:
        told.late = True
    if told.late:
        _ready(told, f"not serving yet, retrying: {status}", priority)
    else:
        _say(told, status, priority)


def _ready(told: Told, status: str, priority: int = 6) -> None:
    if not told.ready:
        told.ready = notify("READY=1")  # the next line tries again when it could not be sent
    _say(told, status, priority)


def _say(told: Told, status: str, priority: int = 6) -> None:
    """STATUS= always, the journal only for what is news: durations tick in the status."""
    if status == told.status:
        return
    if notify(f"STATUS={status}"):
        told.status = status
    if priority < 6:
        _write(status, priority)


def _write(text: str, priority: int) -> None:
    """To the journal, by standard error. What it does not take is lost: a journald that was stopped
    has left its streams for good, and one that hangs would hold up READY=1 and a stop. Not by
    sys.stderr, which keeps it, tries again at the end, and makes another exit status of that."""
    with suppress(OSError):
        if select.select([], [STDERR], [], 0)[1]:
            os.write(STDERR, f"<{priority}>{text}\n".encode(errors="replace"))


class Line:
    """One line of the stream, checked. Raises ValueError, KeyError or TypeError for another."""

    def __init__(self, text: bytes) -> None:
        line = json.loads(text)
        self.status = str(line["status"])
        self.phase = str(line.get("phase"))
        self.ready = line["ready"] is True
        self.progress = int(line["progress"])
        self.start_wait_s = float(line["start_wait_s"])
        leave = line.get("exit")
        self.leave = None if leave is None else int(leave)


def stream(instance: str, path: str = SOCKET, resumed: bool = False) -> Iterator[Line]:
    """The lines of the attach stream, until the agent ends it. Raises Lost or Refused. `resumed`:
    an agent has been heard before, so nothing begins with this."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(CONNECT_DEADLINE_S)
            connection.connect(path)
            # HTTP/1.0, so that the body comes plain, without chunks, until the end.
            target = f"/v1/instances/{instance}/attach?resumed={resumed:d}"
            connection.sendall(f"GET {target} HTTP/1.0\r\nHost: agent\r\n\r\n".encode())
            connection.settimeout(SILENCE_S)
            with connection.makefile("rb") as answer:
                yield from _read(answer)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        # The last four: an agent of another version, whose words are not understood.
        raise Lost(str(error) or type(error).__name__) from error
    raise Lost("it has closed the connection")


def _read(answer: "socket.SocketIO | object") -> Iterator[Line]:
    lines = _lines(answer)
    status = next(lines, b"").split()
    for header in lines:
        if not header.strip():
            break
    if len(status) < 2 or status[1] != b"200":
        raise _refusal(int(status[1]) if len(status) > 1 else 0, next(lines, b"{}"))
    for line in lines:
        if not line.endswith(b"\n"):
            return  # cut off in the middle: the agent went away
        yield Line(line)


def _lines(answer: object) -> Iterator[bytes]:
    while line := answer.readline(LINE_LIMIT_BYTES):  # type: ignore[attr-defined]
        yield line


def _refusal(status: int, body: bytes) -> Exception:
    """4xx is an answer (unknown instance, bad configuration); all else is trouble that passes."""
    error = json.loads(body).get("error", {})
    text = f"{error.get('message', f'HTTP status {status}')} ({error.get('hint', '')})"
    return Refused(text) if 400 <= status < 500 else Lost(text)


if __name__ == "__main__":
    sys.exit(main())
