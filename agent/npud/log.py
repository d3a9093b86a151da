# SPDX-License-Identifier: MulanPSL-2.0
"""Log lines for the journal: in comes an event with facts, out goes one line on stderr.

Not `logging`: that module alone would cost npud half a MiB. The priority prefix is the one of
sd-daemon(3). A warning that repeats is said once in ten minutes, with the number of those left out.
"""

import sys
import time
from collections.abc import Callable

REPEAT_AFTER_S = 600.0
MAX_REMEMBERED = 64

WARNING, INFO = 4, 6


def _field(key: str, value: object) -> str:
    text = str(value).replace("\n", " ")
    if not text or " " in text or '"' in text or "=" in text:
        text = '"' + text.replace('"', "'") + '"'
    return f"{key}={text}"


class Log:
    """One per process; `write` gets whole lines, stderr by default."""

    def __init__(
        self,
        write: Callable[[str], object] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write = write or sys.stderr.write
        self._now = now
        self._said: dict[str, tuple[float, int]] = {}  # message: when last said, left out since

    def info(self, message: str, **facts: object) -> None:
        self._line(INFO, message, facts)

    def warning(self, message: str, **facts: object) -> None:
        """Say it, unless the same words (facts do not count) were said a short while ago."""
        now = self._now()
        said_at, left_out = self._said.get(message, (float("-inf"), 0))
        if now - said_at < REPEAT_AFTER_S:
            self._said[message] = (said_at, left_out + 1)
            return
        if len(self._said) >= MAX_REMEMBERED:
            self._said.clear()
        self._said[message] = (now, 0)
        self._line(WARNING, message, {**facts, "repeated": left_out} if left_out else facts)

    def _line(self, priority: int, message: str, facts: dict[str, object]) -> None:
        fields = "".join(" " + _field(key, value) for key, value in facts.items())
        try:
            self._write(f"<{priority}>{message}{fields}\n")
        except OSError:
            return  # the journal is gone for the moment: no reason to stop watching NPUs
