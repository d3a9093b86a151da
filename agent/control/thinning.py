# SPDX-License-Identifier: MulanPSL-2.0
"""Keeps what comes and goes all the time from pushing out all other events. Pure."""

from collections import deque
from enum import Enum, auto

TOLD = 6  # of one thing ...
WITHIN_S = 600.0
KEPT = 1024  # things


class Word(Enum):
    """Whether something is to be told."""

    TELL = auto()
    LAST = auto()  # with a word that no more will be told for a while
    SILENCE = auto()


class Thinning:
    """Counts by what it is about: any value that can be a key."""

    def __init__(self) -> None:
        self._told: dict[object, deque[float]] = {}

    def ask(self, about: object, now: float) -> Word:
        """`now` is monotonic."""
        if about not in self._told and len(self._told) >= KEPT:
            del self._told[next(iter(self._told))]
        told = self._told.setdefault(about, deque())
        while told and told[0] <= now - WITHIN_S:
            told.popleft()
        if len(told) >= TOLD:
            return Word.SILENCE
        told.append(now)
        return Word.LAST if len(told) == TOLD else Word.TELL
