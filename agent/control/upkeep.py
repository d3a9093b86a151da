# SPDX-License-Identifier: MulanPSL-2.0
"""What is kept in order around an instance, besides what policy decides: a front unit that crashed
is revived, one that only looks so is tidied, a unit file that somebody changed is restored, and
what an engine left behind after its stop is cleared. Nothing of it touches an engine that runs.
"""

import time
from typing import assert_never

from agent.action.restore import is_in_force
from agent.control.events import EventLog
from agent.control.messages import FileChecked, Swept
from agent.control.record import Record
from agent.control.tasks import Tasks
from agent.control.worker import Worker
from agent.model import Phase, UnitActive, UnitStatus
from agent.policy.wish import has_crashed, only_looks_wished

# A front unit that crashes again and again is not started faster than this; one that does not come
# up, more seldom from try to try: each runs what `OnFailure=` names.
REVIVE_EVERY_S = 5.0
REVIVE_MAX_S = 60.0
# A small file is read; the rest is done should it not be as it was.
FILE_CHECK_EVERY_S = 10.0
# An engine that is up in these is a new one, and what it was started with is not known here yet.
COMES_UP = (Phase.STARTING, Phase.WAITING, Phase.FETCHING, Phase.BACKOFF)
# Podman may be busy, or a process may hang for a while.
SWEEP_AGAIN_S = 10.0
SWEEP_TRIES = 6


class Upkeep:
    """Called by the writer, on every turn and with what came of it."""

    def __init__(self, worker: Worker, tasks: Tasks, events: EventLog) -> None:
        self._worker = worker
        self._tasks = tasks
        self._events = events

    def turn(self, record: Record) -> None:
        """Does what is due. Not called in observe mode."""
        now = time.monotonic()
        self._mend_front(record, now)
        self._check_file(record, now)
        self._sweep(record, now)

    def due_s(self, record: Record, now: float) -> list[float]:
        """When the next things are due, in seconds from `now`. Not what is due already and not
        done: it waits for a message, and not for its time."""
        due = []
        if record.front is not None and has_crashed(record.front):
            due.append(record.revived_at + revive_pause_s(record.revivals) - now)
        if record.sweep.tries:
            due.append(record.sweep.not_before - now)
        return [wait_s for wait_s in due if wait_s > 0]

    def went_idle(self, record: Record) -> None:
        """Nobody wants it any more: what it left is cleared once its unit is down."""
        record.sweep.tries = SWEEP_TRIES
        record.sweep.not_before = 0.0

    def take(self, record: Record, message: Swept | FileChecked) -> None:
        match message:
            case Swept():
                self._take_swept(record, message)
            case FileChecked():
                self._take_file_check(record, message)
            case _:
                assert_never(message)

    def _take_swept(self, record: Record, swept: Swept) -> None:
        sweep = record.sweep
        sweep.under_way = False
        if swept.failure is None:
            sweep.tries = 0
            record.running, record.npus = None, ()
        else:
            sweep.tries -= 1
            sweep.not_before = time.monotonic() + SWEEP_AGAIN_S
            if not sweep.tries:
                self._events.note(swept.instance, swept.failure.code, swept.failure.message)

    def _take_file_check(self, record: Record, checked: FileChecked) -> None:
        record.file.under_way = False
        found = checked.failure.message if checked.failure is not None else checked.mended
        kind = checked.failure.code if checked.failure is not None else "unit-file-restored"
        if found and (found != record.file.told or checked.failure is None):
            self._events.note(checked.instance, kind, found)
        record.file.told = found if checked.failure is not None else ""

    def _mend_front(self, record: Record, now: float) -> None:
        """What runs behind it is left alone."""
        front = record.front
        if front is not None and front.active is UnitActive.ACTIVE:
            record.crash_told, record.revivals = "", 0
        if front is None or now - record.revived_at < REVIVE_EVERY_S:
            return
        if has_crashed(front):
            if now - record.revived_at < revive_pause_s(record.revivals):
                return
            record.revived_at = now
            record.revivals += 1
            self._tell_revived(record, front)
            self._tasks.spawn(self._worker.revive(record.profile.name))
        elif only_looks_wished(front):
            record.revived_at = now
            self._tasks.spawn(self._worker.forget_crash(record.profile.name))

    def _tell_revived(self, record: Record, front: UnitStatus) -> None:
        """Once, if it does not come up: what systemd cannot even execute may be tried for days."""
        words = f"the front unit had crashed: {front.result}, exit status {front.exit_status}"
        if words != record.crash_told:
            record.crash_told = words
            self._events.note(record.name, "front-revived", words)

    def _check_file(self, record: Record, now: float) -> None:
        engine, file = record.engine, record.file
        if record.running is None or engine is None or file.under_way:
            return
        if record.state.phase in COMES_UP:
            return
        if engine.active is not UnitActive.ACTIVE:
            return
        if now - file.checked_at >= FILE_CHECK_EVERY_S or engine.load_state != "loaded":
            file.checked_at = now
            if is_in_force(record.running, engine, self._worker.actions.files):
                file.told = ""
            else:
                file.under_way = True
                self._tasks.spawn(self._worker.restore_file(record.profile.name, record.running))

    def _sweep(self, record: Record, now: float) -> None:
        sweep = record.sweep
        if not sweep.tries or sweep.under_way or now < sweep.not_before:
            return
        if record.state.phase is not Phase.IDLE:
            sweep.tries = 0  # it is wanted again: a start clears by itself
        elif record.state.engine.is_down():
            sweep.under_way = True
            self._tasks.spawn(self._worker.sweep(record.profile.name))


def revive_pause_s(revivals: int) -> float:
    """Between two of them, after so many since the front unit was up."""
    doublings = min(max(revivals - 1, 0), 10)  # beyond that the maximum rules anyway
    return min(REVIVE_EVERY_S * 2.0**doublings, REVIVE_MAX_S)
