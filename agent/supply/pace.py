# SPDX-License-Identifier: MulanPSL-2.0
"""Whether a source trickles: in go bytes and the time that they were waited for.

Silence alone does not tell it: a byte now and then holds a connection for ever, and no other one
and no other source is tried.
"""

from collections.abc import Iterator
from time import monotonic
from typing import TypeVar

# The slowest line that is worth having brings 2 KiB/s: 16 GB in a quarter of a year. Connections
# share it unevenly, so half of that is asked for.
SLOWEST_BYTES_PER_S = 1024

Piece = TypeVar("Piece", bound=bytes | memoryview)


class Pace:
    """Of one of several connections that share a line. Time in which nobody waits for the source,
    since a disk is slow, does not count."""

    def __init__(self, window_s: float, connections: int = 1) -> None:
        self._window_s = window_s
        self._wanted = window_s * SLOWEST_BYTES_PER_S / connections
        self._waited_s = 0.0
        self._got = 0

    def count(self, got: int, waited_s: float) -> None:
        """Raises TimeoutError at the end of a window that has brought next to nothing."""
        self._got += got
        self._waited_s += waited_s
        if self._waited_s < self._window_s:
            return
        if self._got < self._wanted:
            raise TimeoutError(f"{self._got} bytes in {self._waited_s:.0f} s")
        self._got, self._waited_s = 0, 0.0

    def timed(self, pieces: Iterator[Piece]) -> Iterator[Piece]:
        """The same ones. Raises TimeoutError."""
        began = monotonic()
        for piece in pieces:
            self.count(len(piece), monotonic() - began)
            yield piece
            began = monotonic()
