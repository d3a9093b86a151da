# SPDX-License-Identifier: MulanPSL-2.0
"""libdcmi as a source: keeps a worker, asks it, and lives with one that hangs, dies or lies.

Comes in: `begin`, and the loop's events. Goes out: Inventories, a whole reading through
`on_account`, what happens in between (a fault event) through `on_news` at the same turn.

    deadline of one vendor call 5 s  <  npud says "probe hangs" 10 s  <  watchdog 30 s

A worker whose call hangs is killed, and another takes over that leaves the chip out.
"""

import time
from dataclasses import replace
from selectors import BaseSelector

from agent.model import DriverState, Inventory
from agent.npud.child import Kill
from agent.npud.dcmi import abi
from agent.npud.dcmi.agenda import Agenda
from agent.npud.dcmi.calls import Call
from agent.npud.dcmi.left_out import LeftOut
from agent.npud.dcmi.link import (
    ChipKey,
    Details,
    Done,
    FaultTold,
    Garbage,
    Listed,
    Look,
    Refused,
    Request,
    ResetEnded,
    Started,
    State,
    Told,
    Unusable,
)
from agent.npud.dcmi.picture import Picture
from agent.npud.dcmi.places import Places
from agent.npud.dcmi.process import WorkerProcess, kill_process
from agent.npud.dcmi.resets import Resets
from agent.npud.dcmi.workers import TooManyLost, Workers
from agent.npud.log import Log
from agent.npud.source import OCCUPIED_MEANS, OnAccount, OnReset, Source

DEADLINE_S = 5.0


class Dcmi(Source):
    def __init__(
        self,
        selector: BaseSelector,
        on_account: OnAccount,
        on_news: OnAccount,
        log: Log,
        fallback: Source,
        places: tuple[str, ...] = abi.PLACES,
        deadline_s: float = DEADLINE_S,
        kill: Kill = kill_process,
    ) -> None:
        self._on_account = on_account
        self._on_news = on_news
        self._log = log
        self._fallback = fallback
        self._places = Places(places)
        self._deadline_s = deadline_s
        self._workers = Workers(selector, log, kill, self._take)
        self._resets = Resets(selector, kill)
        self._left_out = LeftOut()
        self._picture = Picture(self._left_out.why)
        self._agenda = Agenda(self._left_out)
        self._path = ""  # of the newest worker's library

        self._request: Request | None = None  # under way
        self._check_at = float("inf")
        self._calls = -1  # of the worker at the last check

        self._driver, self._detail = DriverState.UNKNOWN, "the driver has not answered yet"
        self._listed = self._complete = False  # by the worker of now

    # --- what the loop calls ---------------------------------------------------------------------

    def begin(self, now: float) -> None:
        if self._places.find():
            self._agenda.all_wanted = True
            self._proceed(now)
        else:
            self._end_worker(None, now)
            self._fallback.begin(now)

    def tick(self, now: float) -> None:
        self._fallback.tick(now)
        for key in self._resets.tick(now):
            self._left_out.reset_ended(key)
            self._agenda.all_wanted = self._agenda.all_wanted or self._workers.worker is not None
        for key_found in self._workers.reap(now):
            if key_found is not None:
                self._left_out.may_answer(key_found, now)
            self._agenda.all_wanted = self._agenda.all_wanted or self._workers.worker is None
        worker = self._workers.worker
        if worker is not None and worker.has_ended():
            self._take(worker)  # what it said before
            if worker is self._workers.worker:
                self._died(worker, now)
        elif worker is not None and now >= self._check_at:
            self._check(worker, now)
        if self._picture.expire(now):
            self._tell_news()
        self._proceed(now)

    def next_at(self) -> float:
        times = [
            self._fallback.next_at(),
            self._resets.next_at(),
            self._workers.next_at(),
            self._picture.next_at(),
            self._check_at,
        ]
        if self._request is None and self._agenda.all_wanted:
            times.append(self._workers.fork_at)
        elif self._request is None and self._workers.worker is not None:
            times.append(self._agenda.next_at(self._workers.held()))
        return min(times)

    def close(self) -> None:
        self._fallback.close()
        self._resets.close()
        self._workers.close()
        self._request = None

    def reset(self, logic_id: int, on_end: OnReset, now: float) -> None:
        key, path = self._picture.key_of(logic_id), self._places.find()
        if key is None or not path or self._driver is not DriverState.READY:
            on_end(False, "libdcmi knows no such chip now")
        elif self._left_out.why(key):
            on_end(False, self._left_out.why(key))
        elif self._resets.start(path, key, on_end, now):
            # Its answers would be those of a chip that is not there; the call might even hang.
            self._left_out.is_reset(key)
            self._tell_news()

    # --- asking ----------------------------------------------------------------------------------

    def _proceed(self, now: float) -> None:
        held = self._workers.held()
        # Without a worker, only a wish to know all is worth a fork.
        due = self._agenda.all_wanted or (self._workers.worker and self._agenda.is_due(now, held))
        if self._request is not None or not due:
            return
        worker = self._workers.worker or self._fork(now)
        request = self._agenda.next(now, held, self._picture.knows) if worker else None
        if worker is not None and request is not None:
            self._request = request
            self._check_at = now + self._deadline_s
            self._calls = -1
            worker.send(request)

    def _fork(self, now: float) -> WorkerProcess | None:
        self._path = self._places.find()
        try:
            worker = self._workers.fork(self._path, now)
        except (TooManyLost, OSError) as error:
            self._agenda.all_wanted = False
            why = error if isinstance(error, TooManyLost) else f"cannot fork: {error.strerror}"
            self._fail(DriverState.UNKNOWN, str(why))
            self._on_account(self._account())
            return None
        if worker is not None:
            self._agenda.all_wanted = True
            self._listed = self._complete = False
        return worker

    # --- hearing ---------------------------------------------------------------------------------

    def _take(self, worker: WorkerProcess) -> None:
        now = time.monotonic()
        try:
            messages, is_open = worker.receive()
        except Garbage as error:
            self._replace(worker, f"it said what is no message: {error}", now)
            return
        for message in messages:
            if worker is self._workers.worker:  # not sent away because of the message before
                self._hear(message, now)
        if worker is self._workers.worker and not is_open:
            self._workers.unlink(worker)
            worker.kill()  # without its link it is of no use; `tick` sees its end
        self._proceed(now)

    def _hear(self, message: Told, now: float) -> None:
        match message:
            case Started(subscribed, detail):
                if not subscribed:
                    self._agenda.poll_states(now)
                    self._log.warning("no fault events: asking again and again", reason=detail)
            case Unusable(detail):
                self._give_up(detail, now)
            case Refused(call, code):
                self._refused(call, code, now)
            case Listed():
                self._listed = True
                self._picture.take_list(message)
            case State():
                self._picture.take_state(message, time.time())
                self._tell_progress()
            case Details():
                self._picture.take_details(message)
                self._tell_progress()
            case FaultTold():
                self._take_event(message, now)
            case Done():
                self._done(now)
            case ResetEnded():
                return  # of another kind of worker

    def _refused(self, call: str, code: int, now: float) -> None:
        detail = f"libdcmi: {call}: ret is {abi.name_of_code(code)}"
        if code == abi.OCCUPIED:
            detail += OCCUPIED_MEANS
        self._end_worker(None, now)  # the next one begins with dcmi_init
        self._agenda.all_wanted = False
        self._fail(DriverState.FAILED, detail)
        if code == abi.NOT_LOADED:
            self._forget()
        self._on_account(self._account())

    def _take_event(self, event: FaultTold, now: float) -> None:
        self._picture.take_event(event, now, time.time())
        self._tell_news()  # before anything else: it is what a decision waits for
        key = self._picture.key_of(event.logic_id)
        if key is None:
            self._agenda.all_wanted = True  # a chip that nobody has heard of
        else:
            self._agenda.want(key)

    def _done(self, now: float) -> None:
        request, self._request = self._request, None
        self._check_at = float("inf")
        if request is None:
            return
        if request.look is not Look.ALL:
            self._left_out.answer([request.chip] if request.look is Look.CHIP else [])
            self._tell_news()
            return
        self._left_out.answer(set(self._left_out.chips()) - set(request.leave_out))
        self._complete = True
        self._driver, self._detail = DriverState.READY, ""
        if self._picture.is_deaf():
            self._end_worker(None, now)
        self._on_account(self._account())

    def _give_up(self, detail: str, now: float) -> None:
        """npu-smi has to do."""
        self._log.warning("libdcmi cannot be used, npu-smi is asked instead", reason=detail)
        self._places.give_up(self._path)
        self._end_worker(None, now)
        self._forget()
        self._agenda.all_wanted = False
        self._fallback.begin(now)

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
            self._end_worker(None, now)
            self._fail(DriverState.UNKNOWN, f"probe hangs: {call.name}")
            self._agenda.all_wanted = False
            self._on_account(self._account())
            return
        key = (call.card, call.chip)
        self._end_worker(key, now)
        self._left_out.hangs(key, call, now)
        self._agenda.all_wanted = True
        if self._listed:
            self._driver, self._detail = DriverState.READY, ""
            self._tell_news()

    def _died(self, worker: WorkerProcess, now: float) -> None:
        call = worker.note.under_way()
        within = f" in {call.name}" if call else ""
        self._replace(worker, f"it ended {worker.how_it_ended()}{within}", now)

    def _replace(self, worker: WorkerProcess, why: str, now: float) -> None:
        self._log.warning("libdcmi's process is replaced", pid=worker.pid, reason=why)
        served = self._complete
        self._workers.doom_for_a_fault(now)
        self._forget_request()
        self._agenda.all_wanted = True
        if not served:
            self._fail(DriverState.UNKNOWN, f"libdcmi's process fails: {why}")
            self._tell_news()

    def _end_worker(self, key: ChipKey | None, now: float) -> None:
        self._workers.doom(key, now)
        self._forget_request()

    def _forget_request(self) -> None:
        self._request = None
        self._check_at = float("inf")
        self._agenda.worker_is_gone()

    # --- telling ---------------------------------------------------------------------------------

    def _tell_progress(self) -> None:
        """During a reading; at the end of the first one all is told together."""
        if self._complete:
            self._tell_news()

    def _tell_news(self) -> None:
        self._on_news(self._account())

    def _fail(self, driver: DriverState, detail: str) -> None:
        self._driver, self._detail = driver, detail
        self._complete = False

    def _forget(self) -> None:
        self._picture.forget()
        self._left_out.forget()

    def _account(self) -> Inventory:
        account = Inventory(self._driver, self._detail, self._picture.version, source="dcmi")
        if self._driver is not DriverState.READY:
            return account
        return replace(account, npus=self._picture.npus(), board_id=self._picture.board_id())
