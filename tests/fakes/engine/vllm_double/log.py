# SPDX-License-Identifier: MulanPSL-2.0
"""Lines on stderr that look like vLLM's: in a level, a place and a message, out one write each."""

import contextlib
import os
import time


class Log:
    """The log of one process, named as vLLM prefixes it (`APIServer`, `EngineCore_DP0`)."""

    def __init__(self, process: str) -> None:
        self._prefix = f"({process} pid={os.getpid()}) "

    def note(self, place: str, message: str) -> None:
        self._level("INFO", place, message)

    def warn(self, place: str, message: str) -> None:
        self._level("WARNING", place, message)

    def fail(self, place: str, message: str) -> None:
        self._level("ERROR", place, message)

    def uvicorn(self, message: str) -> None:
        self.raw(f"INFO:     {message}")

    def raw(self, text: str) -> None:
        lines = "".join(f"{self._prefix}{line}\n" for line in text.splitlines())
        write_stderr(lines)

    def _level(self, level: str, place: str, message: str) -> None:
        stamp = time.strftime("%m-%d %H:%M:%S")
        self.raw("\n".join(f"{level} {stamp} [{place}] {line}" for line in message.splitlines()))


def write_stderr(text: str) -> None:
    """One write, so that lines of two processes do not mix. A closed stderr stops nothing."""
    with contextlib.suppress(OSError):
        os.write(2, text.encode("utf-8", "replace"))
