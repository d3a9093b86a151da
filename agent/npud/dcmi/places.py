# SPDX-License-Identifier: MulanPSL-2.0
"""Which libdcmi: the first that is there, and has not been found to be of no use. Touches: stat."""

import os
import time

UNUSABLE_FOR_S = 600.0  # before the same file is tried again: what it misses may have come

_Identity = tuple[str, int, int]  # of a file: path, inode, time of change


class Places:
    def __init__(self, paths: tuple[str, ...]) -> None:
        self._paths = paths
        self._unusable: dict[_Identity, float] = {}  # until when

    def find(self) -> str:
        """ "" when there is none."""
        for path in self._paths:
            identity = _identity(path)
            until = self._unusable.get(identity, 0.0) if identity else float("inf")
            if time.monotonic() >= until:
                return path
        return ""

    def give_up(self, path: str) -> None:
        """Until it is another file, or some time has passed."""
        identity = _identity(path)
        others = {one: until for one, until in self._unusable.items() if one[0] != path}
        until = time.monotonic() + UNUSABLE_FOR_S
        self._unusable = {**others, identity: until} if identity else others


def _identity(path: str) -> _Identity | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (path, status.st_ino, status.st_mtime_ns)
