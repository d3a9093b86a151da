# SPDX-License-Identifier: MulanPSL-2.0
"""What a worker is to be asked next: wishes come in, one request at a time goes out.

Pure: time is an argument. In this order: everything, chips that had an event, chips that hung and
may answer by now, and the states of all, again and again.
"""

from collections.abc import Callable, Collection

from agent.npud.dcmi.left_out import LeftOut
from agent.npud.dcmi.messages import (
    ChipKey,
    Look,
    Request,
)

# A chip that drops off the bus raises no event, it only answers -8012 from then on (facts: ascend
# 2 and 3); and so late is an event that was lost.
STATES_EVERY_S = 5.0
STATES_WITHOUT_EVENTS_S = 2.0


class Agenda:
    def __init__(self, left_out: LeftOut) -> None:
        self._left_out = left_out
        self.all_wanted = False
        self._wanted: dict[ChipKey, None] = {}  # chips, the first asked for first
        self._states_at = float("inf")
        self._every_s = STATES_EVERY_S

    def want(self, key: ChipKey) -> None:
        self._wanted[key] = None

    def poll_states(self, now: float, *, events: bool) -> None:
        """From now on, by a worker that hears of events, or does not."""
        self._every_s = STATES_EVERY_S if events else STATES_WITHOUT_EVENTS_S
        self._states_at = now + self._every_s

    def worker_is_gone(self) -> None:
        """The next one has to know the chips before it can be asked about them."""
        self._states_at = float("inf")
        self._wanted.clear()

    def is_due(self, now: float, held: Collection[ChipKey]) -> bool:
        if self.all_wanted or self._wanted or now >= self._states_at:
            return True
        return self._left_out.retry(now, held) is not None

    def next_at(self, held: Collection[ChipKey]) -> float:
        return min(self._states_at, self._left_out.next_at(held))

    def next(
        self, now: float, held: Collection[ChipKey], knows: Callable[[ChipKey], bool]
    ) -> Request | None:
        if self.all_wanted:
            self.all_wanted = False
            self._wanted.clear()
            return Request(Look.ALL, leave_out=self._left_out.chips())
        while self._wanted:
            key = next(iter(self._wanted))
            del self._wanted[key]
            if not self._left_out.why(key):
                return Request(Look.CHIP, key)
        retry = self._left_out.retry(now, held)
        if retry is not None and knows(retry):
            return Request(Look.CHIP, retry)
        if retry is not None:  # not even listed yet, or a card as a whole
            others = tuple(key for key in self._left_out.chips() if key != retry)
            return Request(Look.ALL, leave_out=others)
        if now >= self._states_at:
            self._states_at = now + self._every_s
            return Request(Look.STATES, leave_out=self._left_out.chips())
        return None
