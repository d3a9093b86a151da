# SPDX-License-Identifier: MulanPSL-2.0
"""Watches an engine that serves: asks what `liveness` wants to know, tells what it finds.

While the engine is well it rests until the next look. The clock is the time that this process lived
through: a step of it that took far longer than it should (the machine was paused, or had no CPU to
give) counts as a short one, so that no deadline of the engine's passes in it.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field

from agent.health.liveness import answered, asked, deadline_s, hint, judge, rest_s, wanted
from agent.health.metrics import Work
from agent.health.state import Liveness, Outcome, Question, Rules, Verdict

TICK_S = 0.5
LATE_S = 0.5  # a step may take so much longer than it should
# Longer than any deadline of `liveness` (a canary's is half of `longest_step_s`, at most 3600 s, or
# of UNCOUNTED_S): it is the lived time that ends a question.
ASK_DEADLINE_S = 3600.0

Ask = Callable[[Question, float], Coroutine[None, None, tuple[Outcome, Work | None]]]
Report = Callable[[Verdict | None, Liveness, float], None]


@dataclass
class Watch:
    """`report` is told of each verdict, with what it rests on and the time of it; and, after one,
    of an engine that works again (None)."""

    ask: Ask
    rules: Rules
    report: Report
    each_turn: Callable[[], None] = lambda: None
    _hinted: asyncio.Event = field(default_factory=asyncio.Event)
    _lived_s: float = 0.0
    _stepped_at: float = field(default_factory=time.monotonic)
    _step_s: float = TICK_S  # how long the present one should take
    _verdict: Verdict | None = None
    _asking: dict[Question, "asyncio.Task[tuple[Outcome, Work | None]]"] = field(
        default_factory=dict
    )

    def hint(self) -> None:
        """Something may have happened to the engine."""
        self._hinted.set()

    async def run(self) -> None:
        """From the moment on in which the engine serves; ends only by cancellation."""
        state = Liveness(life_at=self._lived_s)
        try:
            while True:
                self.each_turn()
                state = self._turn(state)
                await self._wait(state)
        finally:
            await _end(list(self._asking.values()))

    def _turn(self, state: Liveness) -> Liveness:
        now = self._live()
        if self._hinted.is_set():
            self._hinted.clear()
            state = hint(state, now)
        state = self._collect(state, now)
        if self._verdict is not None and state.life_at == now:
            self._verdict = None
            self.report(None, state, now)
        verdict = judge(state, now, self.rules)
        if verdict is not None:
            self._verdict = verdict
            self.report(verdict, state, now)
            # Whoever was told decides; should it be to go on, all of it has to be seen anew: what
            # is still being asked may wait for ever on a way that is gone.
            for task in self._asking.values():
                task.cancel()
            self._asking.clear()
            return Liveness(life_at=now, slowest_s=state.slowest_s, slowest_at=state.slowest_at)
        for question in wanted(state, now, self.rules):
            self._asking[question] = asyncio.create_task(self.ask(question, ASK_DEADLINE_S))
            state = asked(state, question, now)
        return state

    def _live(self) -> float:
        now = time.monotonic()
        self._lived_s += min(now - self._stepped_at, self._step_s + LATE_S)
        self._stepped_at = now
        return self._lived_s

    def _collect(self, state: Liveness, now: float) -> Liveness:
        for question, task in list(self._asking.items()):
            if task.done():
                outcome, work = task.result()
            elif now - state.door(question).asked_at >= deadline_s(
                question, state, now, self.rules
            ):
                task.cancel()
                outcome, work = Outcome.TIMEOUT, None
            else:
                continue
            del self._asking[question]
            state = answered(state, question, outcome, now, work)
        return state

    async def _wait(self, state: Liveness) -> None:
        """For an answer, at most for one tick; while nothing is asked, for a hint or until
        something is to be asked."""
        if self._asking:
            self._step_s = TICK_S
            await asyncio.wait(
                self._asking.values(), timeout=TICK_S, return_when=asyncio.FIRST_COMPLETED
            )
            return
        rest = rest_s(state, self._lived_s)
        self._step_s = TICK_S if rest is None else rest
        with suppress(TimeoutError):
            async with asyncio.timeout(self._step_s):
                await self._hinted.wait()


async def _end(tasks: "list[asyncio.Task[tuple[Outcome, Work | None]]]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
