# SPDX-License-Identifier: MulanPSL-2.0
"""The worker of now, and those that were killed until they are gone: forks, kills, counts.

A worker whose call hangs in D state survives SIGKILL (facts: ascend 1.5). It is lost, and kept in
mind until it ends one day.
"""

from collections.abc import Callable
from dataclasses import dataclass
from selectors import EVENT_READ, BaseSelector

from agent.npud.child import Kill
from agent.npud.dcmi.messages import (
    ChipKey,
)
from agent.npud.dcmi.process import WorkerProcess
from agent.npud.log import Log

KILL_GRACE_S = 1.0
MAX_LOST = 4
RESPAWN_S, MAX_RESPAWN_S = 1.0, 60.0  # a worker that died by itself
SOUND_AFTER_S = 120.0  # a worker that lived so long had no trouble from the start


class TooManyLost(Exception):
    """Another worker would most likely be lost, too."""


@dataclass(slots=True)
class _Doomed:
    """A worker that was killed."""

    worker: WorkerProcess
    lost_at: float
    key: ChipKey | None  # the chip whose call it hangs in
    lost: bool = False  # it is still there


class Workers:
    def __init__(
        self,
        selector: BaseSelector,
        log: Log,
        kill: Kill,
        on_readable: Callable[[WorkerProcess], object],
    ) -> None:
        self._selector = selector
        self._log = log
        self._kill = kill
        self._on_readable = on_readable
        self.worker: WorkerProcess | None = None
        self._doomed: list[_Doomed] = []
        self.began_at = self.fork_at = 0.0
        self.adopted = False  # it stood by, and its dcmi_init was before what went wrong since
        self._deaths = 0

    def fork(self, path: str, now: float) -> WorkerProcess | None:
        """None: not yet, see `fork_at`. Raises TooManyLost, or OSError."""
        if now < self.fork_at:
            return None
        lost = [one for one in self._doomed if one.lost]
        if len(lost) >= MAX_LOST:
            call = lost[-1].worker.note.under_way()
            pids = ", ".join(str(one.worker.pid) for one in lost)
            raise TooManyLost(
                f"probe hangs: {call.name if call else '?'}; processes {pids} cannot be killed"
            )
        if len(self._doomed) >= MAX_LOST:  # it is known in a moment which of them are lost
            self.fork_at = min(one.lost_at for one in self._doomed if not one.lost)
            return None
        worker = WorkerProcess(path, self._kill)
        self._begin(worker, now)
        self.adopted = False
        return worker

    def adopt(self, worker: WorkerProcess, now: float) -> None:
        self._begin(worker, now)
        self.adopted = True

    def _begin(self, worker: WorkerProcess, now: float) -> None:
        self.worker = worker
        self.began_at = now
        self._selector.register(worker.link, EVENT_READ, lambda _mask: self._on_readable(worker))

    def doom(self, key: ChipKey | None, now: float) -> None:
        """Kill the one of now; `key` is the chip that its call hangs on."""
        worker, self.worker = self.worker, None
        if worker is not None:
            self.unlink(worker)
            self.doom_other(worker, now, key)

    def doom_other(self, worker: WorkerProcess, now: float, key: ChipKey | None = None) -> None:
        worker.close()
        worker.kill()
        self._doomed.append(_Doomed(worker, now + KILL_GRACE_S, key))

    def has_doomed(self) -> bool:
        return bool(self._doomed)

    def doom_for_a_fault(self, now: float) -> None:
        """The next one comes after a pause, which grows as long as they do not live."""
        if now - self.began_at > SOUND_AFTER_S:
            self._deaths = 0
        self._deaths += 1
        self.doom(None, now)
        self.fork_at = now + min(RESPAWN_S * 2.0 ** min(self._deaths - 1, 8), MAX_RESPAWN_S)

    def unlink(self, worker: WorkerProcess) -> None:
        if worker.link in self._selector.get_map():
            self._selector.unregister(worker.link)

    def reap(self, now: float) -> list[ChipKey | None]:
        """The chips of lost ones that have ended."""
        found = []
        for one in list(self._doomed):
            if one.worker.has_ended():
                self._doomed.remove(one)
                if one.lost:
                    found.append(one.key)
            elif now >= one.lost_at and not one.lost:
                one.lost = True
                self._log.warning("a process cannot be killed", pid=one.worker.pid, chip=one.key)
        if found:
            self.fork_at = min(self.fork_at, now)
        return found

    def held(self) -> set[ChipKey]:
        """Chips on which a call still hangs."""
        return {one.key for one in self._doomed if one.key is not None}

    def next_at(self) -> float:
        times = (one.lost_at for one in self._doomed if not one.lost)
        return min(times, default=float("inf"))

    def close(self) -> None:
        self.doom(None, 0.0)
        for one in self._doomed:
            one.worker.kill()
