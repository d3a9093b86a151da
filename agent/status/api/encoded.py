# SPDX-License-Identifier: MulanPSL-2.0
"""A snapshot as bytes, made once for all who ask."""

from collections.abc import Callable

from agent.status.snapshot import Board, Snapshot


class Encoded:
    """`encode` is called for the first who asks for a snapshot."""

    def __init__(self, board: Board, encode: Callable[[Snapshot], bytes]) -> None:
        self._board = board
        self._encode = encode
        self._of: Snapshot | None = None
        self._raw = b""

    def newest(self) -> bytes:
        snapshot = self._board.snapshot
        if snapshot is not self._of:
            self._of, self._raw = snapshot, self._encode(snapshot)
        return self._raw
