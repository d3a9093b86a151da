# SPDX-License-Identifier: MulanPSL-2.0
"""Runs commands with a deadline; nothing of them is left when it has passed."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SHOWN_OUTPUT = 4000
# Before a command: its mounts and all its descendants end with it, even when it is killed.
CONTAINED = ("unshare", "--fork", "--pid", "--kill-child=KILL", "--mount-proc")
# And it ends with the thread that runs it.
DEPENDENT = ("setpriv", "--pdeathsig=KILL", *CONTAINED)


class LabError(Exception):
    """The lab itself cannot do what it was asked for."""


class CommandFailed(LabError):
    def __init__(self, done: "Completed") -> None:
        super().__init__(
            f"command failed with exit status {done.returncode}: {' '.join(done.argv)}\n"
            f"{done.stdout[-SHOWN_OUTPUT:]}{done.stderr[-SHOWN_OUTPUT:]}"
        )
        self.done = done


class CommandTimedOut(LabError):
    def __init__(self, argv: Sequence[str], timeout_s: float, output: str) -> None:
        super().__init__(
            f"command took longer than {timeout_s:g} s and was killed: {' '.join(argv)}\n"
            f"{output[-SHOWN_OUTPUT:]}"
        )


@dataclass(frozen=True, slots=True)
class Completed:
    """What a command did. The text is decoded as UTF-8, with replacement of what is not."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str
    seconds: float


def run_command(
    argv: Sequence[str],
    *,
    input: str | bytes | None = None,
    timeout_s: float = 60,
    check: bool = True,
    env: Mapping[str, str] | None = None,
    shown: Sequence[str] | None = None,
) -> Completed:
    """Runs to the end or to the deadline. `shown` is what results and errors name as the command.

    The command has a session of its own, so that the kill reaches its children too, through the
    border of a PID namespace as well.
    """
    named = tuple(shown or argv)
    data = input.encode() if isinstance(input, str) else input
    started = time.monotonic()
    child = subprocess.Popen(
        argv,
        stdin=subprocess.PIPE if data is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        start_new_session=True,
    )
    with child:
        try:
            out, err = child.communicate(data, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            out, err = kill_session(child)
            text = (out + err).decode(errors="replace")
            raise CommandTimedOut(named, timeout_s, text) from None
        except BaseException:
            kill_session(child)
            raise
    done = Completed(
        named,
        child.returncode,
        out.decode(errors="replace"),
        err.decode(errors="replace"),
        time.monotonic() - started,
    )
    if check and done.returncode != 0:
        raise CommandFailed(done)
    return done


def kill_session(child: "subprocess.Popen[bytes]") -> tuple[bytes, bytes]:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    try:
        out, err = child.communicate(timeout=5)
    except subprocess.TimeoutExpired as late:  # something else has inherited the pipes
        out, err = late.stdout or b"", late.stderr or b""
        for pipe in (child.stdin, child.stdout, child.stderr):
            if pipe is not None:
                pipe.close()
    return out, err


def read_start_time(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; None if it is gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def wait_until_gone(pid: int, started: int, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while read_start_time(pid) == started:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
