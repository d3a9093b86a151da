# SPDX-License-Identifier: MulanPSL-2.0
"""How our commands end: a failure in words, an interrupted one, a reader that has left."""

import io
import os
import sys
from collections.abc import Callable

from agent.errors import AgentError, Code, Failure

INTERRUPTED, PIPE_CLOSED = 130, 141  # as a shell counts SIGINT and SIGPIPE


def run_command(command: Callable[[], int], exit_status: Callable[[Code], int]) -> int:
    """Runs `command` and returns its exit status, or that of its failure, which is told."""
    for stream in (sys.stdout, sys.stderr):  # names of files need not be text
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
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


def _tell(failure: Failure) -> None:
    sys.stderr.write(f"deepseekctl: {failure.message} [{failure.code}]\n")
    if failure.hint:
        sys.stderr.write(f"  hint: {failure.hint}\n")
