# SPDX-License-Identifier: MulanPSL-2.0
"""Events that outlive the agent, in memory: for simulated time, in which no thread turns."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from agent.host.events import cut, is_wanted
from agent.ports import EventQuery, StoredEvent

KEPT = 1000


@dataclass
class FakeEventKeeper:
    """`ports.EventKeeper`."""

    kept: list[StoredEvent] = field(default_factory=list)

    def add(self, event: StoredEvent) -> None:
        self.kept.append(event)
        del self.kept[:-KEPT]

    async def read(self, query: EventQuery) -> Sequence[StoredEvent]:
        return cut([one for one in self.kept if is_wanted(one, query)], query)

    async def oldest(self) -> int:
        return self.kept[0].id if self.kept else 0
