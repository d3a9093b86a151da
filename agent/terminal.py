# SPDX-License-Identifier: MulanPSL-2.0
"""How our commands show progress, and end: a failure in words, an interrupted one, a reader that
has left."""

import io
import os
import sys
from collections.abc import Callable
from typing import NoReturn, TextIO

from agent.errors import AgentError, Code, Failure
from agent.language import meaning, tr, translate
from agent.supplies import Item, Progress, Stage
from agent.wording import bar, describe_progress, percent

CLEAR_LINE = "\r\x1b[K"
STEP_PERCENT = 10
INTERRUPTED, PIPE_CLOSED = 130, 141  # as a shell counts SIGINT and SIGPIPE


def run_command(command: Callable[[], int], exit_status: Callable[[Code], int]) -> int:
    """Runs `command` and returns its exit status, or that of its failure, which is told."""
    write_anything()
    try:
        status = command()
        sys.stdout.flush()
    except AgentError as error:
        _tell(error.failure)
        return exit_status(error.failure.code)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing at exit either
        return PIPE_CLOSED
    return status


def write_anything() -> None:
    """Names of files need not be text, nor has every terminal all characters."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _tell(failure: Failure) -> None:
    meant = meaning(failure.code)
    message = f"{translate(failure.message)} [{failure.code}]"
    sys.stderr.write(f"deepseekctl: {meant or message}\n")
    if meant:
        sys.stderr.write(f"  {message}\n")
    if failure.hint:
        sys.stderr.write(tr("  hint: {hint}\n", hint=translate(failure.hint)))


class ProgressLine:
    """A bar that moves on a terminal; elsewhere a line for each tenth of the way."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._moves = stream.isatty()
        self._about: tuple[Item, Stage] | None = None
        self._next_percent = 0

    def show(self, progress: Progress) -> None:
        about = (progress.item, progress.stage)
        if about != self._about:
            self.end()
            self._about, self._next_percent = about, 0
        share, text = percent(progress) or 0, describe_progress(progress)
        if self._moves:
            self._stream.write(f"{CLEAR_LINE}{bar(progress)} {text}")
        elif share >= self._next_percent:
            self._next_percent = (share // STEP_PERCENT + 1) * STEP_PERCENT
            self._stream.write(f"{text}\n")
        self._stream.flush()

    def end(self) -> None:
        """Before something else is written there."""
        if self._moves and self._about is not None:
            self._stream.write("\n")
            self._stream.flush()
        self._about = None


def become(module: str, arguments: list[str]) -> NoReturn:
    """This process goes on as that module, with its output and its exit status."""
    sys.stdout.flush()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    argv = (sys.executable, "-sPB", "-m", module, *arguments)
    os.execve(sys.executable, argv, environment)  # noqa: S606
