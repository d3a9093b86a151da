# SPDX-License-Identifier: MulanPSL-2.0
"""Chips that are not asked at present, and why: one whose call hung, one that is being reset.

Pure: time is an argument. A key with chip -1 is a card as a whole.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace

from agent.npud.dcmi.calls import Call
from agent.npud.dcmi.messages import ChipKey
from agent.npud.source import RESET_UNDER_WAY

RETRY_S, MAX_RETRY_S = 10.0, 60.0  # a chip whose call hung


@dataclass(frozen=True, slots=True)
class _One:
    reason: str
    tries: int  # that hung; 0: it is being reset
    retry_at: float


class LeftOut:
    def __init__(self) -> None:
        self._ones: dict[ChipKey, _One] = {}

    def chips(self) -> tuple[ChipKey, ...]:
        return tuple(self._ones)

    def why(self, key: ChipKey) -> str:
        """ "" when it is asked."""
        one = self._ones.get(key) or self._ones.get((key[0], -1))
        return one.reason if one else ""

    def hangs(self, key: ChipKey, call: Call, now: float) -> None:
        """What is being reset hangs for that reason, and is asked when it has ended."""
        if self.is_under_reset(key):
            return
        before = self._ones.get(key)
        tries = before.tries + 1 if before else 1
        pause_s = min(RETRY_S * 2.0 ** min(tries - 1, 8), MAX_RETRY_S)
        self._ones[key] = _One(f"probe hangs: {call.name}", tries, now + pause_s)

    def reset_begins(self, ring: Collection[ChipKey]) -> None:
        for key in ring:
            self._ones[key] = _One(RESET_UNDER_WAY, 0, float("inf"))

    def reset_ends(self, ring: Collection[ChipKey]) -> None:
        for key in ring:
            self._ones.pop(key, None)

    def is_under_reset(self, key: ChipKey) -> bool:
        return key in self._ones and not self._ones[key].tries

    def has_reset(self) -> bool:
        return any(not one.tries for one in self._ones.values())

    def answer(self, keys: Collection[ChipKey]) -> None:
        """They were asked, and none hung."""
        for key in keys:
            if key in self._ones and self._ones[key].tries:
                del self._ones[key]

    def may_answer(self, key: ChipKey, now: float) -> None:
        """What hung on it has ended: the driver lets go at last."""
        if key in self._ones and self._ones[key].tries:
            self._ones[key] = replace(self._ones[key], retry_at=now)

    def retry(self, now: float, held: Collection[ChipKey]) -> ChipKey | None:
        """One whose time has come; none of those `held` by a call that still hangs on it."""
        due = (key for key, one in self._ones.items() if now >= one.retry_at)
        return next((key for key in due if key not in held), None)

    def next_at(self, held: Collection[ChipKey]) -> float:
        times = (one.retry_at for key, one in self._ones.items() if key not in held)
        return min(times, default=float("inf"))

    def forget(self) -> None:
        """All but what is being reset: that goes on."""
        self._ones = {key: one for key, one in self._ones.items() if not one.tries}
