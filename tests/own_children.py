# SPDX-License-Identifier: MulanPSL-2.0
"""Children that a test has begun. Others of this process, a double that many tests share, are left
alone: whoever waits for just any child waits for those, and whoever ends all ends them."""

import contextlib
import os
import signal
from pathlib import Path


class OwnChildren:
    """Those that were not there when this was made."""

    def __init__(self) -> None:
        self._others = set(all_children())

    def pids(self) -> list[int]:
        """Also of those that have ended and nobody has collected."""
        return [pid for pid in all_children() if pid not in self._others]

    def collect(self) -> list[int]:
        """Waits until all have ended; returns how each did, as os.waitpid() tells it."""
        ends = []
        while pids := self.pids():
            for pid in pids:
                with contextlib.suppress(ChildProcessError):
                    ends.append(os.waitpid(pid, 0)[1])
        return ends

    def end(self) -> None:
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.collect()


def all_children() -> list[int]:
    pids: list[int] = []
    for listing in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            pids += map(int, listing.read_text(encoding="ascii").split())
    return pids
