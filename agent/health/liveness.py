# SPDX-License-Identifier: MulanPSL-2.0
"""Whether an engine that serves still works: what to ask it next, and what the answers mean. Pure.

Nothing that vLLM says about itself tells: with a stopped EngineCore /health says 200 for ever and
every gauge stands still or reads 0 (facts: serving-health). So:

* progress of its token counters is life; while they move nothing else is asked;
* when they have stood still for a while it is asked for one token (the canary), through the same
  door as users; an answer is life;
* canaries that stay without an answer for the whole of `patience_s`, two in a row at least, and one
  more look at the counters begun after that, are a hang. Longer than any step seen lately, and than
  the longest prompt can take: a slow engine is never taken for one that hangs;
* of an engine whose counters nobody understands (--disable-log-stats, other names) only canaries
  tell, which wait in its queue: two in a row that wait 15 minutes each in vain are a hang;
* who accepts connections and says nothing may be busy: vLLM parses requests in the loop that
  answers them, and /health took 30 to 40 s under load (vLLM #38157). While its processes compute it
  has a minute; one that stands still (frozen, dead-locked) has what a hang has;
* who refuses them, or says that its engine is dead, is believed at the second time;
* before any verdict on a door that is shut its API server is asked from inside, at the container's
  own address: if it answers there, whatever it says, it is the way to it that is cut (flushed
  firewall rules). Not for a token, which would wait in the queue of a busy engine: whether it
  computes is asked through the door, once that is mended.

`now` is time that this process has lived through (`watch`), in seconds: a machine that stood still
has not given the engine any time either.
"""

from dataclasses import replace

from agent.health.metrics import Work
from agent.health.state import Door, Liveness, Outcome, Question, Rules, Verdict

LOOK_S = 2.0  # between looks at the counters; ROUND_S while it is idle
ROUND_S = 3.0  # between canaries
QUIET_S = 1.8  # without progress before a canary; below LOOK_S, so that one look is enough
IDLE_PATIENCE_S = 10.0  # a container may be frozen for 8 s and live
BUSY_PATIENCE_S = 20.0
MISSES = 2  # canaries in a row without an answer
# Taken for the slowest that a prompt is read at: the step that reads the longest one is never cut
# short. 129k tokens took 14.7 s, 8800 a second (facts: serving-health); nothing is known of a 310P.
SLOWEST_PREFILL_TOKENS_PER_S = 500.0
# Compiling at first use took 105 s, and was killed by a watchdog of 20 s (facts: serving-health).
COMPILING_S = 150.0
HEADROOM = 2.0  # what has been seen can be slower next time
LEARNED_MAX_S = 150.0
SLOW_S = 3.0  # an answer that takes longer may have waited for the end of a long step
FORGET_S = 3600.0
# How long a look may take before it counts as none; the counters may be slow, and are waited for.
METRICS_DEADLINE_S = 30.0
METRICS_SLOW_S = 1.0  # the canary does not wait for them any longer
HEALTH_DEADLINE_S = 2.0
STIRRING_PATIENCE_S = 60.0  # twice the 28.8 s that one request of 27 MB took (vLLM #24910)
STIRS_DEADLINE_S = 10.0
INSIDE_DEADLINE_S = 2.0  # as long as the door has: a slow server is not taken for one that is cut
AGAIN_S = 0.5  # between two that count as two
# A process of its container has ended: vLLM notices within 0.5 s when it was the EngineCore, and
# some versions take 5 s to act on it (facts: serving-health).
HINT_LASTS_S = 6.0
# On missing data: the counters are never seen, or nobody tells where the container is.
BLIND_S = 300.0
# Counters that are not understood: MISSES canaries share this, and OpenAI's client waits for 600 s.
UNCOUNTED_S = 1800.0


def longest_step_s(max_model_len: int, enforce_eager: bool) -> float:
    """What one step of an engine may take, before anything has been seen: to read the longest
    prompt, or to compile where it may come to that."""
    compiling_s = 0.0 if enforce_eager else COMPILING_S
    return max(compiling_s, max_model_len / SLOWEST_PREFILL_TOKENS_PER_S)


def patience_s(state: Liveness, now: float, rules: Rules) -> float:
    """How long canaries have to stay without an answer."""
    base_s = BUSY_PATIENCE_S if state.busy else IDLE_PATIENCE_S
    if state.uncounted and not _is_shut(state):
        base_s = UNCOUNTED_S
    learned_s = state.slowest_s * HEADROOM if now - state.slowest_at < FORGET_S else 0.0
    return max(base_s, rules.longest_step_s, min(learned_s, LEARNED_MAX_S))


def deadline_s(question: Question, state: Liveness, now: float, rules: Rules) -> float:
    """How long an answer to `question` is waited for."""
    match question:
        case Question.METRICS:
            return METRICS_DEADLINE_S
        case Question.CANARY:
            return patience_s(state, now, rules) / MISSES
        case Question.HEALTH:
            return HEALTH_DEADLINE_S
        case Question.INSIDE:
            return INSIDE_DEADLINE_S
        case Question.STIRS:
            return STIRS_DEADLINE_S


# --- asking --------------------------------------------------------------------------------------


def hint(state: Liveness, now: float) -> Liveness:
    """Something may have happened to it."""
    return replace(state, hinted_at=now)


def wanted(state: Liveness, now: float, rules: Rules) -> tuple[Question, ...]:
    """What is to be asked now."""
    return tuple(
        one
        for one in Question
        if not state.door(one).in_flight and _is_wanted(one, state, now, rules)
    )


def rest_s(state: Liveness, now: float) -> float | None:
    """How long nothing will be wanted by itself of an engine that is well and asked nothing now;
    None: it has to be watched closely."""
    in_flight = any(door.in_flight for door in state.doors.values())
    if in_flight or _is_doubtful(state, now) or _is_shut(state):
        return None
    look_at = state.door(Question.METRICS).asked_at + _look_every_s(state)
    canary_at = state.door(Question.CANARY).asked_at + ROUND_S
    # One whose time has come waits for what the next look says.
    return max(0.0, min(look_at, canary_at if canary_at > now else look_at) - now)


def _is_wanted(question: Question, state: Liveness, now: float, rules: Rules) -> bool:
    door = state.door(question)
    match question:
        case Question.METRICS:
            looked = state.uncounted or _was_looked_at_last(state, now, rules)
            due = not looked and _is_overdue(state, now, rules)
            return due or now - door.asked_at >= _look_every_s(state)
        case Question.CANARY:
            return _is_quiet(state, now) and now - door.asked_at >= ROUND_S
        case Question.HEALTH:
            if state.door(Question.INSIDE).in_flight or _is_inside_due(state):
                return False  # the door is looked at once more after that
            return _is_doubtful(state, now) and now - door.asked_at >= AGAIN_S
        case Question.INSIDE:
            return _is_inside_due(state)
        case Question.STIRS:
            return _is_shut(state) and now - door.asked_at >= ROUND_S


def _look_every_s(state: Liveness) -> float:
    """Of one that a canary has shown to work: when it is time for the next one, which needs a look
    right before it."""
    canary = state.door(Question.CANARY)
    idle = not canary.in_flight and canary.ended_at == state.life_at
    return max(LOOK_S, ROUND_S) if idle else LOOK_S


def _is_quiet(state: Liveness, now: float) -> bool:
    """No tokens came by a look at the counters that began long enough after the latest proof; when
    they are slow they are not waited for."""
    metrics = state.door(Question.METRICS)
    if metrics.in_flight:
        return now - metrics.asked_at >= METRICS_SLOW_S and now - state.life_at >= ROUND_S
    return metrics.asked_at - state.life_at >= QUIET_S


def _is_inside_due(state: Liveness) -> bool:
    """Once after each time that the door was found shut."""
    last = state.door(Question.INSIDE).asked_at
    return _is_shut(state) and last < state.door(Question.HEALTH).ended_at


def _is_doubtful(state: Liveness, now: float) -> bool:
    canary = state.door(Question.CANARY)
    unanswered = canary.in_flight and now - canary.asked_at >= HEALTH_DEADLINE_S
    hinted = now - state.hinted_at < HINT_LASTS_S
    return hinted or unanswered or bool(state.misses or state.ills or state.refusals)


def _is_shut(state: Liveness) -> bool:
    """The API server itself was not reached, the latest time."""
    health = state.door(Question.HEALTH)
    answered = health.outcome in (None, Outcome.OK, Outcome.ILL, Outcome.ODD)
    return not answered and health.began_at > state.life_at


def asked(state: Liveness, question: Question, now: float) -> Liveness:
    """`question` is on its way."""
    door = replace(state.door(question), asked_at=now, in_flight=True)
    return replace(state, doors={**state.doors, question: door})


# --- answers -------------------------------------------------------------------------------------


def answered(
    state: Liveness, question: Question, outcome: Outcome, now: float, work: Work | None = None
) -> Liveness:
    """`work`: what the counters say, where they were read."""
    before = state.door(question)
    door = Door(before.asked_at, False, outcome, before.asked_at, now)
    state = replace(state, doors={**state.doors, question: door})
    match question:
        case Question.METRICS:
            odd = outcome is Outcome.ODD or state.uncounted
            state = replace(_count(state, outcome, now), uncounted=odd)
            return state if work is None else _take_work(state, work, now)
        case Question.CANARY:
            return _take_canary(_count(state, outcome, now), outcome, door, now)
        case Question.HEALTH:
            return _count(state, outcome, now)
        case Question.INSIDE:
            return state
        case Question.STIRS:
            still = outcome is Outcome.TIMEOUT
            return state if still else replace(state, stirred_at=now)


def _count(state: Liveness, outcome: Outcome, now: float) -> Liveness:
    """Refusals, and words of death, in a row."""
    match outcome:
        case Outcome.REFUSED | Outcome.ILL if now - state.counted_at < AGAIN_S:
            return state
        case Outcome.REFUSED:
            return replace(state, refusals=state.refusals + 1, counted_at=now)
        case Outcome.ILL:
            return replace(state, ills=state.ills + 1, refusals=0, counted_at=now)
        case Outcome.OK | Outcome.ODD:
            return replace(state, refusals=0)
        case Outcome.TIMEOUT | Outcome.BROKEN | Outcome.UNABLE:
            return state


def _take_work(state: Liveness, work: Work, now: float) -> Liveness:
    moved = state.tokens is not None and work.tokens != state.tokens
    state = replace(state, tokens=work.tokens, uncounted=False)
    if state.stalled_from is None and not state.door(Question.CANARY).in_flight:
        # Later our own canaries are among them.
        state = replace(state, busy=work.requests > 0)
    return _live(state, now) if moved else state


def _take_canary(state: Liveness, outcome: Outcome, door: Door, now: float) -> Liveness:
    match outcome:
        case Outcome.OK:
            # Its own tokens are no news: the next look at the counters is where they begin.
            return replace(_live(state, now, now - door.began_at), tokens=None)
        case Outcome.TIMEOUT | Outcome.BROKEN | Outcome.ILL | Outcome.REFUSED:
            return _miss(state, door)
        case Outcome.ODD if not state.uncounted:
            return state
        case Outcome.ODD | Outcome.UNABLE:
            # It breaks the row of those without an answer: it had one, or was not asked.
            return replace(state, stalled_from=None, misses=0)


def _live(state: Liveness, now: float, took_s: float = 0.0) -> Liveness:
    """It works. What it took to prove that may be its longest step lately: as long as nothing was
    seen of it, once an answer has taken its time."""
    slow = state.stalled_from is not None or took_s >= SLOW_S
    step_s = now - state.life_at if slow else took_s
    if step_s >= state.slowest_s or now - state.slowest_at >= FORGET_S:
        state = replace(state, slowest_s=step_s, slowest_at=now)
    return replace(state, life_at=now, stalled_from=None, misses=0, ills=0, refusals=0)


def _miss(state: Liveness, canary: Door) -> Liveness:
    """One that was asked before the latest proof that it works was without an answer since that."""
    began_at = max(canary.began_at, state.life_at)
    first = began_at if state.stalled_from is None else state.stalled_from
    return replace(state, stalled_from=first, misses=state.misses + 1)


# --- the verdict ---------------------------------------------------------------------------------


def judge(state: Liveness, now: float, rules: Rules) -> Verdict | None:
    """None: it works, or it cannot be told yet."""
    if _is_shut(state):
        return _judge_shut(state, now, rules)
    if state.ills >= MISSES and state.door(Question.HEALTH).outcome is Outcome.ILL:
        return Verdict.FAILED
    if not _is_overdue(state, now, rules):
        return None
    if state.uncounted:
        return Verdict.HUNG if state.door(Question.HEALTH).outcome is Outcome.OK else None
    blind = _stall_s(state, now) >= BLIND_S
    return Verdict.HUNG if blind or _was_looked_at_last(state, now, rules) else None


def _stall_s(state: Liveness, now: float) -> float:
    return 0.0 if state.stalled_from is None else now - state.stalled_from


def _is_overdue(state: Liveness, now: float, rules: Rules) -> bool:
    return state.misses >= MISSES and _stall_s(state, now) >= patience_s(state, now, rules)


def _was_looked_at_last(state: Liveness, now: float, rules: Rules) -> bool:
    """The counters were, after all patience had been had, and they stand still."""
    metrics = state.door(Question.METRICS)
    waited_s = _stall_s(state, metrics.began_at)
    return metrics.outcome is Outcome.OK and waited_s >= patience_s(state, now, rules)


def _judge_shut(state: Liveness, now: float, rules: Rules) -> Verdict | None:
    inside, health = state.door(Question.INSIDE), state.door(Question.HEALTH)
    if inside.began_at < state.life_at:
        return None  # not asked yet
    match inside.outcome:
        case Outcome.OK | Outcome.ILL | Outcome.ODD:
            # The door once more after that: both may have been shut, and opened meanwhile.
            cut = health.outcome is not Outcome.UNABLE and health.began_at >= inside.ended_at
            return Verdict.CUT if cut else None
        case Outcome.UNABLE:
            # Where the container is was not told, so nobody knows whether it is the way to it.
            return Verdict.SILENT if _stall_s(state, now) >= BLIND_S else None
        case Outcome.REFUSED if state.refusals >= MISSES:
            return Verdict.REFUSES
        case _:
            patient = _stands_still(state) or _stall_s(state, now) >= STIRRING_PATIENCE_S
            return Verdict.SILENT if patient and _is_overdue(state, now, rules) else None


def _stands_still(state: Liveness) -> bool:
    """Its processes have not used the processor since they were looked at first in this stall."""
    return state.stirred_at < state.life_at < state.door(Question.STIRS).began_at
