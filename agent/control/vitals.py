# SPDX-License-Identifier: MulanPSL-2.0
"""What the watch of an engine that serves has found: one that does not work is given to policy, a
way to its port that is cut is mended without touching it.
"""

import time
from collections.abc import Callable
from typing import assert_never

from agent.config.values import Config, Mode
from agent.control.events import OBSERVED, EventLog
from agent.control.messages import (
    ContainerFound,
    EngineKilled,
    EngineSeen,
    EvidenceKept,
    OfEngine,
    PortMended,
)
from agent.control.record import PortCare, Record
from agent.control.tasks import Tasks
from agent.control.worker import Worker
from agent.errors import Code, Failure
from agent.model import Phase
from agent.policy.backoff import backoff_s
from agent.policy.state import EngineIll, Event

# The watch takes that long to see whether it helped (health.liveness).
SETTLES_S = 20.0


class Vitals:
    """`feed` gives policy what happens to an instance."""

    def __init__(
        self,
        config: Callable[[], Config],
        worker: Worker,
        tasks: Tasks,
        events: EventLog,
        feed: Callable[[str, Event], None],
    ) -> None:
        self._config = config
        self._worker = worker
        self._tasks = tasks
        self._events = events
        self._feed = feed

    def take(self, record: Record, message: OfEngine) -> None:
        match message:
            case ContainerFound():
                record.container = message.container
                if message.npus and set(message.npus) != set(record.npus):
                    record.npus = message.npus  # whatever was written down
            case EngineSeen():
                self._take_seen(record, message)
            case EvidenceKept():
                words = "what was seen of it is kept"
                self._events.note(message.instance, "evidence", words, message.file)
            case EngineKilled():
                words = f"{message.processes} processes did not end in time and got SIGKILL"
                self._events.note(message.instance, "engine-killed", words)
            case PortMended():
                self._take_mended(record, message)
            case _:
                assert_never(message)

    def _take_seen(self, record: Record, seen: EngineSeen) -> None:
        """Of an engine that serves; what comes late is about one that is gone. One that systemd
        is stopping ends by itself: a stop of ours would cancel the restart that it may be for."""
        if record.state.phase is not Phase.SERVING or record.is_going_down:
            return
        match seen.failure:
            case None:
                self._well(record)
            case Failure(code=Code.PORT_CUT):
                self._cut(record, seen.failure)
            case Failure(code=Code.COUNTERS_UNKNOWN):
                self._uncounted(record, seen.failure)
            case _:
                self._ill(record, seen.failure, seen.metrics)

    def _take_mended(self, record: Record, mended: PortMended) -> None:
        """Whether it helped the watch will tell."""
        port = record.port
        port.under_way = False
        port.tries += 1
        wait_s = backoff_s(port.tries, self._config().limits, 0.5)
        port.not_before = time.monotonic() + max(wait_s, SETTLES_S)
        name = record.profile.name
        if mended.failure is None:
            self._events.note(name, "network-reloaded", "Podman has put its rules back")
        else:
            self._events.note(name, mended.failure.code, mended.failure.message)

    def turn(self, record: Record) -> None:
        """Does what is due. Not called in observe mode; trouble is known only of what serves."""
        port = record.port
        if port.trouble is None or port.under_way or time.monotonic() < port.not_before:
            return
        port.under_way = True
        self._tasks.spawn(self._worker.mend_port(record.profile.name))

    def _well(self, record: Record) -> None:
        record.ill = None
        if record.port.trouble is not None:
            record.port = PortCare()
            self._events.note(record.profile.name, "port-answers", "")

    def _cut(self, record: Record, failure: Failure) -> None:
        if record.port.trouble is None:
            self._events.note(record.profile.name, failure.code, failure.message)
        record.port.trouble = failure

    def _uncounted(self, record: Record, failure: Failure) -> None:
        """Once: its hint is shown as long as it is so."""
        if record.uncounted is None:
            self._events.note(record.profile.name, failure.code, failure.message)
        record.uncounted = failure

    def _ill(self, record: Record, failure: Failure, metrics: str) -> None:
        name = record.profile.name
        if self._config().mode is not Mode.OBSERVE:
            self._events.note(name, failure.code, failure.message)
            record.metrics = metrics
            self._feed(name, EngineIll(failure))
        elif record.ill is None or record.ill.code is not failure.code:
            record.ill = failure
            self._events.note(name, failure.code, f"{failure.message}; {OBSERVED}")
