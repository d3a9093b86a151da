# SPDX-License-Identifier: MulanPSL-2.0
"""Tells when an engine goes on with an API key or a certificate that was renewed since its start,
and when the time of the certificate that it shows comes to its end.

It is not restarted for that: a start takes minutes, and people decide when. In observe mode as
well: nothing is done but looking.
"""

import time
from collections.abc import Callable

import structlog

from agent.action.renewed import certificate_end, look_for_renewed, may_renew
from agent.action.running import Running
from agent.certificate import EXPIRES_SOON_S
from agent.control.events import EventLog
from agent.control.messages import RenewalsSeen
from agent.control.record import RUNS, Record, Renewal
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
        if running is not renewal.of:
            # The copy in /run, which stays as it is: read once, and here.
            renewal = Renewal(running, expires_at=certificate_end(running, self._files))
            record.renewal = renewal
        renewal.looked_at, before = now, renewal.paths
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
        if record.state.phase not in RUNS:
            return
        self._tell_end(record)
        if new:
            words = f"{' and '.join(new)} changed after the engine was started, which goes on with "
            words += f"what it read then; when it suits: deepseekctl restart {record.name}"
            self._events.note(record.name, "restart-due", words)

    def _tell_end(self, record: Record) -> None:
        """Once that it is near, and once that it is over."""
        renewal, running, end = record.renewal, record.running, record.certificate_end
        if end is None or running is None:
            return
        left_s = end - time.time()
        step = (left_s < EXPIRES_SOON_S) + (left_s <= 0)
        if step <= renewal.end_told:
            return
        renewal.end_told = step
        path, when = running.profile.tls_certificate, time.strftime("%F %R", time.gmtime(end))
        known = f"{path} is a newer one: " if path in renewal.paths else f"renew {path}, then: "
        words = f"clients refuse the certificate that the engine shows from {when} UTC on; {known}"
        self._events.note(
            record.name, "certificate-expires", f"{words}deepseekctl restart {record.name}"
        )

    async def _look(self, running: Running, before: tuple[str, ...]) -> None:
        name, found = running.profile.name, before
        try:
            found = await look_for_renewed(running, self._files, before, LOOK_DEADLINE_S)
        except Exception:  # the root of a task
            log.exception("internal-error", instance=name)
        self._put(RenewalsSeen(name, running, found))
