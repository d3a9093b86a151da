# SPDX-License-Identifier: MulanPSL-2.0
"""Engines that nobody wants and that nothing stops. Called by the writer, on every turn.

systemd stops an engine with its front unit. Where that had crashed already, there is nothing of it
to stop: `systemctl reset-failed` withdraws the wish, without a job that could be passed on.
"""

import time
from collections.abc import Callable

from agent.config.values import Config, Mode
from agent.control.events import OBSERVED, EventLog
from agent.control.record import Record
from agent.model import Phase
from agent.policy.state import Event, StopMissed
from agent.render.workload import STOP_LIMIT_S
from agent.wording import duration


class Unwanted:
    """`feed` gives policy what happens to an instance."""

    def __init__(
        self, config: Callable[[], Config], events: EventLog, feed: Callable[[str, Event], None]
    ) -> None:
        self._config = config
        self._events = events
        self._feed = feed

    def turn(self, record: Record, *, systemd_answers: bool) -> None:
        """What systemd does not tell of now may be another way by now: it counts from anew."""
        seen, now = record.unwanted, time.monotonic()
        if not runs_unwanted(record) or not systemd_answers:
            seen.since = None
            seen.told = seen.told and record.state.engine.is_up() and not record.state.wished
            return
        seen.since = now if seen.since is None else seen.since
        if now - seen.since < STOP_LIMIT_S:
            return
        observes = self._config().mode is Mode.OBSERVE
        if not seen.told:
            seen.told = True
            words = f"nobody wants it, and nothing has stopped it for {duration(now - seen.since)}"
            done = OBSERVED if observes else "it is being stopped"
            self._events.note(record.name, "engine-unwanted", f"{words}; {done}")
        if not observes:
            self._feed(record.name, StopMissed())


def runs_unwanted(record: Record) -> bool:
    """Not where the front unit is in a state that nobody knows: then the wish is not known."""
    state, front = record.state, record.front
    return (
        state.phase in (Phase.IDLE, Phase.STOPPING)
        and not state.wished
        and not state.acting
        and state.engine.is_up()
        and front is not None
        and front.active.is_down()
    )
