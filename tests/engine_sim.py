# SPDX-License-Identifier: MulanPSL-2.0
"""An engine in simulated time for `health.liveness`: what it does when, and what the watch sees.

Nothing here waits: `watch` steps through the time as `health.watch` does and returns the verdicts.
It never rests, and sees that nothing is wanted while that one does.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from agent.health.liveness import answered, asked, deadline_s, hint, judge, rest_s, wanted
from agent.health.metrics import Work
from agent.health.state import Liveness, Outcome, Question, Rules, Verdict

STEP_S = 0.1
ROUNDING_S = 1e-6
Span = tuple[float, float]
NEVER = float("inf")
NO_RULES = Rules()


def _within(spans: Iterable[Span], at: float) -> float | None:
    """The end of the span that `at` is in."""
    return next((end for begin, end in spans if begin <= at < end), None)


def _overlap(one: Span, other: Span) -> float:
    return max(0.0, min(one[1], other[1]) - max(one[0], other[0]))


@dataclass
class SimEngine:
    """All times in seconds. A span that ends at NEVER lasts."""

    token_s: float = 0.05  # to answer a canary
    users: list[Span] = field(default_factory=list)  # tokens flow for users
    steps: list[Span] = field(default_factory=list)  # one long step: nothing comes before its end
    hung: list[Span] = field(default_factory=list)  # EngineCore stands still
    frozen: list[Span] = field(default_factory=list)  # nothing of the container moves
    stirs: bool | None = False  # its processes use the processor then; None: nobody knows
    dead: list[Span] = field(default_factory=list)  # nobody listens
    ill: list[Span] = field(default_factory=list)  # /health says 503
    cut: list[Span] = field(default_factory=list)  # the way to the port is
    unable: list[Span] = field(default_factory=list)  # our side cannot ask through the door
    metrics_s: float = 0.02
    gauges: float | None = None  # what the gauges say, whatever is true
    odd_canary: bool = False
    counts: bool = True  # --disable-log-stats: False
    known: bool = True  # where its container is

    def answer(self, question: Question, at: float) -> tuple[float, Outcome, Work | None]:
        """When an answer comes, and which."""
        if question is Question.STIRS:
            return at + 2.0, self._stirs(at), None
        if question is Question.INSIDE:
            if not self.known:
                return at, Outcome.UNABLE, None
        else:
            if _within(self.unable, at) is not None:
                return at, Outcome.UNABLE, None
            if (end := _within(self.cut, at)) is not None:
                return NEVER, Outcome.TIMEOUT, None
        if _within(self.dead, at) is not None:
            return at, Outcome.REFUSED, None
        match question:
            case Question.METRICS:
                end = self._thawed(at + self.metrics_s, at)
                if not self.counts:
                    return end, Outcome.ODD, None
                return end, Outcome.OK, Work(self._tokens(end), self._requests(end))
            case Question.HEALTH | Question.INSIDE:
                end = self._thawed(at + 0.002, at)
                ill = _within(self.ill, end) is not None
                return end, (Outcome.ILL if ill else Outcome.OK), None
            case Question.CANARY:
                end = self._thawed(self._computed(at), at)
                if _within(self.ill, at) is not None:
                    return at + 0.01, Outcome.ILL, None
                return end, (Outcome.ODD if self.odd_canary else Outcome.OK), None

    def _stirs(self, at: float) -> Outcome:
        if self.stirs is None:
            return Outcome.UNABLE
        stands = _within(self.frozen, at) is not None and not self.stirs
        return Outcome.TIMEOUT if stands else Outcome.OK

    def _thawed(self, end: float, begin: float) -> float:
        for at in (begin, end):
            if (thaw := _within(self.frozen, at)) is not None:
                end = max(end, thaw + 0.05)
        return end

    def _computed(self, at: float) -> float:
        end = at + self.token_s
        for spans in (self.steps, self.hung):
            if (free := _within(spans, at)) is not None:
                end = max(end, free + self.token_s)
        return end

    def _tokens(self, at: float) -> float:
        """Grows with the time in which users' tokens flow."""
        still = [*self.steps, *self.hung, *self.frozen]
        flowing = 0.0
        for begin, end in self.users:
            flowing += _overlap((begin, end), (0.0, at))
            flowing -= sum(_overlap((begin, min(end, at)), span) for span in still)
        return flowing * 100

    def _requests(self, at: float) -> float:
        if self.gauges is not None:
            return self.gauges
        return 8.0 if _within(self.users, at) is not None else 0.0


@dataclass(frozen=True, slots=True)
class Seen:
    at: float
    verdict: Verdict


@dataclass
class Watched:
    verdicts: list[Seen] = field(default_factory=list)
    canaries: list[float] = field(default_factory=list)
    asked: list[tuple[float, Question]] = field(default_factory=list)


def watch(
    engine: SimEngine, until_s: float, rules: Rules = NO_RULES, hints: tuple[float, ...] = ()
) -> Watched:
    """Stops at the first verdict."""
    seen = Watched()
    flights: dict[Question, tuple[float, float, Outcome, Work | None]] = {}
    state, now = Liveness(life_at=0.0), 0.0
    rests_until = 0.0  # while `health.watch` would not look
    while now < until_s and not seen.verdicts:
        if any(now - STEP_S < at <= now for at in hints):
            state, rests_until = hint(state, now), now
        for question, (began, end, outcome, work) in list(flights.items()):
            if now >= end:
                del flights[question]
                state = answered(state, question, outcome, now, work)
            elif now - began >= deadline_s(question, state, now, rules):
                del flights[question]
                state = answered(state, question, Outcome.TIMEOUT, now, None)
        verdict = judge(state, now, rules)
        if verdict is not None:
            seen.verdicts.append(Seen(now, verdict))
            break
        questions = wanted(state, now, rules)
        assert not questions or now > rests_until - ROUNDING_S
        for question in questions:
            flights[question] = (now, *engine.answer(question, now))
            state = asked(state, question, now)
            seen.asked.append((now, question))
        rests_until = max(rests_until, now + (rest_s(state, now) or 0.0))
        now += STEP_S
    seen.canaries = [at for at, question in seen.asked if question is Question.CANARY]
    return seen
