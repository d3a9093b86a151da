# SPDX-License-Identifier: MulanPSL-2.0
"""Policy: every event in every phase, the ladder of backoff, and what holds for any sequence."""

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config.values import Limits
from agent.errors import Code, Failure, Remedy
from agent.model import Health, Phase, UnitActive
from agent.policy.backoff import backoff_s
from agent.policy.instance import decide
from agent.policy.moves import SOON_TRIES
from agent.policy.state import (
    NOTHING,
    CauseChanged,
    Decision,
    Diagnosed,
    EngineIll,
    EngineObserved,
    Event,
    Fetch,
    FetchEnded,
    InstanceState,
    Nothing,
    NpuLost,
    Probed,
    RestartRequested,
    Start,
    StartEnded,
    Stop,
    StopEnded,
    StopMissed,
    Tick,
    WishChanged,
)
from tests.build import LIMITS

RETRY = Failure(Code.ENGINE_DIED, "cannot: it died")
EVENT = Failure(Code.DRIVER_ABSENT, "cannot: no driver")
SOON = Failure(Code.PORT_IN_USE, "cannot: somebody listens")
CHANGE = Failure(Code.IMAGE_MISSING, "cannot: no image")
UNREACHABLE = Failure(Code.SOURCE_UNREACHABLE, "cannot fetch: nobody answers")
LOST = Failure(Code.NPU_LOST, "cannot keep serving: NPU 3")
HUNG = Failure(Code.ENGINE_HUNG, "cannot keep serving: no token")
PERSON = Failure(Code.CONFIG_INVALID, "cannot: bad key")
SLOW = Failure(Code.START_TOO_SLOW, "cannot start: it does not answer")
FAULTED = Failure(Code.NPU_FAULTED, "cannot start: its NPU failed")
DAMAGED = Failure(Code.MODEL_INVALID, "cannot start: a file is damaged")
OCCUPIED = Failure(Code.NPU_BUSY, "cannot start: its NPU is held")
FAILURES = (RETRY, SOON, EVENT, CHANGE, PERSON)

EVENTS: tuple[Event, ...] = (
    WishChanged(False),
    WishChanged(True),
    WishChanged(True, again=True),
    *(EngineObserved(active) for active in UnitActive),
    StartEnded(None),
    StartEnded(CHANGE, lacking=True),
    FetchEnded(None),
    *(FetchEnded(failure) for failure in (UNREACHABLE, CHANGE)),
    StopEnded(None),
    *(StartEnded(failure) for failure in FAILURES),
    *(StopEnded(failure) for failure in FAILURES),
    *(Probed(health) for health in Health),
    CauseChanged(),
    NpuLost(LOST),
    EngineIll(HUNG),
    EngineIll(SLOW),
    *(Diagnosed(failure) for failure in (FAULTED, DAMAGED, OCCUPIED)),
    StopMissed(),
    RestartRequested(),
    Tick(),
)
# In these nobody may be asked to act before what is under way has ended.
ACTING = (Phase.STARTING, Phase.STOPPING)
WAITS = (Phase.BACKOFF, Phase.WAITING, Phase.HELD)


def in_phase(phase: Phase, *, acting: bool | None = None, **changes: object) -> InstanceState:
    """A state as it is found in `phase`."""
    state = InstanceState(
        phase=phase,
        wished=phase not in (Phase.IDLE, Phase.STOPPING),
        since=100.0,
        failures=2,
        not_before=150.0,
        failure={Phase.BACKOFF: RETRY, Phase.WAITING: EVENT, Phase.HELD: CHANGE}.get(phase),
        engine=UnitActive.ACTIVE
        if phase in (Phase.LOADING, Phase.SERVING)
        else UnitActive.INACTIVE,
        acting=phase is Phase.STARTING if acting is None else acting,
    )
    return replace(state, **changes)  # type: ignore[arg-type]


def step(
    state: InstanceState, event: Event, now: float = 200.0, chance: float = 0.5
) -> tuple[InstanceState, Decision]:
    return decide(state, event, now, LIMITS, chance)


def kind(decision: Decision) -> str:
    return type(decision).__name__


# --- the table -----------------------------------------------------------------------------------

S, F, L, V, B, W, H, I, P = (  # noqa: E741
    Phase.STARTING,
    Phase.FETCHING,
    Phase.LOADING,
    Phase.SERVING,
    Phase.BACKOFF,
    Phase.WAITING,
    Phase.HELD,
    Phase.IDLE,
    Phase.STOPPING,
)
# Event -> for each phase where it leads; "+" starts, "-" stops, "<" fetches. What is not named
# stays as it is. The engine is active in LOADING and SERVING and inactive elsewhere; `not_before`
# has come.
TABLE: tuple[tuple[Event, dict[Phase, tuple[Phase, str]]], ...] = (
    (WishChanged(False), {L: (P, ""), V: (P, "")} | dict.fromkeys((F, B, W, H), (I, ""))),
    (WishChanged(True), {I: (S, "+")}),
    (
        WishChanged(True, again=True),
        {I: (S, "+"), B: (S, "+"), W: (S, "+"), H: (S, "+"), P: (S, "+")},
    ),
    (EngineObserved(UnitActive.ACTIVE), dict.fromkeys((B, W, F), (L, ""))),
    (EngineObserved(UnitActive.ACTIVATING), dict.fromkeys((B, W, F), (L, ""))),
    (EngineObserved(UnitActive.RELOADING), dict.fromkeys((B, W, F), (L, ""))),
    (EngineObserved(UnitActive.DEACTIVATING), {}),
    (EngineObserved(UnitActive.UNKNOWN), {}),
    (EngineObserved(UnitActive.INACTIVE), {L: (B, ""), V: (B, ""), P: (I, "")}),
    (EngineObserved(UnitActive.FAILED), {L: (B, ""), V: (B, ""), P: (I, "")}),
    (StartEnded(None), {S: (L, "")}),
    (StartEnded(RETRY), {S: (B, "")}),
    (StartEnded(EVENT), {S: (W, "")}),
    (StartEnded(CHANGE), {S: (H, "")}),
    (StartEnded(PERSON), {S: (H, "")}),
    (StartEnded(CHANGE, lacking=True), {S: (F, "<")}),
    (FetchEnded(None), dict.fromkeys((F, B, W), (S, "+"))),
    (FetchEnded(UNREACHABLE), {F: (B, "")}),
    (FetchEnded(CHANGE), {F: (H, "")}),
    (StopEnded(None), {P: (I, "")}),
    (StopEnded(RETRY), {P: (I, "")}),
    (Probed(Health.HEALTHY), {L: (V, "")}),
    (Probed(Health.UNHEALTHY), {}),
    (Probed(Health.UNKNOWN), {}),
    (EngineIll(SLOW), {L: (P, "-")}),
    (Diagnosed(FAULTED), {}),
    (Diagnosed(OCCUPIED), {}),
    (Diagnosed(DAMAGED), {B: (H, "")}),
    (Diagnosed(DAMAGED, mendable=True), {B: (F, "<")}),
    (CauseChanged(), dict.fromkeys((F, W, H), (S, "+"))),
    (NpuLost(LOST), {L: (P, "-"), V: (P, "-")}),
    (EngineIll(HUNG), {V: (P, "-")}),
    (
        RestartRequested(),
        {L: (P, "-"), V: (P, "-")} | dict.fromkeys((F, B, W, H), (S, "+")),
    ),
    (StopMissed(), {}),
    (Tick(), {B: (S, "+"), W: (S, "+"), H: (S, "+")}),
)
DECISIONS = {"": "Nothing", "+": "Start", "-": "Stop", "<": "Fetch"}


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize(("event", "row"), TABLE, ids=[str(event) for event, _ in TABLE])
def test_table(event: Event, row: dict[Phase, tuple[Phase, str]], phase: Phase) -> None:
    wanted, sign = row.get(phase, (phase, ""))
    state, decision = step(in_phase(phase), event)
    assert (state.phase, kind(decision)) == (wanted, DECISIONS[sign])


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("event", EVENTS, ids=str)
def test_no_pair_fails(phase: Phase, event: Event) -> None:
    """Also states that should never be: a surprise is no reason for the writer to end."""
    flags = (False, True)
    for wished, acting, outdated, engine in itertools.product(flags, flags, flags, UnitActive):
        before = in_phase(phase, wished=wished, acting=acting, outdated=outdated, engine=engine)
        state, decision = step(before, event)
        assert state.phase in Phase
        assert isinstance(decision, Nothing | Start | Fetch | Stop)
        assert not (isinstance(decision, Start | Fetch) and not state.wished)


# --- single rules --------------------------------------------------------------------------------


def test_what_is_lacking_after_a_fetch_is_not_fetched_again_at_once() -> None:
    """It would go on for ever: the hold looks again after its time."""
    state, _ = step(in_phase(S), StartEnded(CHANGE, lacking=True))
    state, _ = step(state, FetchEnded(None))
    state, decision = step(state, StartEnded(CHANGE, lacking=True))
    assert (state.phase, kind(decision), state.failure) == (H, "Nothing", CHANGE)
    assert state.not_before == 200.0 + LIMITS.recheck_held_s
    state, _ = step(state, Tick(), now=state.not_before)
    state, decision = step(state, StartEnded(CHANGE, lacking=True))
    assert (state.phase, kind(decision)) == (F, "Fetch")


def test_a_model_is_mended_once_and_not_again_until_it_has_served() -> None:
    """To read all of it takes minutes, and comes to the same."""
    lacks = StartEnded(DAMAGED, lacking=True)
    state, decision = step(in_phase(S), lacks)
    assert kind(decision) == "Fetch"
    state, _ = step(state, FetchEnded(UNREACHABLE))
    state, _ = step(state, Tick(), now=1000.0)
    state, decision = step(state, lacks)
    assert kind(decision) == "Fetch"  # what did not come to its end is tried again
    state, _ = step(state, FetchEnded(None, mended=True))
    state, decision = step(state, lacks)
    assert (state.phase, kind(decision)) == (H, "Nothing")
    unread, _ = step(in_phase(F), FetchEnded(DAMAGED, mended=True))  # nobody has it
    assert (unread.phase, unread.mended) == (H, True)
    for event in (Tick(), CauseChanged()):
        looks, _ = step(state, event, now=2000.0)
        held, decision = step(looks, lacks)
        assert (held.phase, held.failure, kind(decision)) == (H, DAMAGED, "Nothing")
        assert (
            kind(step(looks, StartEnded(CHANGE, lacking=True))[1]) == "Fetch"
        )  # what is missing is another matter
    for asked in (RestartRequested(), WishChanged(True, again=True)):
        looks, _ = step(state, asked)
        assert kind(step(looks, lacks)[1]) == "Fetch"  # a person wants it tried


def test_an_engine_that_cannot_read_what_was_mended_is_held() -> None:
    died = Failure(Code.ENGINE_DIED, "cannot: it died")
    before = in_phase(B, failure=died, mended=True)
    state, decision = step(before, Diagnosed(DAMAGED, mendable=True))
    assert (state.phase, kind(decision)) == (H, "Nothing")
    served, _ = step(in_phase(L, mended=True), Probed(Health.HEALTHY))
    assert not served.mended


def test_what_was_fetched_is_a_new_beginning() -> None:
    """The failures before it were those of the network; an engine has not failed."""
    state, _ = step(in_phase(F, failures=5, failure=UNREACHABLE), FetchEnded(None))
    assert (state.failures, state.failure) == (0, None)


def test_a_fetch_that_ends_while_a_new_plan_is_made_is_left_to_the_plan() -> None:
    before = in_phase(S)
    assert step(before, FetchEnded(CHANGE)) == (before, NOTHING)


@pytest.mark.parametrize("phase", [B, W])
def test_a_fetch_that_ends_while_a_look_waits_for_its_time(phase: Phase) -> None:
    """The look failed while it went on: Podman or npud was silent for a moment."""
    before = in_phase(phase, failures=3, not_before=500.0)
    assert step(before, FetchEnded(UNREACHABLE)) == (before, NOTHING)  # the look begins it anew
    state, decision = step(before, FetchEnded(None, mended=True))
    assert (state.phase, kind(decision)) == (S, "Start")
    assert (state.fetched, state.mended, state.failures) == (False, True, 3)
    # The profile may have changed since that fetch began: what lacks now has to be fetched once.
    state, decision = step(state, StartEnded(CHANGE, lacking=True))
    assert (state.phase, kind(decision)) == (F, "Fetch")
    state, _ = step(state, FetchEnded(None))
    state, decision = step(state, StartEnded(CHANGE, lacking=True))
    assert (state.phase, kind(decision)) == (H, "Nothing")


@pytest.mark.parametrize("active", [UnitActive.ACTIVE, UnitActive.ACTIVATING, UnitActive.RELOADING])
def test_what_runs_already_is_adopted(active: UnitActive) -> None:
    seen, first = step(InstanceState(), EngineObserved(active))
    state, second = step(seen, WishChanged(True))
    assert (kind(first), kind(second)) == ("Nothing", "Nothing")
    assert state.phase is Phase.LOADING


def test_a_stop_that_ended_the_job_of_a_start_leaves_no_failure() -> None:
    """That the job was canceled is heard before the stop is seen."""
    canceled = Failure(Code.JOB_NOT_RUN, "cannot start deepseek-vllm-8b: job canceled")
    waits, _ = step(in_phase(S), StartEnded(canceled))
    stopped, _ = step(waits, WishChanged(False))
    assert (waits.phase, stopped.phase, stopped.failure) == (B, I, None)


def test_what_is_stopped_again_during_the_start_is_stopped() -> None:
    """The start came through before systemd could refuse it."""
    state, _ = step(in_phase(S), WishChanged(False))
    assert state.phase is S
    state, decision = step(state, StartEnded(None))
    assert (state.phase, kind(decision)) == (P, "Stop")
    state, decision = step(state, StopEnded(None))
    assert (state.phase, kind(decision)) == (I, "Nothing")


@pytest.mark.parametrize("phase", [I, P])
def test_an_engine_that_nobody_wants_is_stopped_where_nobody_else_does(phase: Phase) -> None:
    runs = in_phase(phase, engine=UnitActive.ACTIVE)
    state, decision = step(runs, StopMissed())
    assert (state.phase, kind(decision), state.acting) == (P, "Stop", True)
    assert step(state, StopMissed()) == (state, NOTHING)
    state, decision = step(state, StopEnded(RETRY))
    assert (state.phase, kind(decision)) == (I, "Nothing")
    assert kind(step(state, StopMissed())[1]) == "Stop"  # once more
    for other in (replace(runs, wished=True), replace(runs, engine=UnitActive.DEACTIVATING)):
        assert step(other, StopMissed()) == (other, NOTHING)


def test_a_start_that_was_refused_for_want_of_a_wish_ends_idle() -> None:
    state, _ = step(in_phase(S), WishChanged(False))
    state, decision = step(state, StartEnded(RETRY))
    assert (state.phase, kind(decision)) == (I, "Nothing")


def test_a_restart_stops_and_starts() -> None:
    state, decision = step(in_phase(V), RestartRequested())
    assert kind(decision) == "Stop"
    state, decision = step(state, EngineObserved(UnitActive.INACTIVE))
    assert (state.phase, kind(decision)) == (P, "Nothing")
    state, decision = step(state, StopEnded(None))
    assert (state.phase, kind(decision)) == (S, "Start")


@pytest.mark.parametrize(
    ("ended", "wanted", "decided"), [(None, P, "Stop"), (RETRY, S, "Start"), (CHANGE, S, "Start")]
)
def test_a_restart_that_is_asked_for_while_it_starts_comes_after(
    ended: Failure | None, wanted: Phase, decided: str
) -> None:
    state, decision = step(in_phase(S), RestartRequested())
    assert (state.phase, kind(decision)) == (S, "Nothing")
    state, decision = step(state, StartEnded(ended))
    assert (state.phase, kind(decision)) == (wanted, decided)
    if wanted is P:
        state, decision = step(state, StopEnded(None))
        assert (state.phase, kind(decision)) == (S, "Start")
    state, decision = step(state, StartEnded(None))
    assert (state.phase, kind(decision)) == (L, "Nothing")  # once


def test_a_restart_that_is_asked_for_while_what_is_ill_stops_waits_for_nothing() -> None:
    state, _ = step(in_phase(V), EngineIll(HUNG))
    state, decision = step(state, RestartRequested())
    assert (state.phase, kind(decision)) == (P, "Nothing")
    state, decision = step(state, StopEnded(None))
    assert (state.phase, kind(decision), state.failures) == (S, "Start", 2)


def test_a_stop_after_such_a_restart_wins() -> None:
    state, _ = step(in_phase(S), RestartRequested())
    state, _ = step(state, WishChanged(False))
    assert step(state, StartEnded(RETRY))[0].phase is I
    state, _ = step(state, StartEnded(None))
    state, decision = step(state, StopEnded(None))
    assert (state.phase, kind(decision)) == (I, "Nothing")


def test_an_engine_that_does_not_work_is_replaced_with_backoff() -> None:
    state, decision = step(in_phase(V), EngineIll(HUNG))
    assert decision == Stop(HUNG)
    assert (state.phase, state.failure) == (P, HUNG)
    state, decision = step(state, EngineObserved(UnitActive.INACTIVE))
    assert (state.phase, kind(decision)) == (P, "Nothing")
    state, decision = step(state, StopEnded(None))
    assert (state.phase, kind(decision), state.failure, state.failures) == (B, "Nothing", HUNG, 3)
    assert state.not_before > 200.0


def test_a_stop_of_an_engine_that_does_not_work_is_a_stop() -> None:
    state, _ = step(in_phase(V), EngineIll(HUNG))
    state, _ = step(state, WishChanged(False))
    state, decision = step(state, StopEnded(None))
    assert (state.phase, kind(decision)) == (I, "Nothing")


def test_a_stop_during_a_restart_wins() -> None:
    state, _ = step(in_phase(V), RestartRequested())
    state, _ = step(state, WishChanged(False))
    state, decision = step(state, StopEnded(None))
    assert (state.phase, kind(decision)) == (I, "Nothing")


def test_a_restart_that_cannot_stop_the_engine_backs_off() -> None:
    state, _ = step(in_phase(V), RestartRequested())
    state, decision = step(state, StopEnded(RETRY))
    assert (state.phase, kind(decision), state.failure) == (B, "Nothing", RETRY)


@pytest.mark.parametrize(
    ("failure", "decided"), [(EVENT, "Start"), (CHANGE, "Start"), (RETRY, "Nothing")]
)
def test_news_during_a_start_with_old_facts_are_not_lost(failure: Failure, decided: str) -> None:
    state, _ = step(in_phase(S), CauseChanged())
    state, decision = step(state, StartEnded(failure))
    assert kind(decision) == decided
    assert not (decided == "Start" and state.outdated)


def test_the_reason_stays_until_it_serves() -> None:
    state, _ = step(in_phase(B), Tick())
    assert state.failure == RETRY
    state, _ = step(state, StartEnded(None))
    assert state.failure == RETRY
    state, _ = step(state, Probed(Health.HEALTHY))
    assert state.failure is None


@pytest.mark.parametrize("failure", [EVENT, CHANGE, PERSON])
def test_what_was_only_waited_for_does_not_stay(failure: Failure) -> None:
    state, decision = step(in_phase(W, failure=failure), CauseChanged())
    assert (kind(decision), state.failure) == ("Start", None)


def test_the_reason_of_a_held_instance_that_is_not_enabled_stays() -> None:
    state, _ = step(in_phase(H), WishChanged(False))
    assert (state.phase, state.failure) == (I, CHANGE)
    state, _ = step(state, WishChanged(True))
    assert state.failure is None


def test_a_dead_engine_is_named_with_its_end() -> None:
    state, _ = step(in_phase(V), EngineObserved(UnitActive.FAILED, "exit-code, exit status 137"))
    assert state.failure is not None
    assert state.failure.code is Code.ENGINE_DIED
    assert "exit status 137" in state.failure.message


@pytest.mark.parametrize("phase", WAITS)
def test_not_before_its_time(phase: Phase) -> None:
    state = in_phase(phase, not_before=200.5)
    early, decision = step(state, Tick(), now=200.4)
    assert (early, kind(decision)) == (state, "Nothing")
    assert kind(step(state, Tick(), now=200.5)[1]) == "Start"


# --- backoff -------------------------------------------------------------------------------------


def test_the_ladder() -> None:
    waits = [backoff_s(failures, LIMITS, 0.5) for failures in range(1, 13)]
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]


def test_the_ladder_is_climbed_by_failures_in_a_row() -> None:
    state, now = in_phase(S, failures=0), 0.0
    waits = []
    for _ in range(11):
        state, _ = step(state, StartEnded(RETRY), now)
        waits.append(state.not_before - now)
        now = state.not_before
        state, decision = step(state, Tick(), now)
        assert kind(decision) == "Start"
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


@given(
    st.integers(1, 10_000),
    st.floats(0, 1, exclude_max=True),
    st.floats(0.01, 300),
    st.floats(1, 3600),
)
def test_backoff_is_bounded(failures: int, chance: float, first: float, most: float) -> None:
    limits = replace(LIMITS, backoff_first_s=first, backoff_max_s=most)
    wait = backoff_s(failures, limits, chance)
    assert 0 < wait <= most
    assert wait >= min(first, most) * 0.899


def test_jitter_spreads() -> None:
    assert backoff_s(4, LIMITS, 0.0) == pytest.approx(7.2)
    assert backoff_s(4, LIMITS, 0.999) == pytest.approx(8.8, abs=0.01)


def test_failures_are_forgotten_after_a_healthy_stretch() -> None:
    state = in_phase(V, failures=5, since=1000.0)
    almost, _ = step(state, Tick(), 1000.0 + LIMITS.healthy_reset_s - 0.1)
    enough, _ = step(state, Tick(), 1000.0 + LIMITS.healthy_reset_s)
    assert (almost.failures, enough.failures) == (5, 0)


def test_one_that_has_served_for_long_is_started_anew_at_once() -> None:
    state = in_phase(V, failures=0, since=1000.0)
    at = 1000.0 + LIMITS.healthy_reset_s
    soon, _ = step(state, EngineObserved(UnitActive.FAILED), at - 0.1)
    assert soon.not_before == at - 0.1 + LIMITS.backoff_first_s
    proven, _ = step(state, Tick(), at)
    died, decision = step(proven, EngineObserved(UnitActive.FAILED), 2000.0)
    assert (died.phase, died.not_before, died.failures) == (Phase.BACKOFF, 2000.0, 1)
    assert kind(decision) == "Nothing"  # its last words are asked for first
    again, decision = step(died, Tick(), 2000.0)
    assert kind(decision) == "Start"
    second, _ = step(again, StartEnded(RETRY), 2001.0)
    assert second.not_before == 2001.0 + 2 * LIMITS.backoff_first_s


def test_one_that_hangs_after_it_has_served_for_long_is_started_anew_at_once() -> None:
    proven, _ = step(in_phase(V, since=1000.0), Tick(), 1000.0 + LIMITS.healthy_reset_s)
    stopping, _ = step(proven, EngineIll(HUNG), 2000.0)
    stopped, _ = step(stopping, StopEnded(None), 2010.0)
    assert (stopped.phase, stopped.not_before) == (Phase.BACKOFF, 2010.0)
    again, decision = step(stopped, Tick(), 2010.0)
    assert kind(decision) == "Start"
    assert not again.proven


def test_loading_is_no_healthy_stretch() -> None:
    state = in_phase(L, failures=5, since=0.0)
    assert step(state, Tick(), 100_000.0)[0].failures == 5


def test_a_start_that_is_too_slow_is_stopped_and_backs_off() -> None:
    state, decision = step(in_phase(Phase.LOADING), EngineIll(SLOW))
    assert isinstance(decision, Stop)
    assert (state.phase, state.failure) == (Phase.STOPPING, SLOW)
    state, _ = step(state, EngineObserved(UnitActive.INACTIVE))
    state, decision = step(state, StopEnded(None), 203.0)
    assert isinstance(decision, Nothing)
    assert (state.phase, state.failure, state.failures) == (Phase.BACKOFF, SLOW, 3)
    assert state.not_before == 207.0
    state, decision = step(state, Tick(), 207.0)
    assert isinstance(decision, Start)


def test_a_restart_after_a_slow_start_is_at_once() -> None:
    state, _ = step(in_phase(Phase.LOADING), EngineIll(SLOW))
    state, _ = step(state, WishChanged(False))
    state, _ = step(state, StopEnded(None))
    state, _ = step(state, WishChanged(True))
    state, _ = step(state, StartEnded(None))
    state, _ = step(state, RestartRequested())
    state, decision = step(state, StopEnded(None))
    assert (state.phase, kind(decision)) == (Phase.STARTING, "Start")


@pytest.mark.parametrize("code", [Code.ENGINE_DIED, Code.UNIT_START_FAILED])
def test_a_death_gets_its_reason(code: Code) -> None:
    before = in_phase(Phase.BACKOFF, failure=Failure(code, "cannot: it died"))
    state, _ = step(before, Diagnosed(FAULTED))
    assert state == replace(before, failure=FAULTED)  # the wait goes on
    state, _ = step(before, Diagnosed(DAMAGED))
    assert (state.phase, state.failure) == (Phase.HELD, DAMAGED)
    assert state.not_before == 200.0 + LIMITS.recheck_held_s


def died_of(state: InstanceState, reason: Failure) -> InstanceState:
    """One more that dies while it loads, and says why."""
    state = replace(state, phase=L, engine=UnitActive.ACTIVE)
    state, _ = step(state, EngineObserved(UnitActive.FAILED))
    assert state.phase is B
    return step(state, Diagnosed(reason))[0]


def test_what_may_pass_soon_is_held_by_its_reason_too() -> None:
    state = in_phase(L, failures=0)
    for _ in range(SOON_TRIES):
        state = died_of(state, OCCUPIED)
        assert (state.phase, state.failure) == (B, OCCUPIED)
    state = died_of(state, OCCUPIED)
    assert (state.phase, state.failure) == (H, OCCUPIED)
    state, _ = step(state, Tick(), state.not_before)
    assert died_of(state, OCCUPIED).phase is H  # each later look is one try


def test_what_may_pass_soon_is_looked_at_soon_whatever_failed_before() -> None:
    waits = []
    for failures in (0, 9):
        state, _ = step(in_phase(S, failures=failures, acting=True), StartEnded(SOON), 100.0)
        waits.append(state.not_before)
    assert waits[0] == waits[1]


@pytest.mark.parametrize("other", [RETRY, FAULTED])
def test_failures_of_another_kind_are_none_that_may_pass_soon(other: Failure) -> None:
    """Else the first one would be the last: an NPU that is held for a second ends the wish."""
    state = in_phase(L, failures=0)
    for _ in range(SOON_TRIES + 1):
        state = died_of(state, other)
    assert died_of(state, OCCUPIED).phase is B
    started, _ = step(replace(state, phase=S, acting=True), StartEnded(SOON))
    assert started.phase is B
    # Nor do they count on together over one in between.
    for _ in range(SOON_TRIES - 1):
        started, _ = step(replace(started, phase=S, acting=True), StartEnded(SOON))
    assert started.phase is B
    between = died_of(started, other)
    again, _ = step(replace(between, phase=S, acting=True), StartEnded(SOON))
    assert again.phase is B
    assert step(replace(started, phase=S, acting=True), StartEnded(SOON))[0].phase is H


def test_a_reason_that_comes_late_changes_nothing() -> None:
    for state in (
        in_phase(Phase.STARTING, failure=RETRY),
        in_phase(Phase.LOADING, failure=RETRY),
        in_phase(Phase.BACKOFF, failure=LOST),
        in_phase(Phase.HELD),
    ):
        assert step(state, Diagnosed(DAMAGED)) == (state, NOTHING)


def test_an_npu_is_left_at_once_and_without_backoff() -> None:
    """It is no failure of the engine: it starts as soon as it is down, and says why."""
    state, decision = step(in_phase(V), NpuLost(LOST))
    assert (state.phase, state.failure, kind(decision)) == (P, LOST, "Stop")
    state, decision = step(state, StopEnded(None))
    assert (state.phase, state.failure, kind(decision)) == (S, LOST, "Start")
    assert state.failures == 2  # as before
    state, _ = step(state, StartEnded(None))
    assert state.failure == LOST
    assert step(state, Probed(Health.HEALTHY))[0].failure is None


def test_an_npu_that_is_lost_while_the_engine_starts() -> None:
    """The start is not broken off: it ends, the engine is stopped, and starts elsewhere."""
    state, decision = step(in_phase(S), NpuLost(LOST))
    assert (state.phase, kind(decision)) == (S, "Nothing")
    state, decision = step(state, StartEnded(None))
    assert (state.phase, state.failure, kind(decision)) == (P, LOST, "Stop")
    state, decision = step(state, StopEnded(None))
    assert (state.phase, kind(decision)) == (S, "Start")
    state, decision = step(state, StartEnded(None))
    assert (state.phase, kind(decision)) == (L, "Nothing")


def test_a_lost_npu_whose_engine_did_not_start_is_forgotten() -> None:
    state, _ = step(in_phase(S), NpuLost(LOST))
    state, _ = step(state, StartEnded(RETRY))
    assert state.phase is B
    state, _ = step(state, Tick(), 10_000.0)
    state, decision = step(state, StartEnded(None))
    assert (state.phase, kind(decision)) == (L, "Nothing")


# --- any sequence --------------------------------------------------------------------------------


@dataclass
class World:
    """Feeds policy and keeps account of what it asked for, apart from its own state."""

    limits: Limits = LIMITS
    state: InstanceState = field(default_factory=InstanceState)
    now: float = 0.0
    wished: bool = False
    flying: str = ""  # "Start" or "Stop" while one is under way

    def feed(self, event: Event, chance: float = 0.5) -> Decision:
        if isinstance(event, WishChanged):
            self.wished = event.wished
        if isinstance(event, StartEnded | StopEnded):
            self.flying = ""
        before = self.state
        self.state, decision = decide(before, event, self.now, self.limits, chance)
        self.check(before, event, decision)
        if not isinstance(decision, Nothing):
            self.flying = kind(decision)
        return decision

    def check(self, before: InstanceState, event: Event, decision: Decision) -> None:
        state = self.state
        assert state.wished == self.wished
        if not isinstance(decision, Nothing):
            assert not self.flying, f"{kind(decision)} while {self.flying} is under way"
        if isinstance(decision, Start):
            assert self.wished
            assert state.phase is Phase.STARTING
            assert not (before.phase is Phase.IDLE and before.engine.is_up()), "not adopted"
        if isinstance(decision, Stop):
            assert state.phase is Phase.STOPPING
        assert state.acting == bool(self.flying or not isinstance(decision, Nothing))
        if state.phase is Phase.SERVING and before.phase is not Phase.SERVING:
            assert event == Probed(Health.HEALTHY)
            assert before.phase is Phase.LOADING
        if isinstance(event, Probed) and event.health is not Health.HEALTHY:
            assert (state, kind(decision)) == (before, "Nothing")
        if state.phase in WAITS:
            assert state.failure is not None
            assert math.isfinite(state.not_before)
            if state.phase is Phase.BACKOFF and before.phase is not Phase.BACKOFF:
                assert self.now <= state.not_before <= self.now + self.limits.backoff_max_s
        if state.phase is not before.phase:
            assert state.since == self.now

    def settle(self) -> None:
        """What is under way comes to its end, well."""
        while self.flying:
            self.feed(StartEnded(None) if self.flying == "Start" else StopEnded(None))


@st.composite
def histories(draw: st.DrawFn) -> World:
    """A world after any events that can happen: an end only of what is under way."""
    world = World(
        replace(
            LIMITS,
            backoff_first_s=draw(st.floats(0.01, 300)),
            backoff_max_s=draw(st.floats(1, 3600)),
        )
    )
    outcome = st.sampled_from([None, None, *FAILURES])
    free = st.sampled_from([one for one in EVENTS if not isinstance(one, StartEnded | StopEnded)])
    for _ in range(draw(st.integers(0, 40))):
        world.now += draw(st.sampled_from([0.0, 0.1, 1.0, 10.0, 700.0]))
        if world.flying and draw(st.booleans()):
            failure = draw(outcome)
            world.feed(StartEnded(failure) if world.flying == "Start" else StopEnded(failure))
        else:
            world.feed(draw(free), draw(st.floats(0, 1, exclude_max=True)))
    return world


many = settings(deadline=None, max_examples=200)


@given(histories())
@many
def test_invariants_hold_at_every_step(world: World) -> None:
    """They are checked by `World` while the history is made; this is the place where they fail."""
    assert world.state.phase in Phase


@given(histories())
@many
def test_a_wished_instance_is_never_given_up(world: World) -> None:
    if world.state.phase in WAITS and world.state.wished:
        world.now = max(world.now, world.state.not_before)
        assert isinstance(world.feed(Tick()), Start)


@given(histories(), st.sampled_from([UnitActive.INACTIVE, UnitActive.FAILED]))
@many
def test_a_withdrawn_wish_ends_idle(world: World, down: UnitActive) -> None:
    world.feed(WishChanged(False))
    world.settle()
    world.feed(EngineObserved(down))
    assert world.state.phase is Phase.IDLE
    for _ in range(3):
        world.now += 1000.0
        assert isinstance(world.feed(Tick()), Nothing)
    assert world.state.phase is Phase.IDLE


@given(histories())
@many
def test_a_wish_comes_to_serve_when_all_goes_well(world: World) -> None:
    """However it came here: attach connects, what is begun ends well, time passes."""
    world.feed(WishChanged(True, again=True))
    for _ in range(4):
        world.settle()
        world.feed(EngineObserved(UnitActive.ACTIVE))
        world.feed(Probed(Health.HEALTHY))
        world.now = max(world.now + 1.0, world.state.not_before)
        world.feed(Tick())
    assert world.state.phase is Phase.SERVING


@given(histories())
@many
def test_healthy_serving_is_left_alone(world: World) -> None:
    world.state = replace(world.state, phase=Phase.SERVING, wished=True, acting=False)
    world.wished, world.flying = True, ""
    quiet: Iterable[Event] = (
        WishChanged(True),
        WishChanged(True, again=True),
        EngineObserved(UnitActive.ACTIVE),
        EngineObserved(UnitActive.UNKNOWN),
        Probed(Health.UNKNOWN),
        Probed(Health.UNHEALTHY),
        CauseChanged(),
        Tick(),
    )
    for event in quiet:
        world.now += 500.0
        assert isinstance(world.feed(event), Nothing)
        assert world.state.phase is Phase.SERVING


inputs = st.lists(
    st.tuples(st.sampled_from(EVENTS), st.floats(0, 1000), st.floats(0, 1, exclude_max=True))
)


def replay(history: list[tuple[Event, float, float]]) -> list[tuple[InstanceState, str]]:
    state, now, seen = InstanceState(), 0.0, []
    for event, later, chance in history:
        now += later
        state, decision = decide(state, event, now, LIMITS, chance)
        seen.append((state, kind(decision)))
    return seen


@given(inputs)
@many
def test_a_replay_gives_the_same(history: list[tuple[Event, float, float]]) -> None:
    assert replay(history) == replay(history)


@pytest.mark.parametrize("code", Code)
def test_every_failure_leads_to_its_phase(code: Code) -> None:
    failure = Failure(code, "cannot")
    state, _ = step(in_phase(S), StartEnded(failure))
    wanted = {
        Remedy.RETRY: B,
        Remedy.SOON: B,
        Remedy.EVENT: W,
        Remedy.CHANGE: H,
        Remedy.PERSON: H,
    }
    assert state.phase is wanted[failure.remedy]
    assert state.not_before > 200.0


def test_what_may_pass_soon_is_tried_for_a_minute_and_then_held() -> None:
    """A conflict of moments while an engine is started again must not end the wish."""
    state, waited = in_phase(S, failures=0), []
    for _ in range(SOON_TRIES):
        state, _ = step(replace(state, phase=S, acting=True), StartEnded(SOON))
        assert state.phase is B
        waited.append(state.not_before - 200.0)
    assert 30.0 < sum(waited) < 90.0
    state, _ = step(replace(state, phase=S, acting=True), StartEnded(SOON))
    assert (state.phase, state.not_before) == (H, 200.0 + LIMITS.recheck_held_s)
    # Each later look is one try, and other trouble is still tried for ever.
    again, _ = step(replace(state, phase=S, acting=True), StartEnded(SOON))
    assert again.phase is H
    other, _ = step(replace(state, phase=S, acting=True), StartEnded(RETRY))
    assert other.phase is B


def test_what_was_refused_while_it_stopped_is_started_when_it_has() -> None:
    refused = Failure(Code.UNIT_REFUSED, "cannot start it yet: it is deactivating")
    waiting = InstanceState(
        Phase.BACKOFF, True, 0.0, 3, 100.0, refused, engine=UnitActive.DEACTIVATING
    )
    state, decision = decide(waiting, EngineObserved(UnitActive.INACTIVE), 1.0, LIMITS)
    assert (state.phase, isinstance(decision, Start)) == (Phase.STARTING, True)
    # Refused for another reason: its time has to come, or each look would be a try.
    for down in (UnitActive.INACTIVE, UnitActive.FAILED):
        stays, decision = decide(
            replace(waiting, engine=down), EngineObserved(UnitActive.INACTIVE), 1.0, LIMITS
        )
        assert (stays.phase, isinstance(decision, Nothing)) == (Phase.BACKOFF, True)
