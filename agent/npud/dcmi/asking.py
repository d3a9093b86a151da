# SPDX-License-Identifier: MulanPSL-2.0
"""Keeps a worker busy with one request at a time, and lives with one that hangs, dies or lies.

Comes in: wishes (`want_all`, `want`), and the loop's events. Goes out: what the worker said, and
what is wrong with it, to a Hearer.

A worker whose call hangs is killed, and another takes over that leaves the chip out: the one that
stands by, which need not get through dcmi_init any more.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Collection
from selectors import BaseSelector

from agent.npud.child import Kill
from agent.npud.dcmi import standby
from agent.npud.dcmi.agenda import Agenda
from agent.npud.dcmi.calls import Call
from agent.npud.dcmi.left_out import LeftOut
from agent.npud.dcmi.link import Garbage
from agent.npud.dcmi.messages import ChipKey, Done, Request, Told
from agent.npud.dcmi.picture import Picture
from agent.npud.dcmi.places import Places
from agent.npud.dcmi.process import WorkerProcess
from agent.npud.dcmi.standby import Standby
from agent.npud.dcmi.workers import TooManyLost, Workers
from agent.npud.log import Log


class Hearer(ABC):
    @abstractmethod
    def worker_begins(self) -> None:
        """A new one, which has told nothing yet."""

    @abstractmethod
    def hear(self, message: Told, now: float) -> None: ...

    @abstractmethod
    def request_ends(self, request: Request, now: float) -> None: ...

    @abstractmethod
    def call_hangs(self, call: Call, now: float) -> None:
        """Its worker is sent away; the chip is left out already, if the call is about one."""

    @abstractmethod
    def worker_fails(self, why: str, now: float) -> None:
        """It is replaced."""

    @abstractmethod
    def no_worker(self, why: str) -> None:
        """None can be had."""


class Asking:
    def __init__(
        self,
        selector: BaseSelector,
        log: Log,
        kill: Kill,
        places: Places,
        left_out: LeftOut,
        picture: Picture,
        deadline_s: float,
        hearer: Hearer,
    ) -> None:
        self._log = log
        self._places = places
        self._left_out = left_out
        self._picture = picture
        self._deadline_s = deadline_s
        self._hearer = hearer
        self._workers = Workers(selector, log, kill, self._take)
        self._standby = Standby(
            selector, log, kill, self._workers.doom_other, self._stands_by, deadline_s
        )
        self._agenda = Agenda(left_out)
        self._path = ""  # of the newest worker's library
        self._request: Request | None = None  # under way
        self._check_at = float("inf")
        self._calls = -1  # of the worker at the last check

    @property
    def worker(self) -> WorkerProcess | None:
        return self._workers.worker

    # --- wishes ----------------------------------------------------------------------------------

    def want_all(self) -> None:
        self._agenda.all_wanted = True

    def want(self, key: ChipKey) -> None:
        self._agenda.want(key)

    def poll_states(self, now: float, *, events: bool) -> None:
        """There are no events."""
        self._agenda.poll_states(now, events=events)

    def end_worker(self, now: float) -> None:
        """The next one begins anew, when everything is wanted again."""
        self._standby.end(now)
        self._send_away(None, now)

    def renew_worker(self, now: float) -> None:
        """By one with a new dcmi_init; the old one goes on until that is over."""
        self._standby.replace(now)

    def rest(self, now: float) -> None:
        """No worker, and none before somebody wants everything again."""
        self._standby.end(now)
        self._send_away(None, now)
        self._agenda.all_wanted = False

    def give_up(self, now: float) -> None:
        """The library is of no use."""
        self._places.give_up(self._path)
        self.rest(now)

    # --- what the loop calls ---------------------------------------------------------------------

    def tick(self, now: float) -> None:
        for key in self._workers.reap(now):
            if key is not None:
                self._left_out.may_answer(key, now)
            self._agenda.all_wanted = self._agenda.all_wanted or self.worker is None
        worker = self.worker
        if worker is not None and worker.has_ended():
            while worker is self.worker and self._take(worker):
                pass  # all that it said before its end
            if worker is self.worker:
                self._died(worker, now)
        elif worker is not None and now >= self._check_at:
            self._check(worker, now)
        mute = self._picture.mute()
        self._standby.check(mute, now)
        if now >= self._standby_at():
            self._standby.begin(self._path, mute, now)
        elif not self._is_standby_wanted() or self._standby.is_outdated(mute, now):
            self._standby.end(now)
        self.proceed(now)

    def next_at(self) -> float:
        times = [self._workers.next_at(), self._check_at, self._standby.next_at()]
        times.append(self._standby_at())
        if self._request is None and self._agenda.all_wanted:
            times.append(self._workers.fork_at)
        elif self._request is None and self.worker is not None:
            times.append(self._agenda.next_at(self._held()))
        return min(times)

    def close(self) -> None:
        self._standby.end(0.0)
        self._workers.close()
        self._request = None

    def proceed(self, now: float) -> None:
        """The next request, when there is one to be made."""
        held = self._held()
        # Without a worker, only a wish to know all is worth a fork.
        due = self._agenda.all_wanted or (self.worker and self._agenda.is_due(now, held))
        if self._request is not None or not due:
            return
        worker = self.worker or self._fork(now)
        request = self._agenda.next(now, held, self._picture.knows) if worker else None
        if worker is not None and request is not None:
            self._request = request
            self._check_at = now + self._deadline_s
            self._calls = -1
            worker.send(request)

    def _held(self) -> Collection[ChipKey]:
        """Chips that hung and are not tried: a worker that is lost must have a successor, and while
        one hangs, dcmi_init may."""
        if self._workers.adopted and not self._standby.is_ready:
            return self._left_out.chips()
        return self._workers.held()

    def _standby_at(self) -> float:
        """When one is to be forked; not while an earlier process may still hang in the driver, nor
        while a chip is being reset, which dcmi_init would ask."""
        is_first = self.worker is not None and self._standby.worker is None
        not_now = self._workers.has_doomed() or self._left_out.has_reset()
        if not is_first or not_now or not self._is_standby_wanted():
            return float("inf")
        if self._workers.adopted or self._standby.is_to_take_over:
            return self._standby.try_at
        return max(self._standby.try_at, self._workers.began_at + standby.AFTER_S)

    def _is_standby_wanted(self) -> bool:
        """It has 2.8 MiB (measured), so not for as long as all is well."""
        return self._standby.is_to_take_over or self._picture.is_any_ill()

    def _stands_by(self, now: float) -> None:
        if self._standby.is_to_take_over:
            self._send_away(None, now)
            self._agenda.all_wanted = True
        self.proceed(now)

    def _fork(self, now: float) -> WorkerProcess | None:
        self._path = self._places.find()
        try:
            worker = self._adopt(now) or self._workers.fork(self._path, now)
        except (TooManyLost, OSError) as error:
            self._agenda.all_wanted = False
            lost = isinstance(error, TooManyLost)
            self._hearer.no_worker(str(error) if lost else f"cannot fork: {error}")
            return None
        if worker is not None:
            self._agenda.all_wanted = True
            self._hearer.worker_begins()
        return worker

    def _adopt(self, now: float) -> WorkerProcess | None:
        if now < self._workers.fork_at:
            return None
        ready = self._standby.take_over(self._path)
        if ready is not None:
            self._workers.adopt(ready, now)
        else:
            self._standby.end(now)  # it is not through dcmi_init, or has another library
        return ready

    # --- hearing ---------------------------------------------------------------------------------

    def _take(self, worker: WorkerProcess) -> bool:
        """Whether there may be more to take at once."""
        now = time.monotonic()
        try:
            messages, is_open = worker.receive()
        except Garbage as error:
            self._replace(worker, f"it said what is no message: {error}", now)
            return False
        for message in messages:
            if worker is self.worker:  # not sent away because of the message before
                self._hear(message, now)
        if worker is self.worker and not is_open:
            self._workers.unlink(worker)
            worker.kill()  # without its link it is of no use; `tick` sees its end
        self.proceed(now)
        return is_open and bool(messages)

    def _hear(self, message: Told, now: float) -> None:
        if not isinstance(message, Done):
            self._hearer.hear(message, now)
            return
        request, self._request = self._request, None
        self._check_at = float("inf")
        if request is not None:
            self._hearer.request_ends(request, now)

    # --- workers that hang, die or lie -----------------------------------------------------------

    def _check(self, worker: WorkerProcess, now: float) -> None:
        call, calls = worker.note.under_way(), worker.note.count()
        if call is not None and now - call.started_at >= self._deadline_s:
            self._hangs(worker, call, now)
        elif call is not None:
            self._check_at = call.started_at + self._deadline_s
        elif calls == self._calls:
            self._replace(worker, "it stands still", now)
        else:
            self._check_at = now + self._deadline_s
        self._calls = calls

    def _hangs(self, worker: WorkerProcess, call: Call, now: float) -> None:
        self._log.warning(
            "probe hangs", call=call.name, card=call.card, chip=call.chip, pid=worker.pid
        )
        if call.card < 0:
            self.rest(now)
        else:
            key = (call.card, call.chip)
            self._send_away(key, now)
            self._left_out.hangs(key, call, now)
            self._agenda.all_wanted = True
        self._hearer.call_hangs(call, now)

    def _died(self, worker: WorkerProcess, now: float) -> None:
        call = worker.note.under_way()
        within = f" in {call.name}" if call else ""
        self._replace(worker, f"it ended {worker.how_it_ended()}{within}", now)

    def _replace(self, worker: WorkerProcess, why: str, now: float) -> None:
        self._log.warning("libdcmi's process is replaced", pid=worker.pid, reason=why)
        self._workers.doom_for_a_fault(now)
        self._forget_request()
        self._agenda.all_wanted = True
        self._hearer.worker_fails(why, now)

    def _send_away(self, key: ChipKey | None, now: float) -> None:
        """`key`: the chip that its call hangs on."""
        self._workers.doom(key, now)
        self._forget_request()

    def _forget_request(self) -> None:
        self._request = None
        self._check_at = float("inf")
        self._agenda.worker_is_gone()
