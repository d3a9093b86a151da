# SPDX-License-Identifier: MulanPSL-2.0
"""While a chip is ill: a second worker that has made dcmi_init, for when the first one is lost.

dcmi_init asks every chip for its health (hicann/driver: dcmi_init_for_server.c, 2025): while one
hangs, no new worker gets through it, although all other chips are well. It also leaves out, for the
life of the process, each card that does not answer then; so a new one may know more chips.
"""

import time
from collections.abc import Callable
from selectors import EVENT_READ, BaseSelector

from agent.npud.child import Kill
from agent.npud.dcmi.link import Garbage
from agent.npud.dcmi.messages import ChipKey, Ready
from agent.npud.dcmi.process import WorkerProcess
from agent.npud.log import Log

AFTER_S = 20.0  # of life of the first one: by then it has looked at everything
RETRY_S = 60.0  # after one that hung, or ended

Doom = Callable[[WorkerProcess, float], object]


class Standby:
    def __init__(
        self,
        selector: BaseSelector,
        log: Log,
        kill: Kill,
        doom: Doom,
        on_ready: Callable[[float], object],
        deadline_s: float,
    ) -> None:
        self._selector = selector
        self._log = log
        self._kill = kill
        self._doom = doom
        self._on_ready = on_ready
        self._deadline_s = deadline_s
        self._path = ""
        self._check_at = float("inf")
        self._began_at = 0.0
        self._mute: frozenset[ChipKey] = frozenset()  # when it made dcmi_init
        self.worker: WorkerProcess | None = None
        self.is_ready = False
        self.try_at = 0.0
        self.is_to_take_over = False  # as soon as it is ready

    def begin(self, path: str, mute: frozenset[ChipKey], now: float) -> None:
        """`mute`: chips that do not answer."""
        try:
            worker = WorkerProcess(path, self._kill)
        except OSError as error:
            self._fails(f"cannot fork: {error.strerror}", now)
            return
        self.worker, self._path, self.is_ready = worker, path, False
        self._mute, self._began_at = mute, now
        self._check_at = now + self._deadline_s
        self._selector.register(worker.link, EVENT_READ, lambda _mask: self._take(worker))

    def replace(self, now: float) -> None:
        """By one that begins now, and takes over."""
        self.end(now)
        self.is_to_take_over = True
        self.try_at = now

    def end(self, now: float) -> None:
        worker = self._let_go()
        self.is_to_take_over = False
        if worker is not None:
            self._doom(worker, now)

    def take_over(self, path: str) -> WorkerProcess | None:
        """It is the caller's then; None: there is none, or it has another library."""
        if not self.is_ready or path != self._path:
            return None
        self.is_to_take_over = False
        return self._let_go()

    def is_outdated(self, mute: frozenset[ChipKey], now: float) -> bool:
        """A chip answers that it left out, and would be missing if it took over. Not at once for
        one that comes and goes."""
        lacks_one = self.worker is not None and bool(self._mute - mute)
        return lacks_one and not self.is_to_take_over and now >= self._began_at + AFTER_S

    def check(self, mute: frozenset[ChipKey], now: float) -> None:
        if not self.is_ready:
            self._mute |= mute
        if self.worker is None or now < self._check_at:
            return
        call = self.worker.note.under_way()
        self._fails(f"it hangs in {call.name}" if call else "it stands still", now)

    def next_at(self) -> float:
        return self._check_at

    def _take(self, worker: WorkerProcess) -> None:
        now = time.monotonic()
        try:
            messages, is_open = worker.receive()
        except Garbage as error:
            self._fails(f"it said what is no message: {error}", now)
            return
        if not is_open or any(message != Ready() for message in messages):
            self._fails("it ended, or was refused", now)
        elif messages:
            self.is_ready = True
            self._check_at = float("inf")
            self._on_ready(now)

    def _fails(self, why: str, now: float) -> None:
        self._log.warning("no process stands by", reason=why)
        self.end(now)
        self.try_at = now + RETRY_S

    def _let_go(self) -> WorkerProcess | None:
        worker, self.worker = self.worker, None
        self.is_ready = False
        self._check_at = float("inf")
        if worker is not None:
            self._selector.unregister(worker.link)
        return worker
