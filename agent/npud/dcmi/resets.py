# SPDX-License-Identifier: MulanPSL-2.0
"""The reset under way: in a forked worker of its own, since it may take minutes.

Nothing else waits for it. Before the reset itself a call that hangs is known as everywhere else;
from then on a hanging one cannot be told from a slow one before the limit.
"""

import time
from dataclasses import dataclass
from selectors import EVENT_READ, BaseSelector

from agent.model import ResetOutcome
from agent.npud.child import Kill
from agent.npud.dcmi.abi import name_of_code
from agent.npud.dcmi.link import Garbage
from agent.npud.dcmi.messages import (
    ChipKey,
    Refused,
    ResetEnded,
    ResetOrder,
    Told,
    Unusable,
)
from agent.npud.dcmi.process import WorkerProcess
from agent.npud.source import OnReset, ResetLimits

KILL_GRACE_S = 1.0
MAY_TAKE_LONG = ("set_device_reset", "get_device_boot_status")

Result = tuple[ResetOutcome, str]


@dataclass(slots=True)
class _Reset:
    worker: WorkerProcess
    order: ResetOrder
    on_end: OnReset
    deadline_at: float
    check_at: float
    killed: bool = False
    result: Result | None = None


class Resets:
    """One at a time."""

    def __init__(
        self, selector: BaseSelector, kill: Kill, limits: ResetLimits, deadline_s: float
    ) -> None:
        self._selector = selector
        self._kill = kill
        self._limits = limits
        self._deadline_s = deadline_s
        self._reset: _Reset | None = None
        self._lost: list[_Reset] = []

    def is_under_way(self) -> bool:
        return self._reset is not None

    def still_hangs(self, ring: tuple[ChipKey, ...]) -> bool:
        """An earlier one, on one of these."""
        return any(set(ring) & set(reset.order.ring) for reset in self._lost)

    def start(self, path: str, order: ResetOrder, on_end: OnReset, now: float) -> bool:
        """False: it could not be started, and `on_end` has heard so."""
        try:
            worker = WorkerProcess(path, self._kill)
        except OSError as error:
            on_end(ResetOutcome.BUSY, f"cannot fork: {error.strerror}")
            return False
        deadline_at = now + self._limits.reset_s + self._limits.boot_s
        reset = _Reset(worker, order, on_end, deadline_at, now + self._deadline_s)
        self._reset = reset
        self._selector.register(worker.link, EVENT_READ, lambda _mask: self._take(reset))
        worker.send(order)
        return True

    def tick(self, now: float) -> tuple[ChipKey, ...]:
        """The chips of a reset that has come to its end, well or not."""
        self._lost = [reset for reset in self._lost if not reset.worker.has_ended()]
        reset = self._reset
        if reset is None:
            return ()
        if reset.worker.has_ended():
            self._take(reset)
            return self._end(reset)
        if reset.killed and now >= reset.deadline_at:
            self._lost.append(reset)  # in D state
            return self._end(reset)
        if not reset.killed and now >= min(reset.check_at, reset.deadline_at):
            self._check(reset, now)
        return ()

    def next_at(self) -> float:
        reset = self._reset
        if reset is None:
            return float("inf")
        return reset.deadline_at if reset.killed else min(reset.check_at, reset.deadline_at)

    def close(self) -> None:
        """A reset that is under way in the firmware goes on; only its watcher ends."""
        reset, self._reset = self._reset, None
        if reset is not None:
            self._unregister(reset)
            reset.worker.close()
            self._lost.append(reset)
        for one in self._lost:
            one.worker.kill()

    def _check(self, reset: _Reset, now: float) -> None:
        call = reset.worker.note.under_way()
        name = call.name if call is not None else ""
        hangs = call is not None and now - call.started_at >= self._deadline_s
        if now >= reset.deadline_at or (hangs and name not in MAY_TAKE_LONG):
            self._end_worker(reset, f"it hangs{f' in {name}' if name else ''}", now)
        elif call is not None and name not in MAY_TAKE_LONG:
            reset.check_at = call.started_at + self._deadline_s
        else:
            reset.check_at = now + self._deadline_s

    def _end_worker(self, reset: _Reset, why: str, now: float) -> None:
        if reset.killed:
            return
        reset.killed = True
        reset.deadline_at = now + KILL_GRACE_S
        reset.result = reset.result or (ResetOutcome.FAILED, why)
        reset.worker.kill()

    def _take(self, reset: _Reset) -> None:
        try:
            messages, is_open = reset.worker.receive()
        except Garbage as error:
            self._unregister(reset)
            self._end_worker(reset, f"it said what is no message: {error}", time.monotonic())
            return
        for message in messages:
            reset.result = reset.result or _result(message)
        if not is_open:
            self._unregister(reset)  # its end follows

    def _end(self, reset: _Reset) -> tuple[ChipKey, ...]:
        self._reset = None
        self._unregister(reset)
        reset.worker.close()
        died = (ResetOutcome.FAILED, f"its process ended {reset.worker.how_it_ended()}")
        reset.on_end(*(reset.result or died))
        return reset.order.ring

    def _unregister(self, reset: _Reset) -> None:
        if reset.worker.link in self._selector.get_map():
            self._selector.unregister(reset.worker.link)


def _result(message: Told) -> Result | None:
    match message:
        case ResetEnded(outcome, detail):
            return outcome, detail
        case Refused(call, code):
            return ResetOutcome.BUSY, f"the driver does not answer: {call}: {name_of_code(code)}"
        case Unusable(detail):
            return ResetOutcome.BUSY, detail
        case _:
            return None
