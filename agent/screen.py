# SPDX-License-Identifier: MulanPSL-2.0
"""A page that is drawn again and again, until a person has seen enough: q, or Ctrl-C.

On a terminal in its place, cut to its size; elsewhere one page after the other. What the terminal
was set to comes back at the end.
"""

import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from agent.language import tr

# ECMA-48 and xterm: to the top; the rest of the line, or the page, is cleared.
HOME, CLEAR_LINE_END, CLEAR_PAGE, CLEAR_PAGE_END = "\033[H", "\033[K", "\033[2J", "\033[J"
NO_WRAP, WRAP = "\033[?7l", "\033[?7h"  # a line that is too long is cut by the terminal
HIDE_CURSOR, SHOW_CURSOR = "\033[?25l", "\033[?25h"
QUIT = (b"q", b"Q")


class Screen:
    """Where pages go. `moves`: one is drawn over the other, and keys are heard."""

    def __init__(self, *, moves: bool) -> None:
        self.moves = moves
        self._keys = sys.stdin.fileno() if moves and sys.stdin.isatty() else None

    def show(self, page: str) -> None:
        if not self.moves:
            print(page, flush=True)
            return
        lines = _cut(page.splitlines(), os.get_terminal_size(sys.stdout.fileno()).lines)
        # Cleared before, not after: there the cursor may be on the last character of a full line.
        drawn = "".join(f"{CLEAR_LINE_END}{line}\n" for line in lines)
        sys.stdout.write(f"{NO_WRAP}{HOME}{drawn}{CLEAR_PAGE_END}{WRAP}")
        sys.stdout.flush()

    def wait(self, seconds: float) -> bool:
        """False when it is to end."""
        if self._keys is None:
            time.sleep(seconds)
            return True
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if select.select([self._keys], [], [], left)[0]:
                key = os.read(self._keys, 1)
                if key in (*QUIT, b""):
                    return False
        return True

    @contextmanager
    def opened(self) -> Iterator["Screen"]:
        """Keys are heard at once, and are not shown."""
        if self._keys is None:
            yield self
            return
        before = termios.tcgetattr(self._keys)
        tty.setcbreak(self._keys, termios.TCSANOW)
        sys.stdout.write(f"{HIDE_CURSOR}{CLEAR_PAGE}")
        try:
            yield self
        finally:
            termios.tcsetattr(self._keys, termios.TCSANOW, before)
            with suppress(OSError):  # nobody may be there any more
                sys.stdout.write(f"{WRAP}{SHOW_CURSOR}")
                sys.stdout.flush()


def _cut(lines: list[str], rows: int) -> list[str]:
    """The last line of the terminal stays empty: it would scroll."""
    room = rows - 1
    if len(lines) <= room:
        return lines
    kept = lines[: max(room - 1, 0)]
    return [
        *kept,
        tr("... {count} lines more: make the window taller", count=len(lines) - len(kept)),
    ]
