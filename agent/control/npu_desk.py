# SPDX-License-Identifier: MulanPSL-2.0
"""What the writer knows of the NPUs: takes what happens to them, asks policy, sees that it is done.

Instances are stopped and NPUs reset elsewhere (`lose`, `reset`); everything that is decided becomes
an event, with what the NPU looked like.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

from agent.config.values import Config, Mode
from agent.control.events import OBSERVED, EventLog
from agent.control.messages import ResetDone
from agent.control.thinning import Thinning, Word
from agent.errors import Code, Failure
from agent.model import DriverState, Inventory, Npu, Phase, ResetOutcome, Unfit
from agent.policy.npu.decide import decide_npus, gathered_at, unfit
from agent.policy.npu.reset import wants_reset
from agent.policy.npu.state import (
    Fleet,
    Holding,
    Note,
    NpuDecision,
    NpuEvent,
    NpusSeen,
    Release,
    ResetEnded,
    ResetNpus,
    Rules,
    SetAside,
    StopInstance,
    SuspectHost,
    TrustHost,
)

# Whoever has an NPU and is not ours is not looked for again before.
OTHERS_KEPT_S = 300.0
# A process that has just ended is in the driver's list until that is read again.
REFRESH_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class Orders:
    """What the desk has others do."""

    lose: Callable[[str, Failure], None]  # stop an instance, and start it anew
    reset: Callable[[ResetNpus], None]
    refresh: Callable[[], None]  # have npud read now


class NpuDesk:
    """`fleet` is what the agent before this one has left; `config` tells what is in force now."""

    def __init__(
        self, config: Callable[[], Config], fleet: Fleet, events: EventLog, orders: Orders
    ) -> None:
        self._config = config
        self.fleet = fleet
        self.inventory = Inventory(DriverState.UNKNOWN, detail="npud has not answered yet")
        self.unfit: tuple[Unfit, ...] = ()
        self._events = events
        self._orders = orders
        self._thinning = Thinning()
        self._others: frozenset[int] = frozenset()
        self._others_until = self._refreshed_at = float("-inf")
        self._busy: dict[tuple[int, ...], str] = {}  # why a reset was not possible, as was told

    @property
    def rules(self) -> Rules:
        config = self._config()
        return Rules(config.npu, config.faults)

    def look(self, holdings: tuple[Holding, ...]) -> bool:
        """At what is known by now. Returns whether other NPUs can be chosen than before."""
        if time.monotonic() >= self._others_until:
            self._others = frozenset()
        others = self._others
        if any(one.phase is not Phase.STARTING and not one.npus for one in holdings):
            # An engine that was there before the agent, and Podman has not told what it has: any.
            others = frozenset(npu.logic_id for npu in self.inventory.npus)
        news = self.take(NpusSeen(self.inventory, holdings, others))
        self._forget_busy()
        self._refresh()
        return news

    def take(self, event: NpuEvent) -> bool:
        """The same, for anything that has happened."""
        suspect = self.fleet.suspect
        self.fleet, decisions = decide_npus(self.fleet, event, time.monotonic(), self.rules)
        for decision in decisions:
            self._carry_out(decision)
        before, self.unfit = self.unfit, unfit(self.fleet, self.rules)
        return self.unfit != before or self.fleet.suspect != suspect

    def take_reset(self, done: ResetDone) -> bool:
        """A reset has come to its end."""
        report = done.report
        if report.others:
            self._others = report.others
            self._others_until = time.monotonic() + OTHERS_KEPT_S
        is_busy = report.outcome is ResetOutcome.BUSY
        told = self._busy.pop(done.npus, None)
        if is_busy:
            self._busy[done.npus] = report.detail
        if not is_busy or (told != report.detail and self._is_news("npu-reset-ended", done.npus)):
            how = " cannot be reset now:" if is_busy else f": {report.outcome},"
            words = f"{_numbers(done.npus)}{how} {report.detail}"
            self._events.note_npu(self._seen(done.npus[0]), "npu-reset-ended", words)
        return self.take(ResetEnded(done.npus, report.outcome, report.detail))

    def why_lost(self, instance: str, npus: tuple[int, ...]) -> Failure | None:
        """What became known of these while the start of `instance` on them was under way."""
        found = next((one for one in self.unfit if one.logic_id in npus), None)
        if found is None:
            return None
        reason = f"NPU {found.logic_id}: {found.reason}"
        words = f"{reason}, since its start began; it is stopped, and started anew"
        self._events.note_npu(self._seen(found.logic_id), "npu-lost", words, instance)
        return _lost(reason)

    def due_s(self, now: float) -> float:
        """Until something is to be done that no event will bring."""
        return gathered_at(self.fleet, now, self.rules) - now

    # --- doing -----------------------------------------------------------------------------------

    def _carry_out(self, decision: NpuDecision) -> None:
        match decision:
            case Note():
                self._note(decision)
            case StopInstance():
                self._stop(decision)
            case ResetNpus():
                self._reset(decision)
            case SetAside(logic_id, quarantine):
                words = f"no model is started on it: {quarantine.reason}"
                self._events.note_npu(self._seen(logic_id), "npu-set-aside", words)
            case Release(logic_id, reason):
                words = f"it is used again: {reason}"
                self._events.note_npu(self._seen(logic_id), "npu-released", words)
            case SuspectHost(reason):
                words = f"{reason}: nothing is done about NPUs, what serves goes on"
                self._events.note("", "host-suspected", words)
            case TrustHost(reason):
                self._events.note("", "host-trusted", reason)
            case _:
                assert_never(decision)

    def _note(self, note: Note) -> None:
        kind = "npu-fault-over" if note.over else "npu-fault"
        word = self._thinning.ask((note.logic_id, note.fault.code, note.over), time.monotonic())
        if word is Word.SILENCE:
            return
        rule = self.rules.catalogue.rule_of(note.fault)
        words = [f"{note.fault.code} {rule.name_en}".strip(), f"({note.level})"]
        if not note.over and note.fault.text:
            words.append(f"- {note.fault.text}")
        if word is Word.LAST:
            words.append("- it comes and goes; not told again for some minutes")
        self._events.note_npu(self._seen(note.logic_id), kind, " ".join(words))

    def _stop(self, decision: StopInstance) -> None:
        act = self._config().mode is Mode.ACT
        words = "it is stopped, and started anew" if act else OBSERVED
        npu = self._seen(decision.npus[0])
        message = f"{decision.reason}; {words}"
        self._events.note_npu(npu, "npu-lost", message, decision.instance)
        if act:
            self._orders.lose(decision.instance, _lost(decision.reason))

    def _reset(self, decision: ResetNpus) -> None:
        if decision.npus not in self._busy and self._is_news("npu-reset", decision.npus):
            words = f"{_numbers(decision.npus)} is reset: {decision.reason}"
            self._events.note_npu(self._seen(decision.logic_id), "npu-reset", words)
        self._orders.reset(decision)

    def _is_news(self, kind: str, npus: tuple[int, ...]) -> bool:
        """A fault may come and go, and be over each time when the reset would begin."""
        return self._thinning.ask((kind, npus), time.monotonic()) is not Word.SILENCE

    def _forget_busy(self) -> None:
        """When nothing is to be reset any more: what comes later is another fault."""
        for npus in tuple(self._busy):
            if not any(wants_reset(self.fleet.of(one), self.rules) for one in npus):
                del self._busy[npus]

    def _refresh(self) -> None:
        """One that waits for a reset, while its processes are said to be there still."""
        rules, now = self.rules, time.monotonic()
        waits = (
            wants_reset(state, rules) and state.npu is not None and state.npu.processes
            for state in self.fleet.npus
        )
        if now >= self._refreshed_at + REFRESH_EVERY_S and any(waits):
            self._refreshed_at = now
            self._orders.refresh()

    def _seen(self, logic_id: int) -> Npu | int:
        return self.fleet.of(logic_id).npu or logic_id


def _lost(reason: str) -> Failure:
    return Failure(
        Code.NPU_LOST,
        f"cannot keep serving on an NPU that fails: {reason}",
        "it is started again by itself, on other NPUs or after a reset; see: deepseekctl npus",
    )


def _numbers(npus: tuple[int, ...]) -> str:
    return f"NPU {', '.join(str(number) for number in npus)}"
