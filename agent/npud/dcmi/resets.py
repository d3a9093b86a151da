# SPDX-License-Identifier: MulanPSL-2.0
"""Resets under way: each in a forked worker of its own, since one may take minutes.

Nothing else waits for it, and a hanging one cannot be told from a slow one before the limit.
"""

from dataclasses import dataclass
from selectors import EVENT_READ, BaseSelector

from agent.npud.child import Kill
from agent.npud.dcmi.link import (
    ChipKey,
    Garbage,
    Look,
    Refused,
    Request,
    ResetEnded,
    Told,
    Unusable,
)
from agent.npud.dcmi.process import WorkerProcess
from agent.npud.dcmi.worker import RESET_LIMIT_S
from agent.npud.source import OnReset

# npu-smi says that a reset itself takes up to 260 s (facts: ascend 1.4); then the chip boots.
LIMIT_S = 260.0 + RESET_LIMIT_S
KILL_GRACE_S = 1.0


@dataclass(slots=True)
class _Reset:
    worker: WorkerProcess
    on_end: OnReset
    deadline_at: float
    killed: bool = False
    result: tuple[bool, str] = (False, "")


class Resets:
    def __init__(self, selector: BaseSelector, kill: Kill) -> None:
        self._selector = selector
        self._kill = kill
        self._under_way: dict[ChipKey, _Reset] = {}
        self._lost: list[WorkerProcess] = []

    def start(self, path: str, key: ChipKey, on_end: OnReset, now: float) -> bool:
        """False: it could not be started, and `on_end` has heard so."""
        try:
            worker = WorkerProcess(path, self._kill)
        except OSError as error:
            on_end(False, f"cannot fork: {error.strerror}")
            return False
        reset = _Reset(worker, on_end, now + LIMIT_S)
        self._under_way[key] = reset
        self._selector.register(worker.link, EVENT_READ, lambda _mask: self._take(reset))
        worker.send(Request(Look.RESET, key))
        return True

    def tick(self, now: float) -> list[ChipKey]:
        """The chips whose reset has come to an end, well or not."""
        self._lost = [worker for worker in self._lost if not worker.has_ended()]
        ended = []
        for key, reset in list(self._under_way.items()):
            if reset.worker.has_ended():
                self._take(reset)
                self._end(key, reset)
                ended.append(key)
            elif now >= reset.deadline_at and reset.killed:
                self._lost.append(reset.worker)  # in D state
                self._end(key, reset)
                ended.append(key)
            elif now >= reset.deadline_at:
                reset.killed = True
                reset.deadline_at = now + KILL_GRACE_S
                call = reset.worker.note.under_way()
                reset.result = (False, f"it hangs{f' in {call.name}' if call else ''}")
                reset.worker.kill()
        return ended

    def next_at(self) -> float:
        return min((one.deadline_at for one in self._under_way.values()), default=float("inf"))

    def close(self) -> None:
        """A reset that is under way in the firmware goes on; only its watcher ends."""
        for reset in self._under_way.values():
            self._unregister(reset)
            reset.worker.kill()
        for worker in self._lost:
            worker.kill()
        self._under_way.clear()

    def _take(self, reset: _Reset) -> None:
        try:
            messages, open_ = reset.worker.receive()
        except (Garbage, ValueError):
            messages, open_ = [], False
        for message in messages:
            reset.result = _result(message) or reset.result
        if not open_:
            self._unregister(reset)  # its end follows

    def _end(self, key: ChipKey, reset: _Reset) -> None:
        del self._under_way[key]
        self._unregister(reset)
        reset.worker.close()
        ok, detail = reset.result
        reset.on_end(ok, detail or f"its process ended {reset.worker.how_it_ended()}")

    def _unregister(self, reset: _Reset) -> None:
        if reset.worker.link in self._selector.get_map():
            self._selector.unregister(reset.worker.link)


def _result(message: Told) -> tuple[bool, str] | None:
    match message:
        case ResetEnded(ok, detail):
            return ok, detail
        case Refused(call, code):
            return False, f"{call}: {code}"
        case Unusable(detail):
            return False, detail
        case _:
            return None
