# SPDX-License-Identifier: MulanPSL-2.0
"""Events of the last days, a page at a time."""

from dataclasses import dataclass

from agent.status.snapshot import SCHEMA, EventView


@dataclass(frozen=True, slots=True)
class EventPage:
    """Oldest first. `next`: ask for those after it the next time."""

    events: tuple[EventView, ...]
    next: int
    more: bool  # there are others already
    missed: bool  # some after the one that was asked for have been removed, being old
    schema: int = SCHEMA
