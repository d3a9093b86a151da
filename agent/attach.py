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
import signal
import socket
import sys
import time
from collections.abc import Iterator
from types import FrameType

from agent import exits
from agent.notify import notify

SOCKET = "/run/deepseek-agent/agent.sock"
CONNECT_DEADLINE_S = 5.0
# The agent sends a line at least every 5 s.
SILENCE_S = 20.0
RECONNECT_MAX_S = 5.0
# The head of an answer and one line of the stream are far below this.
LINE_LIMIT_BYTES = 256 * 1024


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
        self.progress = 0
        self.progress_at = time.monotonic()


def main(argv: list[str] | None = None) -> int:
    """Runs until it is stopped or the agent says to leave."""
    arguments = sys.argv[1:] if argv is None else argv
    if len(arguments) != 1:
        print("<3>usage: attach INSTANCE", file=sys.stderr)  # noqa: T201
        return exits.PERSON
    signal.signal(signal.SIGTERM, _leave)
    told = Told()
    pause_s = 0.1
    while True:
        try:
            for line in stream(arguments[0]):
                pause_s = 0.1
                leave = take(line, told)
                if leave is not None:
                    return leave
        except Refused as refusal:
            _say(told, str(refusal), priority=3)
            return exits.PERSON
        except Lost as loss:
            _say(told, f"the agent does not answer, trying again: {loss}", priority=4)
        time.sleep(pause_s * (1 - os.urandom(1)[0] / 512))  # jitter: half of it to all of it
        pause_s = min(pause_s * 2, RECONNECT_MAX_S)


def _leave(number: int, frame: FrameType | None) -> None:
    """SIGTERM: `systemctl stop`. systemd stops the engine, and waits for it in ExecStopPost=."""
    notify("STOPPING=1", "STATUS=stopping")
    sys.exit(0)


def take(line: dict[str, object], told: Told) -> int | None:
    """Passes one line on to systemd; returns the exit status when it is time to leave."""
    status, phase = str(line["status"]), str(line.get("phase"))
    progress = int(str(line["progress"]))
    leave = line.get("exit")
    if isinstance(leave, int):
        _say(told, status, priority=3)
        return leave
    now = time.monotonic()
    if phase != told.phase:
        told.phase = phase
        print(f"<6>{status}", file=sys.stderr, flush=True)  # noqa: T201
    if progress > told.progress:
        told.progress, told.progress_at = progress, now
    if line["ready"] is True:
        _ready(told, status)
    elif not told.ready and now - told.progress_at > float(str(line["start_wait_s"])):
        # A start job must not stay pending for ever; the agent goes on trying.
        _ready(told, f"not serving yet, retrying: {status}")
    else:
        _say(told, status)
    return None


def _ready(told: Told, status: str) -> None:
    if not told.ready:
        told.ready = notify("READY=1")  # the next line tries again when it could not be sent
    _say(told, status)


def _say(told: Told, status: str, priority: int = 6) -> None:
    """STATUS= always, the journal only for what is news: durations tick in the status."""
    if status == told.status:
        return
    told.status = status
    notify(f"STATUS={status}")
    if priority < 6:
        print(f"<{priority}>{status}", file=sys.stderr, flush=True)  # noqa: T201


def stream(instance: str, path: str = SOCKET) -> Iterator[dict[str, object]]:
    """The lines of the attach stream, until the agent ends it. Raises Lost or Refused."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(CONNECT_DEADLINE_S)
            connection.connect(path)
            # HTTP/1.0, so that the body comes plain, without chunks, until the end.
            request = f"GET /v1/instances/{instance}/attach HTTP/1.0\r\nHost: agent\r\n\r\n"
            connection.sendall(request.encode())
            connection.settimeout(SILENCE_S)
            with connection.makefile("rb") as answer:
                yield from _read(answer)
    except (OSError, ValueError, KeyError) as error:
        raise Lost(str(error) or type(error).__name__) from error
    raise Lost("it has closed the connection")


def _read(answer: "socket.SocketIO | object") -> Iterator[dict[str, object]]:
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
        yield json.loads(line)


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
