# SPDX-License-Identifier: MulanPSL-2.0
"""Tells when an engine goes on with an API key or a certificate that was renewed since its start.

It is not restarted for that: a start takes minutes, and people decide when. In observe mode as
well: nothing is done but looking.
"""

import time
from collections.abc import Callable

import structlog

from agent.action.renewed import look_for_renewed, may_renew
from agent.action.running import Running
from agent.control.events import EventLog
from agent.control.messages import RenewalsSeen
from agent.control.record import RUNS, Record
from agent.control.tasks import Tasks
from agent.ports import UnitFiles

log = structlog.get_logger(__name__)

# Nobody waits for it: keys are rotated once a month, certificates less often.
LOOK_EVERY_S = 60.0
# The files may be on a disk that hangs.
LOOK_DEADLINE_S = 10.0


class Renewals:
    """Called by the writer, on every turn and with what was found. `put`: its queue."""

    def __init__(
        self,
        files: UnitFiles,
        put: Callable[[RenewalsSeen], None],
        tasks: Tasks,
        events: EventLog,
    ) -> None:
        self._files = files
        self._put = put
        self._tasks = tasks
        self._events = events

    def turn(self, record: Record) -> None:
        running, renewal = record.running, record.renewal
        if running is None or renewal.under_way or record.state.phase not in RUNS:
            return
        now = time.monotonic()
        if running is renewal.of and now - renewal.looked_at < LOOK_EVERY_S:
            return
        before = record.renewed
        renewal.of, renewal.looked_at, renewal.paths = running, now, before
        if may_renew(running):
            renewal.under_way = True
            self._tasks.spawn(self._look(running, before))

    def take(self, record: Record, seen: RenewalsSeen) -> None:
        renewal = record.renewal
        renewal.under_way = False
        if seen.of is not record.running:
            return  # of an engine before this one
        new = [path for path in seen.paths if path not in renewal.paths]
        renewal.paths = seen.paths
        if new and record.state.phase in RUNS:
            words = f"{' and '.join(new)} changed after the engine was started, which goes on with "
            words += f"what it read then; when it suits: deepseekctl restart {record.name}"
            self._events.note(record.name, "restart-due", words)

    async def _look(self, running: Running, before: tuple[str, ...]) -> None:
        name, found = running.profile.name, before
        try:
            found = await look_for_renewed(running, self._files, before, LOOK_DEADLINE_S)
        except Exception:  # the root of a task
            log.exception("internal-error", instance=name)
        self._put(RenewalsSeen(name, running, found))
