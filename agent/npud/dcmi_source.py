# SPDX-License-Identifier: MulanPSL-2.0
"""libdcmi as a source: joins what is asked, what is known, what is left out, and resets.

Comes in: `begin`, `reset`, and the loop's events. Goes out: Inventories, a whole reading through
`on_account`, what happens in between (a fault event) through `on_news` at the same turn.

    deadline of one vendor call 5 s  <  npud says "probe hangs" 10 s  <  watchdog 30 s
"""

import time
from dataclasses import replace
from selectors import BaseSelector

from agent.model import DriverState, Inventory, ResetOutcome
from agent.npud.child import Kill
from agent.npud.dcmi import abi
from agent.npud.dcmi.asking import Asking, Hearer
from agent.npud.dcmi.calls import Call
from agent.npud.dcmi.left_out import LeftOut
from agent.npud.dcmi.messages import (
    Details,
    Done,
    FaultTold,
    Listed,
    Look,
    Ready,
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
from agent.npud.dcmi.process import kill_process
from agent.npud.dcmi.renewal import Renewal
from agent.npud.dcmi.reset_plan import plan_reset
from agent.npud.dcmi.resets import Resets
from agent.npud.devices import read_names
from agent.npud.log import Log
from agent.npud.requests import Reset
from agent.npud.source import (
    ANOTHER_RESET,
    OCCUPIED_MEANS,
    RESET_LIMITS,
    OnAccount,
    OnReset,
    ResetLimits,
    Source,
)

DEADLINE_S = 5.0

# A libdcmi that crashes does so again: after an upgrade of the driver, in one optional call. Of
# what npu-smi tells about, faults are missing; without it, nothing would be told.
MAX_FAILURES = 5


class Dcmi(Source, Hearer):
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
        limits: ResetLimits = RESET_LIMITS,
        folder: str = "/dev",
    ) -> None:
        self._on_account = on_account
        self._on_news = on_news
        self._log = log
        self._fallback = fallback
        self._places = Places(places)
        self._limits = limits
        self._folder = folder
        self._left_out = LeftOut()
        self._picture = Picture(self._left_out.why)
        self._resets = Resets(selector, kill, limits, deadline_s)
        self._asking = Asking(
            selector,
            log,
            kill,
            self._places,
            self._left_out,
            self._picture,
            deadline_s,
            self,
        )
        self._driver, self._detail = DriverState.UNKNOWN, "the driver has not answered yet"
        self._listed = self._complete = False  # by the worker of now
        self._deaf = False  # no chip answered when all were looked at
        self._renewal = Renewal()
        self._failures = 0  # of workers, since the last whole reading

    # --- what the loop calls ---------------------------------------------------------------------

    def begin(self, now: float) -> None:
        if self._places.find():
            self._asking.want_all()
            self._asking.proceed(now)
        else:
            self._asking.end_worker(now)
            self._fallback.begin(now)

    def tick(self, now: float) -> None:
        self._fallback.tick(now)
        self._end_reset(self._resets.tick(now))
        self._asking.tick(now)
        if self._picture.expire(now):
            self._tell_news()

    def next_at(self) -> float:
        return min(
            self._fallback.next_at(),
            self._resets.next_at(),
            self._picture.next_at(),
            self._asking.next_at(),
        )

    def close(self) -> None:
        self._fallback.close()
        self._resets.close()
        self._asking.close()

    # --- resets ----------------------------------------------------------------------------------

    def reset(self, request: Reset, on_end: OnReset, now: float) -> None:
        path = self._places.find()
        if not path:
            self._fallback.reset(request, on_end, now)
            return
        if self._driver is not DriverState.READY:
            on_end(ResetOutcome.BUSY, f"the driver does not answer: {self._detail}")
            return
        if self._resets.is_under_way():
            on_end(ResetOutcome.BUSY, ANOTHER_RESET)
            return
        devices = read_names(self._folder)
        order = plan_reset(request, self._picture, self._left_out, self._limits, devices)
        if isinstance(order, str):
            on_end(ResetOutcome.BUSY, order)
        elif self._resets.still_hangs(order.ring):
            on_end(ResetOutcome.BUSY, "an earlier reset hangs, and cannot be killed")
        elif self._resets.start(path, order, on_end, now):
            self._left_out.reset_begins(order.ring)
            self._tell_news()

    def _end_reset(self, ring: tuple[tuple[int, int], ...]) -> None:
        if not ring:
            return
        self._left_out.reset_ends(ring)
        self._picture.forget_states(ring)  # they were those of before
        if self._asking.worker is not None:
            self._asking.want_all()
        self._tell_news()

    # --- hearing ---------------------------------------------------------------------------------

    def worker_begins(self) -> None:
        self._listed = self._complete = False

    def hear(self, message: Told, now: float) -> None:
        match message:
            case Started(subscribed, detail):
                self._asking.poll_states(now, events=subscribed)
                if not subscribed:
                    self._log.warning("no fault events: asking again and again", reason=detail)
            case Unusable(detail):
                self._give_up(detail, now)
            case Refused(call, code):
                self._refused(call, code, now)
            case Listed():
                self._listed = True
                self._picture.take_list(message)
            case State() | Details():
                self._take_reading(message)
            case FaultTold():
                self._take_event(message, now)
            case Ready() | Done() | ResetEnded():
                return  # to somebody else

    def request_ends(self, request: Request, now: float) -> None:
        if request.look is Look.STATES:
            if self._picture.is_deaf() and not self._deaf:
                self._asking.want_all()  # is the driver there at all?
            return
        if request.look is Look.CHIP:
            self._left_out.answer([request.chip])
            self._tell_news()
            return
        self._left_out.answer(set(self._left_out.chips()) - set(request.leave_out))
        self._complete = True
        self._failures = 0
        self._driver, self._detail = DriverState.READY, ""
        self._deaf = self._picture.is_deaf()
        if self._deaf:
            self._asking.end_worker(now)
        elif self._is_one_missing(now):
            self._asking.renew_worker(now)
        self._on_account(self._account())

    def _is_one_missing(self, now: float) -> bool:
        nodes = read_names(self._folder).chips
        return self._renewal.is_due(self._picture.lacks_any(len(nodes)), nodes, now)

    def call_hangs(self, call: Call, now: float) -> None:
        del now
        if call.card < 0:
            self._fail(DriverState.UNKNOWN, f"probe hangs: {call.name}")
            self._on_account(self._account())
        elif self._listed:
            self._driver, self._detail = DriverState.READY, ""
            self._tell_news()

    def worker_fails(self, why: str, now: float) -> None:
        if self._complete:
            return
        self._failures += 1
        # Not counted anew by the next try in some minutes: one failure is enough then.
        if self._failures >= MAX_FAILURES:
            self._give_up(f"its process fails again and again: {why}", now)
            return
        self._fail(DriverState.UNKNOWN, f"libdcmi's process fails: {why}")
        self._tell_news()

    def no_worker(self, why: str) -> None:
        self._fail(DriverState.UNKNOWN, why)
        self._on_account(self._account())

    def _take_reading(self, message: State | Details) -> None:
        if self._left_out.is_under_reset(message.chip):
            return  # it was asked before, and has answered as what is not there
        if isinstance(message, State):
            is_news = self._picture.take_state(message, time.time())
        else:
            is_news = self._picture.take_details(message)
        if is_news and self._complete:  # at the end of the first reading all is told together
            self._tell_news()

    def _take_event(self, event: FaultTold, now: float) -> None:
        self._picture.take_event(event, now, time.time())
        self._tell_news()  # before anything else: it is what a decision waits for
        key = self._picture.key_of(event.logic_id)
        if key is None:
            self._asking.want_all()  # a chip that nobody has heard of
        else:
            self._asking.want(key)

    def _refused(self, call: str, code: int, now: float) -> None:
        detail = f"libdcmi: {call}: ret is {abi.name_of_code(code)}"
        if code == abi.OCCUPIED:
            detail += OCCUPIED_MEANS
        self._asking.rest(now)  # the next worker begins with dcmi_init
        self._fail(DriverState.FAILED, detail)
        if code == abi.NOT_LOADED:
            self._forget()
        self._on_account(self._account())

    def _give_up(self, detail: str, now: float) -> None:
        """npu-smi has to do."""
        self._log.warning("libdcmi cannot be used, npu-smi is asked instead", reason=detail)
        self._asking.give_up(now)
        self._forget()
        self._fallback.begin(now)

    # --- telling ---------------------------------------------------------------------------------

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
