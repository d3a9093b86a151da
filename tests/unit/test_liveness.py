# SPDX-License-Identifier: MulanPSL-2.0
"""Whether an engine works: found when it does not, left alone when it does, in simulated time."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.health.liveness import (
    BLIND_S,
    BUSY_PATIENCE_S,
    COMPILING_S,
    IDLE_PATIENCE_S,
    LEARNED_MAX_S,
    LOOK_S,
    MISSES,
    ROUND_S,
    STIRRING_PATIENCE_S,
    UNCOUNTED_S,
    longest_step_s,
)
from agent.health.state import Question, Rules, Verdict
from tests.engine_sim import NEVER, SimEngine, Span, watch

HOUR = 3600.0
# A hang may begin at any moment between two looks.
MOMENTS = [100 + step * 0.3 for step in range(24)]


def verdict_after(
    engine: SimEngine, begin: float, until_s: float = 1000.0
) -> tuple[float, Verdict]:
    """Seconds from `begin` to the verdict, and which."""
    found = watch(engine, until_s).verdicts
    assert found, engine
    return found[0].at - begin, found[0].verdict


def test_an_idle_engine_is_looked_at_once_before_each_canary() -> None:
    asked = [question for _, question in watch(SimEngine(), 100.0).asked[1:]]
    rounds = len(asked) // 2
    assert 100 / ROUND_S - 5 <= rounds <= 100 / ROUND_S
    assert asked[: rounds * 2] == [Question.METRICS, Question.CANARY] * rounds


def test_a_busy_engine_is_looked_at_every_2_s_and_asked_nothing_else() -> None:
    asked = watch(SimEngine(users=[(0.0, NEVER)]), 100.0).asked[4:]
    assert {question for _, question in asked} == {Question.METRICS}
    assert all(later - at < LOOK_S + 0.2 for (at, _), (later, _) in itertools.pairwise(asked))


# --- found ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("begin", MOMENTS)
def test_a_hang_while_idle_is_found_within_15_s(begin: float) -> None:
    took_s, verdict = verdict_after(SimEngine(hung=[(begin, NEVER)]), begin)
    assert verdict is Verdict.HUNG
    assert IDLE_PATIENCE_S <= took_s <= 15.0


@pytest.mark.parametrize("begin", MOMENTS)
def test_a_hang_right_after_a_request_is_found_within_15_s(begin: float) -> None:
    """The counters have moved when they are looked at next: it was before the hang."""
    engine = SimEngine(users=[(begin - 0.3, begin)], hung=[(begin, NEVER)], gauges=0.0)
    took_s, verdict = verdict_after(engine, begin)
    assert verdict is Verdict.HUNG
    assert took_s <= 15.0


@pytest.mark.parametrize("begin", MOMENTS)
@pytest.mark.parametrize("gauges", [None, 0.0, 1.0, 32.0])
def test_a_hang_while_requests_run_is_found_within_30_s(begin: float, gauges: float | None) -> None:
    """Whatever the gauges say then: they are written by the engine that hangs."""
    engine = SimEngine(users=[(50.0, NEVER)], hung=[(begin, NEVER)], gauges=gauges)
    took_s, verdict = verdict_after(engine, begin)
    assert verdict is Verdict.HUNG
    assert took_s <= 30.0


@pytest.mark.parametrize("begin", MOMENTS)
def test_a_container_that_stands_still_is_found_within_15_s(begin: float) -> None:
    took_s, verdict = verdict_after(SimEngine(frozen=[(begin, NEVER)]), begin)
    assert verdict is Verdict.SILENT
    assert took_s <= 15.2


@pytest.mark.parametrize("begin", MOMENTS)
@pytest.mark.parametrize("stirs", [True, None])
def test_one_that_computes_and_answers_nothing_is_found_after_a_minute(
    begin: float, stirs: bool | None
) -> None:
    took_s, verdict = verdict_after(SimEngine(frozen=[(begin, NEVER)], stirs=stirs), begin)
    assert verdict is Verdict.SILENT
    assert STIRRING_PATIENCE_S <= took_s <= STIRRING_PATIENCE_S + 5


@pytest.mark.parametrize("begin", MOMENTS)
def test_an_api_server_that_is_gone_is_found(begin: float) -> None:
    took_s, verdict = verdict_after(SimEngine(dead=[(begin, NEVER)]), begin)
    assert verdict is Verdict.REFUSES
    assert took_s <= ROUND_S + 1.5


@pytest.mark.parametrize("hinted", [True, False])
def test_an_engine_that_says_it_is_dead_is_found(hinted: bool) -> None:
    for begin in MOMENTS:
        hints = (begin + 0.1,) if hinted else ()
        found = watch(SimEngine(ill=[(begin, NEVER)]), 200.0, hints=hints).verdicts
        assert found[0].verdict is Verdict.FAILED
        assert found[0].at - begin <= (1.0 if hinted else ROUND_S + 1.5)


@pytest.mark.parametrize("begin", MOMENTS)
def test_a_port_that_is_cut_is_told_from_a_dead_engine(begin: float) -> None:
    took_s, verdict = verdict_after(SimEngine(cut=[(begin, NEVER)]), begin)
    assert verdict is Verdict.CUT
    assert took_s <= 12.0


@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.parametrize("token_s", [0.05, 6.0, 12.0, 30.0, 500.0])
def test_a_cut_port_of_a_busy_engine(token_s: float, counts: bool) -> None:
    """However long its queue is: what it is asked inside does not wait there."""
    busy: list[Span] = [(0.0, NEVER)]
    engine = SimEngine(token_s=token_s, users=busy, cut=[(100.0, NEVER)], counts=counts)
    took_s, verdict = verdict_after(engine, 100.0, 2000.0)
    assert verdict is Verdict.CUT
    # What was asked before the cut is waited for first.
    assert took_s <= 12.0 + BUSY_PATIENCE_S


@pytest.mark.parametrize(
    "engine",
    [
        SimEngine(odd_canary=True, cut=[(100.0, NEVER)]),
        SimEngine(ill=[(99.0, NEVER)], cut=[(100.0, NEVER)]),
        SimEngine(hung=[(98.0, NEVER)], cut=[(100.0, NEVER)]),
    ],
    ids=["odd", "ill", "hung"],
)
def test_a_cut_port_is_mended_before_the_engine_is_judged(engine: SimEngine) -> None:
    """Whatever it says inside, it is the way to it that is in the way."""
    assert verdict_after(engine, 100.0)[1] is Verdict.CUT


def test_counters_that_never_come() -> None:
    """The API server answers, no token comes, and nobody can say whether users get any."""
    engine = SimEngine(hung=[(100.0, NEVER)], metrics_s=1000.0)
    took_s, verdict = verdict_after(engine, 100.0)
    assert verdict is Verdict.HUNG
    assert BLIND_S <= took_s <= BLIND_S + 30


@pytest.mark.parametrize("users", [[], [(0.0, NEVER)]])
def test_an_engine_that_does_not_count_and_gives_no_token_for_half_an_hour(
    users: list[Span],
) -> None:
    engine = SimEngine(users=users, hung=[(100.0, NEVER)], counts=False)
    took_s, verdict = verdict_after(engine, 100.0, 2 * HOUR)
    assert verdict is Verdict.HUNG
    assert UNCOUNTED_S <= took_s <= UNCOUNTED_S + 2 * ROUND_S


def test_an_engine_that_does_not_count_and_stands_still_is_found_as_any_other() -> None:
    took_s, verdict = verdict_after(SimEngine(frozen=[(100.0, NEVER)], counts=False), 100.0)
    assert verdict is Verdict.SILENT
    assert took_s <= 30.0


def test_a_shut_door_of_a_container_that_nobody_knows_the_address_of() -> None:
    engine = SimEngine(dead=[(100.0, NEVER)], known=False)
    took_s, verdict = verdict_after(engine, 100.0)
    assert verdict is Verdict.SILENT
    assert BLIND_S <= took_s <= BLIND_S + 30


def test_slow_counters_only_delay() -> None:
    engine = SimEngine(users=[(0.0, NEVER)], hung=[(100.0, NEVER)], metrics_s=9.0)
    took_s, verdict = verdict_after(engine, 100.0)
    assert verdict is Verdict.HUNG
    assert took_s <= 30 + 2 * 9


def test_an_idle_engine_that_hangs_after_a_slow_step() -> None:
    """What has been seen makes patient, within limits, and for a while only."""
    slow = [(100.0, 109.0)]
    soon, _ = verdict_after(SimEngine(steps=slow, hung=[(200.0, NEVER)]), 200.0)
    later = 200.0 + 2 * HOUR
    late, _ = verdict_after(SimEngine(steps=slow, hung=[(later, NEVER)]), later, later + 100)
    assert soon > 17.0
    assert late <= 15.0


# --- left alone ----------------------------------------------------------------------------------


@pytest.mark.parametrize("begin", MOMENTS)
def test_a_freeze_of_8_s(begin: float) -> None:
    loads: tuple[list[Span], ...] = ([], [(0.0, NEVER)], [(begin + 4, NEVER)])
    for users in loads:
        engine = SimEngine(users=users, frozen=[(begin, begin + 8.0)])
        assert not watch(engine, begin + 100).verdicts


@pytest.mark.parametrize("stirs", [True, None])
@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.parametrize("length", [15.0, 28.8, 40.0, 55.0])
def test_a_loop_that_is_busy_with_requests(length: float, counts: bool, stirs: bool | None) -> None:
    """One of 27 MB, or a thousand at once: its server accepts, and says nothing meanwhile."""
    loads: tuple[list[Span], ...] = ([], [(0.0, NEVER)], [(101.0, NEVER)])
    for users in loads:
        frozen = [(100.0, 100.0 + length)]
        engine = SimEngine(users=users, frozen=frozen, stirs=stirs, counts=counts)
        assert not watch(engine, 300.0).verdicts


def test_freezes_again_and_again() -> None:
    frozen: list[Span] = [(at, at + 8.0) for at in range(100, 3000, 13)]
    assert not watch(SimEngine(frozen=frozen), 3000.0).verdicts


def test_saturated_for_an_hour_without_one_canary() -> None:
    engine = SimEngine(token_s=500.0, users=[(0.0, NEVER)])  # a canary would wait in the queue
    seen = watch(engine, HOUR)
    assert not seen.verdicts
    assert not seen.canaries


def test_saturated_with_slow_counters() -> None:
    engine = SimEngine(token_s=500.0, users=[(0.0, NEVER)], metrics_s=12.0)
    assert not watch(engine, HOUR).verdicts


@pytest.mark.parametrize("metrics_s", [0.02, 4.0, 11.0, 25.0])
@pytest.mark.parametrize("users", [[], [(0.0, NEVER)]])
def test_prompts_as_long_as_the_model_allows(users: list[Span], metrics_s: float) -> None:
    """One after the other, each in one step that takes what the rules say it may."""
    rules = Rules(longest_step_s(32_768, enforce_eager=True))
    length = rules.longest_step_s - 1
    steps = [(at * (length + 2.0), at * (length + 2.0) + length) for at in range(1, 60)]
    engine = SimEngine(users=users, steps=steps, metrics_s=metrics_s)
    assert not watch(engine, 1800.0, rules).verdicts


def test_steps_that_grow_longer_and_longer() -> None:
    """Each at most twice what was seen before: the patience grows with them."""
    at = 60.0
    steps: list[Span] = []
    for length in (9.0, 15.0, 25.0, 45.0, 70.0, 70.0, 70.0):
        steps.append((at, at + length))
        at += length + 30
    assert not watch(SimEngine(steps=steps), at + 100).verdicts


@pytest.mark.parametrize("queue_s", [15.0, 500.0, UNCOUNTED_S / MISSES - 1])
def test_an_engine_that_does_not_count_and_has_a_long_queue(queue_s: float) -> None:
    """Each canary waits in it; one that gave up and came back would begin at its end each time."""
    engine = SimEngine(token_s=queue_s, users=[(0.0, NEVER)], counts=False)
    seen = watch(engine, 2 * HOUR)
    assert not seen.verdicts
    assert len(seen.canaries) <= 2 * HOUR / queue_s + 1


def test_one_answer_is_enough_of_an_engine_that_does_not_count() -> None:
    late = UNCOUNTED_S - 100
    hung = [(100.0, 100.0 + late), (200.0 + late, 200.0 + 2 * late)]
    assert not watch(SimEngine(hung=hung, counts=False), 2 * HOUR).verdicts


def test_time_in_which_no_canary_could_be_asked_is_no_silence() -> None:
    engine = SimEngine(
        hung=[(100.0, 100.0 + UNCOUNTED_S)],
        unable=[(100.0 + UNCOUNTED_S / MISSES, 100.0 + UNCOUNTED_S)],
        counts=False,
    )
    assert not watch(engine, 2 * HOUR).verdicts


def test_an_engine_that_does_not_count_is_asked_no_more_often_while_its_queue_is_long() -> None:
    engine = SimEngine(hung=[(100.0, NEVER)], counts=False)
    looks = [at for at, one in watch(engine, 1500.0).asked if one is Question.METRICS]
    assert len(looks) <= 1500 / LOOK_S


def test_compiling_at_first_use() -> None:
    rules = Rules(longest_step_s(4096, enforce_eager=False))
    assert not watch(SimEngine(steps=[(20.0, 20.0 + 105.0)]), 300.0, rules).verdicts
    assert longest_step_s(4096, enforce_eager=False) == COMPILING_S
    assert longest_step_s(4096, enforce_eager=True) < IDLE_PATIENCE_S


def test_a_machine_short_of_cpu() -> None:
    engine = SimEngine(token_s=4.0, metrics_s=2.0)
    assert not watch(engine, HOUR).verdicts


def test_no_source_port_is_left_on_our_side() -> None:
    engine = SimEngine(unable=[(100.0, 700.0)])
    assert not watch(engine, 800.0).verdicts
    both = SimEngine(users=[(0.0, NEVER)], unable=[(100.0, 700.0)])
    assert not watch(both, 800.0).verdicts


@pytest.mark.parametrize("known", [True, False])
def test_one_miss_before_and_one_after_that_are_no_silence(known: bool) -> None:
    """Between them nobody has asked."""
    engine = SimEngine(steps=[(100.0, 109.0), (700.0, 711.0)], known=known)
    engine.unable = [(103.0, 702.0)]
    assert not watch(engine, 800.0).verdicts


def test_a_canary_that_is_refused_by_the_api_proves_nothing() -> None:
    """A key that is wrong by now, a model of another name."""
    assert not watch(SimEngine(odd_canary=True), 600.0).verdicts


def test_a_cut_that_is_over_before_it_is_judged() -> None:
    assert not watch(SimEngine(cut=[(100.0, 104.0)]), 200.0).verdicts


def test_a_hint_about_an_engine_that_is_well() -> None:
    hints = tuple(float(at) for at in range(10, 100, 3))
    assert not watch(SimEngine(), 120.0, hints=hints).verdicts


moment = st.floats(min_value=20, max_value=400)


@settings(max_examples=30, deadline=None)
@given(
    frozen=st.lists(st.tuples(moment, st.floats(min_value=0.1, max_value=8.0)), max_size=6),
    steps=st.lists(st.tuples(moment, st.floats(min_value=0.1, max_value=4.0)), max_size=6),
    users=st.lists(st.tuples(moment, st.floats(min_value=1, max_value=200)), max_size=3),
    token_s=st.floats(min_value=0.01, max_value=1.5),
    metrics_s=st.floats(min_value=0.01, max_value=2.9),
)
def test_whatever_happens_to_an_engine_that_works(
    frozen: list[Span], steps: list[Span], users: list[Span], token_s: float, metrics_s: float
) -> None:
    """Freezes and steps that do not follow one another more closely than they are long."""
    engine = SimEngine(
        token_s=token_s,
        metrics_s=metrics_s,
        frozen=_apart(frozen, 10.0),
        steps=[] if frozen else _apart(steps, 4.0),
        users=[(begin, begin + length) for begin, length in users],
    )
    assert not watch(engine, 500.0).verdicts


def _apart(spans: list[Span], gap_s: float) -> list[Span]:
    """Begin and length to begin and end, with that much between them."""
    apart: list[Span] = []
    for begin, length in sorted(spans):
        at = max(begin, apart[-1][1] + gap_s if apart else 0.0)
        apart.append((at, at + length))
    return apart


# --- how it asks ---------------------------------------------------------------------------------


def test_no_canary_while_tokens_of_users_flow() -> None:
    seen = watch(SimEngine(users=[(0.0, 300.0)]), 400.0)
    assert all(at >= 300.0 for at in seen.canaries)
    assert seen.canaries


def test_an_engine_that_is_busy_from_the_beginning_is_sent_none() -> None:
    assert not watch(SimEngine(users=[(0.0, NEVER)]), 60.0).canaries


def test_an_idle_engine_is_asked_for_a_token_each_round() -> None:
    seen = watch(SimEngine(), 350.0)
    gaps = [late - early for early, late in itertools.pairwise(seen.canaries)]
    assert all(ROUND_S - 0.2 <= gap <= ROUND_S + 0.5 for gap in gaps), gaps
    assert {question for _, question in seen.asked} == {Question.METRICS, Question.CANARY}


def test_the_counters_are_looked_at_once_more_before_the_verdict() -> None:
    engine = SimEngine(users=[(0.0, NEVER)], hung=[(100.0, NEVER)])
    seen = watch(engine, 200.0)
    looks = [at for at, question in seen.asked if question is Question.METRICS]
    assert seen.verdicts[0].at - looks[-1] <= 0.3
    assert looks[-1] - seen.canaries[0] >= BUSY_PATIENCE_S


def test_never_patient_for_ever() -> None:
    steps = [(at, at + 140.0) for at in (100.0, 300.0, 500.0)]
    rules = Rules(LEARNED_MAX_S)
    engine = SimEngine(steps=steps, hung=[(700.0, NEVER)])
    found = watch(engine, 2000.0, rules).verdicts
    assert found
    assert found[0].at - 700.0 <= LEARNED_MAX_S + 20
