# SPDX-License-Identifier: MulanPSL-2.0
"""A child of our own package that talks in JSON lines: in come a module and an order, out what it
says. It never outlives the conversation, nor does anything that it has started.
"""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import IO

from agent.errors import AgentError, Code

LINE_LIMIT_BYTES = 1024 * 1024
PIECE_BYTES = 64 * 1024
ERRORS_SHOWN = 300
REAP_S = 5.0
GRACE_S = 3.0  # to put away what it has made
POLL_S = 0.02


class Silent(Exception):
    """The child has said nothing for too long, and was ended."""


def converse(
    argv: tuple[str, ...], order: object, patience_s: Callable[[], float]
) -> Generator[Mapping[str, object], None, None]:
    """What the child says, line by line. Close it (contextlib.closing): that ends the child.

    `patience_s`: for how long it may be silent now. Raises Silent, and AgentError for a child that
    cannot be started or does not talk as it should.
    """
    with (
        _in_memory(argv, json.dumps(order).encode()) as asked,
        _in_memory(argv) as errors,
        _running(argv, asked, errors) as child,
    ):
        yield from _lines(child, patience_s)
        if _status(child) != 0:
            errors.seek(0, os.SEEK_END)
            errors.seek(max(0, errors.tell() - ERRORS_SHOWN))
            why = errors.read().decode(errors="replace").strip()
            raise _broken(why or f"exit status {child.returncode}")


def _in_memory(argv: tuple[str, ...], content: bytes = b"") -> IO[bytes]:
    """A file on no disk: who makes room is asked to when all are full. An order is a few KiB, and
    so are the last words of a child of ours."""
    try:
        file = os.fdopen(os.memfd_create("deepseek-supply"), "w+b")
        file.write(content)
        file.seek(0)
    except OSError as error:
        raise _not_run(argv, error) from error
    return file


def _status(child: subprocess.Popen[bytes]) -> int | None:
    """None: it has closed its output, and does not end."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(REAP_S)
    return child.returncode


def module(name: str, *arguments: str) -> tuple[str, ...]:
    """The command for a module of our package; its import path is this process's."""
    return (sys.executable, "-sP", "-m", name, *arguments)


@contextlib.contextmanager
def _running(
    argv: tuple[str, ...], asked: IO[bytes], errors: IO[bytes]
) -> Iterator[subprocess.Popen[bytes]]:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        # podman-py looks for the caller's connections there; the socket is named outright.
        "HOME": "/nonexistent",
    }
    try:
        child = subprocess.Popen(
            argv,
            stdin=asked,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        raise _not_run(argv, error) from error
    try:
        yield child
    finally:
        _end(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Its whole session, unless it has been waited for: the number may be another's then."""
    if child.returncode is None:
        _signal(child, signal.SIGTERM)
        deadline = time.monotonic() + GRACE_S
        while _lives(child.pid) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        _signal(child, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(REAP_S)
    if child.stdout:
        child.stdout.close()


def _signal(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)


def _lives(pid: int) -> bool:
    """Without waiting for it: until then its number is nobody else's."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def _lines(
    child: subprocess.Popen[bytes], patience_s: Callable[[], float]
) -> Iterator[Mapping[str, object]]:
    held = b""
    for piece in _pieces(child, patience_s):
        *lines, held = (held + piece).split(b"\n")
        if len(held) > LINE_LIMIT_BYTES:
            raise _broken("it says too much at once")
        for line in lines:
            try:
                said = json.loads(line)
            except ValueError as error:
                raise _broken(f"{line[:ERRORS_SHOWN]!r} is no answer") from error
            if not isinstance(said, dict):
                raise _broken(f"{line[:ERRORS_SHOWN]!r} is no answer")
            yield said


def _pieces(child: subprocess.Popen[bytes], patience_s: Callable[[], float]) -> Iterator[bytes]:
    if child.stdout is None:
        return
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while True:
            began = time.monotonic()
            limit_s = patience_s()
            if not selector.select(limit_s) and time.monotonic() - began >= limit_s:
                raise Silent(f"nothing was heard for {limit_s:g} s")
            piece = os.read(child.stdout.fileno(), PIECE_BYTES)
            if not piece:
                return
            yield piece


def _not_run(argv: tuple[str, ...], error: OSError) -> AgentError:
    return AgentError(Code.INTERNAL, f"cannot run {argv[0]}: {error}")


def _broken(why: str) -> AgentError:
    return AgentError(Code.INTERNAL, f"cannot understand what asks Podman: {why}")
