# SPDX-License-Identifier: MulanPSL-2.0
"""libdcmi as a source: keeps a worker, asks it, and lives with one that hangs, dies or lies.

Comes in: `begin`, and the loop's events. Goes out: Inventories, a whole reading through
`on_account`, what happens in between (a fault event) through `on_news` at the same turn.

    deadline of one vendor call 5 s  <  npud says "probe hangs" 10 s  <  watchdog 30 s

A worker whose call hangs is killed, and another takes over that leaves the chip out. One in D
state survives that (facts: ascend 1.5): it is lost, and kept in mind until it ends one day.
"""

import os
import time
from dataclasses import dataclass, replace
from selectors import EVENT_READ, BaseSelector

from agent.model import DriverState, Inventory
from agent.npud.child import Kill
from agent.npud.dcmi import abi
from agent.npud.dcmi.account import Chip, npu_of
from agent.npud.dcmi.calls import Call
from agent.npud.dcmi.faults import Faults
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
from agent.npud.dcmi.process import WorkerProcess, kill_process
from agent.npud.dcmi.resets import Resets
from agent.npud.log import Log
from agent.npud.source import OCCUPIED_MEANS, OnAccount, OnReset, Source

DEADLINE_S = 5.0
KILL_GRACE_S = 1.0
MAX_LOST = 4
STATES_EVERY_S = 2.0  # where there are no events
RETRY_S, MAX_RETRY_S = 10.0, 60.0  # a chip whose call hung
RESPAWN_S, MAX_RESPAWN_S = 1.0, 60.0  # a worker that died by itself
SOUND_AFTER_S = 120.0  # a worker that lived so long had no trouble from the start
UNUSABLE_FOR_S = 600.0  # before the same file is tried again


_Identity = tuple[str, int, int]  # of a file: path, inode, time of change


@dataclass(frozen=True, slots=True)
class _LeftOut:
    """A chip that is not asked at present."""

    reason: str
    tries: int  # that hung; 0: it is being reset
    retry_at: float


@dataclass(slots=True)
class _Doomed:
    """A worker that was killed, until it is gone."""

    worker: WorkerProcess
    lost_at: float
    key: ChipKey | None  # the chip whose call it hangs in
    lost: bool = False  # killed, and still there


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
        self._selector = selector
        self._on_account = on_account
        self._on_news = on_news
        self._log = log
        self._fallback = fallback
        self._places = places
        self._deadline_s = deadline_s
        self._kill = kill
        self._resets = Resets(selector, kill)
        self._path = ""  # of the newest worker's library
        self._unusable: dict[_Identity, float] = {}  # files, and until when

        self._worker: WorkerProcess | None = None
        self._doomed: list[_Doomed] = []
        self._forked_at = self._fork_at = 0.0
        self._deaths = 0
        self._request: Request | None = None  # under way
        self._check_at = float("inf")
        self._calls = -1  # of the worker at the last check

        self._full_wanted = False
        self._wanted: dict[ChipKey, None] = {}  # chips, the first asked for first
        self._states_at = float("inf")
        self._left_out: dict[ChipKey, _LeftOut] = {}

        self._driver, self._detail = DriverState.UNKNOWN, "the driver has not answered yet"
        self._version = ""
        self._listed = self._complete = False  # by the worker of now
        self._chips: dict[ChipKey, Chip] = {}
        self._faults = Faults()

    # --- what the loop calls ---------------------------------------------------------------------

    def begin(self, now: float) -> None:
        path = self._find()
        if path:
            self._full_wanted = True
            self._proceed(now)
        else:
            self._dismiss(now)
            self._fallback.begin(now)

    def tick(self, now: float) -> None:
        self._fallback.tick(now)
        for key in self._resets.tick(now):
            self._left_out.pop(key, None)
            self._full_wanted = self._full_wanted or self._worker is not None
        self._reap(now)
        if self._worker is not None and self._worker.has_ended():
            self._take(self._worker)  # what it said before
            if self._worker is not None:
                self._died(self._worker, now)
        elif self._worker is not None and now >= self._check_at:
            self._check(self._worker, now)
        if self._faults.expire(now):
            self._tell_news()
        self._proceed(now)

    def next_at(self) -> float:
        times = [
            self._fallback.next_at(),
            self._resets.next_at(),
            self._check_at,
            self._faults.next_at(),
            *(one.lost_at for one in self._doomed if not one.lost),
        ]
        if self._request is None:
            if self._full_wanted:
                times.append(self._fork_at)
            elif self._worker is not None:
                times.append(self._states_at)
                times.extend(one.retry_at for one in self._retryable().values())
        return min(times)

    def close(self) -> None:
        self._fallback.close()
        self._resets.close()
        worker = self._release()
        for one in (*(one.worker for one in self._doomed), worker):
            if one is not None:
                one.kill()

    def reset(self, logic_id: int, on_end: OnReset, now: float) -> None:
        chip = next((chip for chip in self._chips.values() if chip.logic_id == logic_id), None)
        path = self._find()
        if chip is None or not path or self._driver is not DriverState.READY:
            on_end(False, "libdcmi knows no such chip now")
        elif chip.key in self._left_out:
            on_end(False, self._left_out[chip.key].reason)
        elif self._resets.start(path, chip.key, on_end, now):
            # Its answers would be those of a chip that is not there; the call might even hang.
            self._left_out[chip.key] = _LeftOut("reset under way", 0, float("inf"))
            self._tell_news()

    # --- which library ---------------------------------------------------------------------------

    def _find(self) -> str:
        """The first that is there and not known to be of no use; "" when there is none."""
        for path in self._places:
            identity = _identity(path)
            until = self._unusable.get(identity, 0.0) if identity else float("inf")
            if time.monotonic() >= until:
                return path
        return ""

    def _give_up_on(self, detail: str, now: float) -> None:
        """npu-smi has to do, until the file is another one or some time has passed."""
        self._log.warning("libdcmi cannot be used, npu-smi is asked instead", reason=detail)
        identity = _identity(self._path)
        if identity is not None:
            self._unusable = {**self._unusable, identity: now + UNUSABLE_FOR_S}
        self._dismiss(now)
        self._forget()
        self._full_wanted = False
        self._fallback.begin(now)

    # --- asking ----------------------------------------------------------------------------------

    def _proceed(self, now: float) -> None:
        if self._request is not None or not self._is_something_due(now):
            return
        if self._worker is None and not self._fork(now):
            return
        request = self._next_request(now)
        if self._worker is not None and request is not None:
            self._request = request
            self._check_at = now + self._deadline_s
            self._calls = -1
            self._worker.send(request)

    def _is_something_due(self, now: float) -> bool:
        if self._full_wanted or self._worker is None:
            return self._full_wanted
        return bool(self._wanted) or now >= self._states_at or self._retry(now) is not None

    def _next_request(self, now: float) -> Request | None:
        if self._full_wanted:
            self._full_wanted = False
            self._wanted.clear()
            return Request(Look.ALL, leave_out=tuple(self._left_out))
        while self._wanted:
            key = next(iter(self._wanted))
            del self._wanted[key]
            if not self._why_left_out(key):
                return Request(Look.CHIP, key)
        key_again = self._retry(now)
        if key_again in self._chips and key_again is not None:
            return Request(Look.CHIP, key_again)
        if key_again is not None:  # not even listed yet, or a card as a whole
            others = tuple(key for key in self._left_out if key != key_again)
            return Request(Look.ALL, leave_out=others)
        if now >= self._states_at:
            self._states_at = now + STATES_EVERY_S
            return Request(Look.STATES, leave_out=tuple(self._left_out))
        return None

    def _retry(self, now: float) -> ChipKey | None:
        retryable = self._retryable().items()
        return next((key for key, one in retryable if now >= one.retry_at), None)

    def _retryable(self) -> dict[ChipKey, _LeftOut]:
        """A chip is not asked while a process still hangs in a call on it."""
        held = {one.key for one in self._doomed}
        return {key: one for key, one in self._left_out.items() if key not in held}

    def _fork(self, now: float) -> bool:
        if now < self._fork_at:
            return False
        lost = [one for one in self._doomed if one.lost]
        if len(lost) >= MAX_LOST:
            self._full_wanted = False
            self._fail(DriverState.UNKNOWN, self._all_hangs(lost))
            self._on_account(self._account())
            return False
        if len(self._doomed) >= MAX_LOST:  # it is known in a moment which of them are lost
            self._fork_at = min(one.lost_at for one in self._doomed if not one.lost)
            return False
        self._path = self._find()
        try:
            worker = WorkerProcess(self._path, self._kill)
        except OSError as error:
            self._full_wanted = False
            self._fail(DriverState.UNKNOWN, f"cannot fork: {error.strerror}")
            self._on_account(self._account())
            return False
        self._worker = worker
        self._forked_at = now
        self._full_wanted = True  # it has to know the chips before it can be asked about them
        self._listed = self._complete = False
        self._states_at = float("inf")
        self._selector.register(worker.link, EVENT_READ, lambda _mask: self._take(worker))
        return True

    def _all_hangs(self, lost: list[_Doomed]) -> str:
        call = lost[-1].worker.note.under_way()
        pids = ", ".join(str(one.worker.pid) for one in lost)
        return f"probe hangs: {call.name if call else '?'}; processes {pids} cannot be killed"

    # --- hearing ---------------------------------------------------------------------------------

    def _take(self, worker: WorkerProcess) -> None:
        now = time.monotonic()
        try:
            messages, open_ = worker.receive()
        except Garbage as error:
            self._replace(worker, f"it said what is no message: {error}", now)
            return
        for message in messages:
            if worker is self._worker:  # and not sent away by the message before
                self._hear(message, now)
        if worker is self._worker and not open_ and worker.link in self._selector.get_map():
            self._selector.unregister(worker.link)
            if not worker.has_ended():
                worker.kill()  # without its link it is of no use; `tick` sees its end
        self._proceed(now)

    def _hear(self, message: Told, now: float) -> None:
        match message:
            case Started(subscribed, detail):
                self._started(subscribed, detail, now)
            case Unusable(detail):
                self._give_up_on(detail, now)
            case Refused(call, code):
                self._refused(call, code, now)
            case Listed(chips, version):
                self._list(chips, version)
            case State():
                self._take_state(message)
            case Details(key):
                if key in self._chips:
                    self._chips[key] = replace(self._chips[key], details=message)
                    self._tell_progress()
            case FaultTold():
                self._take_event(message, now)
            case Done():
                self._done(now)
            case ResetEnded():
                return

    def _started(self, subscribed: bool, detail: str, now: float) -> None:
        if subscribed:
            return
        self._states_at = now + STATES_EVERY_S
        self._log.warning("no fault events: asking again and again", reason=detail)

    def _refused(self, call: str, code: int, now: float) -> None:
        detail = f"libdcmi: {call}: ret is {abi.name_of_code(code)}"
        if code == abi.OCCUPIED:
            detail += OCCUPIED_MEANS
        self._dismiss(now)  # the next one begins with dcmi_init
        self._full_wanted = False
        self._fail(DriverState.FAILED, detail)
        if code == abi.NOT_LOADED:
            self._forget()
        self._on_account(self._account())

    def _list(self, chips: tuple[tuple[int, int, int], ...], version: str) -> None:
        self._listed = True
        self._version = version
        listed = {(card, chip): logic_id for card, chip, logic_id in chips}
        for key, chip in self._chips.items():
            self._chips[key] = replace(chip, listed=key in listed or bool(self._why_left_out(key)))
        for key, logic_id in listed.items():
            before = self._chips.get(key)
            if before is None or before.logic_id != logic_id:
                self._chips[key] = Chip(key, logic_id)

    def _take_state(self, state: State) -> None:
        chip = self._chips.get(state.chip)
        if chip is None:
            return
        self._chips[state.chip] = replace(chip, state=state)
        if state.code == abi.DROPPED:
            self._faults.take_drop(chip.logic_id, time.time())
        elif state.faults is not None:
            self._faults.take_query(chip.logic_id, state.faults, state.asked_at, time.time())
        self._tell_progress()

    def _take_event(self, event: FaultTold, now: float) -> None:
        self._faults.take_event(event, now, time.time())
        self._tell_news()  # before anything else: it is what a decision waits for
        chip = next((one for one in self._chips.values() if one.logic_id == event.logic_id), None)
        if chip is None:
            self._full_wanted = True  # a chip that nobody has heard of
        else:
            self._wanted[chip.key] = None

    def _done(self, now: float) -> None:
        request, self._request = self._request, None
        self._check_at = float("inf")
        if request is None:
            return
        asked = set(self._left_out) - set(request.leave_out)
        for key in {request.chip} if request.look is Look.CHIP else asked:
            if key in self._left_out and self._left_out[key].tries:
                del self._left_out[key]  # it answers
        if request.look is not Look.ALL:
            self._tell_news()
            return
        self._complete = True
        self._driver, self._detail = DriverState.READY, ""
        if self._is_deaf():
            self._dismiss(now)
        self._on_account(self._account())

    def _is_deaf(self) -> bool:
        """No chip can be asked: the driver may have been loaded anew, behind this worker's back."""
        states = [chip.state for chip in self._chips.values() if chip.state is not None]
        failed = [one for one in states if one.health is None and one.code != abi.DROPPED]
        return bool(states) and len(failed) == len(states)

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
        reason = f"probe hangs: {call.name}"
        if call.card < 0:
            self._doom(worker, None, now)
            self._fail(DriverState.UNKNOWN, reason)
            self._full_wanted = False
            self._on_account(self._account())
            return
        key = (call.card, call.chip)
        self._doom(worker, key, now)
        tries = self._left_out[key].tries + 1 if key in self._left_out else 1
        pause_s = min(RETRY_S * 2.0 ** min(tries - 1, 8), MAX_RETRY_S)
        self._left_out[key] = _LeftOut(reason, tries, now + pause_s)
        self._full_wanted = True
        if self._listed:
            self._driver, self._detail = DriverState.READY, ""
            self._tell_news()

    def _died(self, worker: WorkerProcess, now: float) -> None:
        call = worker.note.under_way()
        within = f" in {call.name}" if call else ""
        self._replace(worker, f"it ended {worker.how_it_ended()}{within}", now)

    def _replace(self, worker: WorkerProcess, why: str, now: float) -> None:
        """By another one, after a pause that grows."""
        self._log.warning("libdcmi's process is replaced", pid=worker.pid, reason=why)
        if now - self._forked_at > SOUND_AFTER_S:
            self._deaths = 0
        self._deaths += 1
        served = self._complete
        self._doom(worker, None, now)
        self._fork_at = now + min(RESPAWN_S * 2.0 ** min(self._deaths - 1, 8), MAX_RESPAWN_S)
        self._full_wanted = True
        if not served:
            self._fail(DriverState.UNKNOWN, f"libdcmi's process fails: {why}")
            self._tell_news()

    def _doom(self, worker: WorkerProcess, key: ChipKey | None, now: float) -> None:
        self._release()
        worker.kill()
        self._doomed.append(_Doomed(worker, now + KILL_GRACE_S, key))
        self._reap(now)

    def _dismiss(self, now: float) -> None:
        if self._worker is not None:
            self._doom(self._worker, None, now)

    def _release(self) -> WorkerProcess | None:
        worker, self._worker = self._worker, None
        self._request = None
        self._check_at = self._states_at = float("inf")
        if worker is not None:
            if worker.link in self._selector.get_map():
                self._selector.unregister(worker.link)
            worker.close()
        return worker

    def _reap(self, now: float) -> None:
        for one in list(self._doomed):
            if one.worker.has_ended():
                self._doomed.remove(one)
                if one.lost:
                    self._found(one, now)
            elif now >= one.lost_at and not one.lost:
                one.lost = True
                self._log.warning("a process cannot be killed", pid=one.worker.pid, chip=one.key)

    def _found(self, ended: _Doomed, now: float) -> None:
        """The driver lets go at last: ask at once how it is."""
        if ended.key is not None and ended.key in self._left_out:
            self._left_out[ended.key] = replace(self._left_out[ended.key], retry_at=now)
        if self._worker is None:
            self._fork_at = now
            self._full_wanted = True

    # --- telling ---------------------------------------------------------------------------------

    def _tell_progress(self) -> None:
        """During a reading: at its end all is told at once the first time."""
        if self._complete:
            self._tell_news()

    def _tell_news(self) -> None:
        self._on_news(self._account())

    def _fail(self, driver: DriverState, detail: str) -> None:
        self._driver, self._detail = driver, detail
        self._complete = False

    def _forget(self) -> None:
        self._chips.clear()
        self._left_out.clear()
        self._faults.forget_all()

    def _why_left_out(self, key: ChipKey) -> str:
        one = self._left_out.get(key) or self._left_out.get((key[0], -1))
        return one.reason if one else ""

    def _account(self) -> Inventory:
        account = Inventory(self._driver, self._detail, self._version, source="dcmi")
        if self._driver is not DriverState.READY:
            return account
        chips = sorted(self._chips.values(), key=lambda chip: chip.logic_id)
        details = [chip.details for chip in chips if chip.details is not None]
        return replace(
            account,
            npus=tuple(
                npu_of(chip, self._faults.of(chip.logic_id), self._why_left_out(chip.key))
                for chip in chips
            ),
            board_id=next((one.board_id for one in details if one.board_id is not None), None),
        )


def _identity(path: str) -> _Identity | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (path, status.st_ino, status.st_mtime_ns)
