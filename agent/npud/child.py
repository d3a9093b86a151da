# SPDX-License-Identifier: MulanPSL-2.0
"""A short-lived program whose answer is wanted, and that may hang for ever: argv in, text out.

Some ask questions first; what they are to be answered goes in at their start.

Never blocks: the loop reads when there is something to read, and asks for the end on SIGCHLD.
posix_spawn instead of subprocess, which alone would cost 0.7 MiB of resident memory.
"""

import os
import signal
import time
from collections.abc import Callable, Mapping

MAX_OUTPUT_BYTES = 256 * 1024
_READ_BYTES = 65536

Kill = Callable[[int], None]


def kill_group(pid: int) -> None:
    """SIGKILL to the program and what it started; it has a process group of its own."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


class Child:
    """One run. Raises OSError when the program cannot be started at all."""

    def __init__(
        self, argv: tuple[str, ...], environment: Mapping[str, str], answers: bytes = b""
    ) -> None:
        stdin = _holding(answers)
        try:
            read_end, write_end = os.pipe()
            try:
                self.pid = _spawn(argv, environment, stdin, write_end)
            except OSError:
                os.close(read_end)
                raise
            finally:
                os.close(write_end)
        finally:
            os.close(stdin)
        os.set_blocking(read_end, False)
        self.fd = read_end  # -1 once closed
        self.ended = False
        self.overflowed = False
        self._output = b""

    def read(self) -> bool:
        """Take what there is; False at the end of the output."""
        while self.fd >= 0:
            try:
                data = os.read(self.fd, _READ_BYTES)
            except BlockingIOError:
                return True
            if not data:
                return False
            room = MAX_OUTPUT_BYTES - len(self._output)
            self._output += data[:room]
            if len(data) > room:
                self.overflowed = True
                return False
        return False

    def has_ended(self) -> bool:
        """Whether the process is gone; collects it. Its exit status is not to be trusted."""
        if not self.ended:
            try:
                self.ended = os.waitpid(self.pid, os.WNOHANG)[0] == self.pid
            except ChildProcessError:
                self.ended = True  # collected by somebody else: gone all the same
        return self.ended

    def text(self) -> str:
        return self._output.decode("utf-8", "replace")

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _holding(answers: bytes) -> int:
    """A file to be read: the answers (far fewer than a pipe holds), then its end."""
    if not answers:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    read_end, write_end = os.pipe()
    os.write(write_end, answers)
    os.close(write_end)
    return read_end


def _spawn(argv: tuple[str, ...], environment: Mapping[str, str], stdin: int, stdout: int) -> int:
    return os.posix_spawn(
        argv[0],
        argv,
        environment,
        file_actions=[
            (os.POSIX_SPAWN_DUP2, stdin, 0),
            (os.POSIX_SPAWN_DUP2, stdout, 1),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        ],
        setpgroup=0,
        setsigmask=(),
        setsigdef=(signal.SIGPIPE, signal.SIGTERM, signal.SIGINT, signal.SIGCHLD),
    )


def await_children(limit_s: float) -> bool:
    """Whether all children of this process have ended within that time; they are collected."""
    deadline = time.monotonic() + limit_s
    while True:
        try:
            pid, _status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return True
        if pid == 0 and time.monotonic() >= deadline:
            return False
        if pid == 0:
            time.sleep(0.005)
