# SPDX-License-Identifier: MulanPSL-2.0
"""Log lines for the journal: structlog, key=value. To journald itself, with the instance as a field
by which `deepseekctl logs` finds it; elsewhere to stderr, with the priority as systemd's "<N>"."""

import logging
import os
import socket
import stat
import sys
from contextlib import suppress
from pathlib import Path

import structlog
from structlog.typing import EventDict, WrappedLogger

from agent.model import INSTANCE_FIELD

# sd-daemon(3).
_PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
SOCKET = "/run/systemd/journal/socket"


class Writer:
    """What structlog ends in. Never waits for journald: what it does not take (it is restarted, or
    busy) goes to stderr, which it reads, too; lost is only what it does not take there either (it
    hangs)."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._name = Path(sys.argv[0]).name
        if path is not None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)

    def msg(self, text: str, priority: int, instance: str) -> None:
        if self._path is not None:
            fields = {
                "MESSAGE": text,
                "PRIORITY": str(priority),
                "SYSLOG_IDENTIFIER": self._name,
                **({INSTANCE_FIELD: instance} if instance else {}),
            }
            try:
                self._socket.sendto(_datagram(fields), self._path)
                return
            except OSError:
                pass
        _write_stderr("".join(f"<{priority}>{line}\n" for line in text.splitlines()))

    debug = info = warning = error = msg

    def close(self) -> None:
        if self._path is not None:
            self._socket.close()


def _write_stderr(lines: str) -> None:
    """To a socket (journald's) without waiting; not by O_NONBLOCK, which children would share."""
    sys.stderr.flush()
    handle = sys.stderr.fileno()
    if not stat.S_ISSOCK(os.fstat(handle).st_mode):
        sys.stderr.write(lines)
        sys.stderr.flush()
        return
    with socket.socket(fileno=os.dup(handle)) as stream, suppress(OSError):
        stream.send(lines.encode(errors="replace"), socket.MSG_DONTWAIT)


def set_up(debug: bool = False) -> None:
    """Once, at the start of a process that logs to the journal."""
    # Libraries that use the standard library's logging (uvicorn, asyncio): what matters of it.
    logging.basicConfig(stream=sys.stderr, format="<4>%(name)s: %(message)s", level="WARNING")
    # Its warnings are all about what visitors send, which is theirs to say as often as they like.
    logging.getLogger("uvicorn.error").setLevel("ERROR")
    writer = Writer(SOCKET if is_journal(sys.stderr.fileno()) else None)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            _drop_empty,
            _compose,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(10 if debug else 20),
        logger_factory=lambda *_: writer,
    )


def is_journal(stream: int) -> bool:
    """Whether systemd has connected it with the journal (systemd.exec(5), $JOURNAL_STREAM)."""
    status = os.fstat(stream)
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _datagram(fields: dict[str, str]) -> bytes:
    """systemd.io/JOURNAL_NATIVE_PROTOCOL: what has several lines is told with its length."""
    parts = []
    for name, text in fields.items():
        value = text.encode(errors="replace")
        length = b"\n" + len(value).to_bytes(8, "little") if b"\n" in value else b"="
        parts.append(name.encode() + length + value + b"\n")
    return b"".join(parts)


def _drop_empty(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    return {key: value for key, value in event.items() if value not in ("", None)}


def _compose(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """`event key=value ...`; a traceback follows in lines of its own."""
    priority = _PRIORITY.get(str(event.pop("level", "info")), 6)
    trace = str(event.pop("exception", ""))
    name = str(event.pop("event", ""))
    pairs = " ".join(f"{key}={_quote(str(value))}" for key, value in event.items())
    text = "\n".join([f"{name} {pairs}".strip(), *trace.splitlines()])
    return {"text": text, "priority": priority, "instance": str(event.get("instance", ""))}


def _quote(value: str) -> str:
    flat = value.replace("\n", " ")
    return f'"{flat}"' if " " in flat or not flat else flat
