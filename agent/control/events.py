# SPDX-License-Identifier: MulanPSL-2.0
"""What happened, oldest first, for the status and the journal."""

import time
from collections import deque

import structlog

from agent.errors import Failure
from agent.model import Phase
from agent.policy.state import InstanceState
from agent.status.snapshot import EventView

log = structlog.get_logger(__name__)

EVENTS_KEPT = 200
STAYS = (Phase.WAITING, Phase.HELD)


class EventLog:
    """The latest ones."""

    def __init__(self) -> None:
        self._events: deque[EventView] = deque(maxlen=EVENTS_KEPT)
        self._told: dict[str, Failure | None] = {}  # why an instance stays, as it was noted

    @property
    def latest(self) -> tuple[EventView, ...]:
        return tuple(self._events)

    def note(self, instance: str, kind: str, message: str = "") -> None:
        """`instance` is empty when it is about the host or the agent."""
        self._events.append(EventView(time.time(), instance, kind, message))
        log.info(str(kind), instance=instance, reason=message)

    def tell(self, instance: str, before: Phase, state: InstanceState) -> None:
        """A new phase. Looking again while nothing has changed is no news: it may go on for days,
        and would push out what is."""
        if state.phase is Phase.STARTING and before in STAYS:
            return
        if state.phase in STAYS and state.failure == self._told.get(instance):
            return
        self._told[instance] = state.failure if state.phase in STAYS else None
        stuck = state.phase in (*STAYS, Phase.BACKOFF)
        self.note(instance, state.phase, state.failure.message if stuck and state.failure else "")
