# SPDX-License-Identifier: MulanPSL-2.0
"""Whatever may hang is done by a forked child with a deadline, and costs nothing but itself.

A read of /proc can hang as well (a command line waits for the lock of a process's memory), and a
child in D state outlives SIGKILL; so nobody here waits for the end of one, only for its output.
"""

import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from selectors import EVENT_READ, DefaultSelector

PIECE_BYTES = 64 * 1024
# Of one child; far more than what stays of it in the end.
OUTPUT_LIMIT_BYTES = 1024 * 1024
STATUS_S = 0.2

# Is given the descriptor to write to.
Work = Callable[[int], None]


@dataclass
class Child:
    """`note` says why there is not more of it; empty when it has ended well."""

    pid: int
    limit_s: float
    deadline: float  # monotonic
    output: bytearray = field(default_factory=bytearray)
    note: str = ""
    done: bool = False

    @property
    def text(self) -> str:
        said = self.output.decode(errors="replace")
        if not self.note:
            return said
        return f"{said}\n({self.note})" if said.strip() else f"({self.note})"


class Children:
    """All that run now. While one is waited for, the others are read as well."""

    def __init__(self) -> None:
        self._selector = DefaultSelector()
        self._all: list[Child] = []

    def start(self, work: Work, limit_s: float) -> Child:
        """Runs `work` in a child, and in a session of its own: what it starts ends with it."""
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            _become(work, writing)
        os.close(writing)
        child = Child(pid, limit_s, time.monotonic() + limit_s)
        self._selector.register(reading, EVENT_READ, child)
        self._all.append(child)
        return child

    def run(self, argv: Sequence[str], limit_s: float) -> Child:
        """A program; its errors are part of its output."""
        return self.start(lambda output: _execute(argv, output), limit_s)

    def wait(self, wanted: Sequence[Child]) -> None:
        """Until each of them has ended, or has been given up."""
        while any(not child.done for child in wanted):
            left = [child.deadline for child in self._all if not child.done]
            self._read(max(0.0, min(left) - time.monotonic()))
            self._give_up_late_ones()

    def end(self) -> None:
        """Kills what still runs."""
        for child in self._all:
            if not child.done:
                self._finish(child, "not waited for")

    def _read(self, timeout_s: float) -> None:
        for key, _ in self._selector.select(timeout_s):
            child: Child = key.data
            piece = os.read(key.fd, PIECE_BYTES)
            child.output += piece
            # The end of what it says is worth more: the latest lines of the journal.
            del child.output[: max(0, len(child.output) - OUTPUT_LIMIT_BYTES)]
            if not piece:
                self._finish(child, "")

    def _give_up_late_ones(self) -> None:
        now = time.monotonic()
        for child in self._all:
            if not child.done and now >= child.deadline:
                self._finish(child, f"no more within {child.limit_s:g} s")

    def _finish(self, child: Child, note: str) -> None:
        key = next(one for one in self._selector.get_map().values() if one.data is child)
        self._selector.unregister(key.fileobj)
        os.close(key.fd)
        child.done, child.note = True, note or _ending(child.pid)
        # Also the child alone: it may not have its session yet.
        for kill in (os.killpg, os.kill):
            with suppress(ProcessLookupError):
                kill(child.pid, signal.SIGKILL)


def _ending(pid: int) -> str:
    """Of one whose output has ended: its status follows at once, or it goes on for itself."""
    deadline = time.monotonic() + STATUS_S
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return f"exit status {code}" if code else ""
        time.sleep(0.002)
    return "it says no more, and does not end"


def _become(work: Work, output: int) -> None:
    """Never returns."""
    status = 1
    try:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        work(output)
        status = 0
    except Exception as error:  # the boundary of the process: what was wrong is its output
        os.write(output, f"{type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(status)


def _execute(argv: Sequence[str], output: int) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.execvp(argv[0], list(argv))  # noqa: S606 - no shell is meant
