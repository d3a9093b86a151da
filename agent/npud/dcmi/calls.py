# SPDX-License-Identifier: MulanPSL-2.0
"""Which vendor call a worker is in, and since when: written by it, read by npud.

It is memory that both share and not a message, because a worker that hangs sends none.
"""

import mmap
import struct
import time
from dataclasses import dataclass

_LAYOUT = struct.Struct("=dqii32s")  # started at (0: no call), number of the call, card, chip, name
_START = struct.Struct("=d")


@dataclass(frozen=True, slots=True)
class Call:
    """`card` and `chip` are -1 where the call is about none."""

    name: str
    card: int
    chip: int
    started_at: float  # CLOCK_MONOTONIC, which is the same for both processes


class CallNote:
    """Made before the fork; one worker each."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)
        self._count = 0

    def enter(self, name: str, card: int, chip: int) -> None:
        self._count += 1
        now = time.monotonic()
        # The time comes last: who sees it sees the rest, too.
        _LAYOUT.pack_into(self._memory, 0, 0.0, self._count, card, chip, name.encode())
        _START.pack_into(self._memory, 0, now)

    def leave(self) -> None:
        _START.pack_into(self._memory, 0, 0.0)

    def under_way(self) -> Call | None:
        started_at, _count, card, chip, name = _LAYOUT.unpack_from(self._memory, 0)
        if not started_at:
            return None
        return Call(name.rstrip(b"\0").decode("ascii", "replace"), card, chip, started_at)

    def count(self) -> int:
        """Of calls so far; one that grows is a worker that does something."""
        return int(_LAYOUT.unpack_from(self._memory, 0)[1])

    def close(self) -> None:
        self._memory.close()
