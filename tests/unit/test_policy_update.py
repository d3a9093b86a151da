# SPDX-License-Identifier: MulanPSL-2.0
"""Updates: what each event leads to, and what holds in any sequence of them."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import Code, Failure
from agent.policy.blame import MAYBE_OF_THE_NEW_ONE, OF_THE_NEW_ONE
from agent.policy.update import (
    TRIAL_FAULTS,
    TRIAL_S,
    decide_update,
    why_no_rollback,
    why_no_update,
)
from agent.policy.update_state import (
    Attempted,
    EngineAnswered,
    EngineFailed,
    EngineStarted,
    PinLost,
    RestartBegun,
    RollbackAsked,
    ServingTick,
    Settled,
    StartDue,
    UpdateAsked,
    UpdateEvent,
    UpdateFetched,
    UpdateState,
)
from agent.supplies import ImageOrder, KeptImage, Order, Purpose, Report, Role, Supply

REFERENCE = "quay.io/ascend/vllm-ascend:v1"
MODEL = "/var/lib/deepseek/models/m"
DIED = Failure(Code.ENGINE_DIED, "cannot keep serving: it died")
FAULTED = Failure(Code.NPU_FAULTED, "cannot start 8b: its NPU failed")
NOT_USABLE = Failure(Code.NPU_NOT_USABLE, "cannot start 8b: it may not use its NPU")
NO_ROOM = Failure(Code.RUN_TOO_FULL, "cannot start it: no room is left in /run")
DOWN = Failure(Code.SOURCE_UNREACHABLE, "cannot fetch: nobody answers")
GONE = Failure(Code.MODEL_MISSING, "cannot use revision r2: it is not there")
ORDER = Order("8b", ImageOrder(REFERENCE, ()), None, purpose=Purpose.REFRESH)


def supply(number: int, revision: str = "r1") -> Supply:
    return Supply(REFERENCE, f"{number:064x}", "", MODEL, revision, 0.0)


OLD, NEW, OLDER = supply(1), supply(2, "r2"), supply(9)
REPORT = Report(None, image_id=NEW.image_id, model_revision="commit", model_folder="r2")
RUNS = UpdateState(current=OLD, previous=OLDER)
FETCHING = replace(RUNS, order=ORDER)
FETCHED = replace(RUNS, trial=NEW, is_settled=False, restart=True)
TRIED = replace(RUNS, trial=NEW, on_trial=True)
ANSWERED = replace(TRIED, answered_at=100.0)


def step(state: UpdateState, event: UpdateEvent, now: float = 150.0) -> tuple[UpdateState, str]:
    after, news = decide_update(state, event, now)
    return after, "" if news is None else news.kind


# --- the way of an update ------------------------------------------------------------------------


def test_what_answers_first_is_what_it_goes_back_to() -> None:
    state, news = step(UpdateState(), EngineAnswered(OLD), 7.0)
    assert (state.current, state.is_settled, news) == (replace(OLD, at=7.0), False, "")
    other = replace(NEW, image_reference="quay.io/ascend/vllm-ascend:v2")
    state, _ = step(state, EngineAnswered(other), 8.0)  # its profile was changed
    assert (state.current, state.previous) == (replace(other, at=8.0), replace(OLD, at=7.0))
    again, _ = step(state, EngineAnswered(other), 9.0)
    assert again == state


def test_an_update_that_is_good() -> None:
    state, _ = step(RUNS, UpdateAsked(ORDER, OLD))
    assert (state.order, state.pin) == (ORDER, OLD)
    state, _ = step(state, UpdateFetched(REPORT))
    assert (state.order, state.trial, state.current) == (None, NEW, OLD)
    assert (state.is_settled, state.restart) == (False, True)
    state, _ = step(state, Settled(state))
    state, _ = step(state, RestartBegun())
    state, _ = step(state, Attempted(NEW, "a boot"))
    assert (state.is_settled, state.restart, state.on_trial) == (True, False, True)
    state, _ = step(state, EngineStarted(NEW, is_new=True))
    state, _ = step(state, EngineAnswered(NEW), 200.0)
    state, news = step(state, ServingTick(), 199.0 + TRIAL_S)
    assert (state.trial, news) == (NEW, "")
    state, news = step(state, ServingTick(), 200.0 + TRIAL_S)
    assert news == "updated"
    assert (state.current, state.previous, state.trial) == (replace(NEW, at=200.0), OLD, None)
    assert not state.is_settled


@pytest.mark.parametrize("state", [TRIED, ANSWERED])
@pytest.mark.parametrize("code", sorted(OF_THE_NEW_ONE))
def test_one_that_fails_is_undone(state: UpdateState, code: Code) -> None:
    failure = Failure(code, "cannot")
    after, news = step(state, EngineFailed(failure, npu_lost=False))
    assert news == "update-undone"
    assert (after.pin, after.current, after.previous, after.trial) == (OLD, OLD, OLDER, None)
    assert (after.is_settled, after.restart) == (False, True)
    assert after.undone is not None
    assert (after.undone.supply, after.undone.failure) == (NEW, failure)


@pytest.mark.parametrize("code", sorted(set(Code) - OF_THE_NEW_ONE - MAYBE_OF_THE_NEW_ONE))
def test_what_would_have_come_to_the_old_one_too_undoes_nothing(code: Code) -> None:
    after, news = step(ANSWERED, EngineFailed(Failure(code, "cannot"), npu_lost=False))
    assert (after, news) == (TRIED, "")


@pytest.mark.parametrize("failure", [DIED, FAULTED, NOT_USABLE])
def test_an_engine_that_dies_with_its_npu_undoes_nothing(failure: Failure) -> None:
    assert step(ANSWERED, EngineFailed(failure, npu_lost=True)) == (TRIED, "")


@pytest.mark.parametrize("code", sorted(MAYBE_OF_THE_NEW_ONE))
def test_one_that_blames_its_npu_each_time_is_undone(code: Code) -> None:
    """And what else comes in between, answers among it, neither counts nor clears the count."""
    state, failure = FETCHED, Failure(code, "cannot start 8b: it failed", "look")
    for _ in range(TRIAL_FAULTS - 1):
        state, _ = attempt(state, "a boot")
        state, news = step(state, EngineFailed(NO_ROOM, npu_lost=False))
        assert (state.trial, news) == (NEW, "")
        state, _ = step(state, EngineFailed(failure, npu_lost=True))
        state, _ = step(state, EngineFailed(failure, npu_lost=False, ran=False))
        state, _ = step(state, EngineAnswered(NEW))
        state, news = step(state, EngineFailed(failure, npu_lost=False))
        assert (state.trial, state.on_trial, state.answered_at, news) == (NEW, True, None, "")
    state, news = step(state, EngineFailed(failure, npu_lost=False))
    assert (state.pin, state.trial, state.restart, news) == (OLD, None, True, "update-undone")
    assert state.undone is not None
    assert (state.undone.failure.code, state.undone.failure.hint) == (code, "look")
    assert state.undone.failure.message.endswith(
        f"{TRIAL_FAULTS} times: cannot start 8b: it failed"
    )


def test_what_another_trial_said_of_its_npu_does_not_count() -> None:
    state = replace(TRIED, faults=TRIAL_FAULTS - 1)
    state, _ = step(state, EngineFailed(FAULTED, npu_lost=False))
    state, _ = step(state, UpdateAsked(ORDER, OLD))
    state, _ = step(state, UpdateFetched(REPORT))
    state, _ = attempt(state, "a boot")
    assert step(state, EngineFailed(FAULTED, npu_lost=False))[0].trial == NEW


@pytest.mark.parametrize("state", [RUNS, FETCHING, FETCHED])
def test_the_end_of_the_old_one_undoes_nothing(state: UpdateState) -> None:
    assert step(state, EngineFailed(DIED, npu_lost=False)) == (state, "")


def test_a_start_begins_the_trial_anew() -> None:
    """After a stop by a person, a boot, or another NPU."""
    after, _ = step(ANSWERED, Attempted(NEW, ""))
    assert after == TRIED


def attempt(state: UpdateState, boot: str) -> tuple[UpdateState, str]:
    """A start in that boot: what is due before it, then on what shall run by then."""
    state, news = step(state, StartDue(boot))
    assert state.pin is not None
    state, _ = step(state, Attempted(state.pin, boot))
    return state, news


def test_one_that_brings_the_host_down_is_undone() -> None:
    state = FETCHED
    for boot in ("first", "first", "second", "second", "third"):
        state, news = attempt(state, boot)
        state, _ = step(state, EngineStarted(NEW, is_new=True))
        state, _ = step(state, EngineAnswered(NEW))
        assert (state.trial, state.on_trial, news) == (NEW, True, "")
    state, news = attempt(state, "fourth")
    assert (state.pin, state.trial, state.on_trial, news) == (OLD, None, False, "update-undone")
    assert not state.is_settled
    assert state.undone is not None
    assert state.undone.failure.code is Code.HOST_WENT_DOWN


def test_a_boot_counts_when_it_was_tried_in_it() -> None:
    """One that nobody starts is on trial for as many boots as there are."""
    state = FETCHED
    for boot in map(str, range(9)):  # nothing has begun
        assert step(state, StartDue(boot)) == (state, "")
    state, _ = attempt(state, "first")
    for boot in map(str, range(9)):
        assert step(state, StartDue(boot)) == (state, "")


def test_the_boots_of_another_trial_do_not_count() -> None:
    state = FETCHED
    for boot in ("1", "2", "3"):
        state, _ = attempt(state, boot)
    state, news = step(state, EngineFailed(DIED, npu_lost=False))
    assert news == "update-undone"
    state, _ = attempt(state, "3")
    state, _ = step(state, UpdateAsked(ORDER, OLD))
    state, _ = step(state, UpdateFetched(REPORT))
    for boot in ("4", "5", "6"):
        state, news = attempt(state, boot)
        assert (state.trial, news) == (NEW, "")


def test_where_boots_have_no_name_none_is_counted() -> None:
    state = FETCHED
    for _ in range(9):
        state, _ = attempt(state, "")
    assert state.trial == NEW


def test_a_clock_that_is_set_back_makes_no_trial_endless() -> None:
    after, _ = step(ANSWERED, ServingTick(), 50.0)
    assert after.answered_at == 50.0


def test_nothing_new() -> None:
    same = Report(None, image_id=OLD.image_id, model_folder="r1")
    after, news = step(FETCHING, UpdateFetched(same))
    assert (after, news) == (replace(RUNS, checked_at=150.0), "up-to-date")
    assert step(FETCHING, UpdateFetched(Report(None)))[1] == "up-to-date"


@pytest.mark.parametrize("outcome", [DOWN, Report(DOWN, image_id=NEW.image_id)])
def test_what_could_not_be_fetched_changes_nothing(outcome: Failure | Report) -> None:
    assert step(FETCHING, UpdateFetched(outcome)) == (RUNS, "update-failed")


def test_one_at_a_time() -> None:
    for state in (FETCHING, FETCHED, TRIED):
        failure = why_no_update("8b", state)
        assert failure is not None
        assert failure.code is Code.UPDATE_REFUSED
        assert step(state, UpdateAsked(replace(ORDER, parallel=9), OLD)) == (state, "")
    assert why_no_update("8b", RUNS) is None


# --- back by hand --------------------------------------------------------------------------------


def test_back_by_hand_and_back_again() -> None:
    state, news = step(RUNS, RollbackAsked())
    assert (state.current, state.previous, news) == (OLDER, OLD, "rolled-back")
    assert (state.is_settled, state.restart) == (False, True)
    state, _ = step(state, RollbackAsked())
    assert (state.current, state.previous) == (OLD, OLDER)


def test_back_by_hand_ends_what_is_under_way() -> None:
    assert step(FETCHING, RollbackAsked()) == (RUNS, "update-ended")
    after, news = step(FETCHED, RollbackAsked())
    assert (after.pin, after.restart, news) == (OLD, False, "update-undone")
    after, _ = step(TRIED, RollbackAsked())
    assert (after.pin, after.restart) == (OLD, True)


def test_when_there_is_no_way_back() -> None:
    assert why_no_rollback("8b", RUNS, REFERENCE) is None
    assert why_no_rollback("8b", UpdateState(current=OLD), REFERENCE) is not None
    assert why_no_rollback("8b", RUNS, "quay.io/ascend/vllm-ascend:v2") is not None
    assert why_no_rollback("8b", TRIED, "quay.io/ascend/vllm-ascend:v2") is None


# --- what runs is not what was to run ------------------------------------------------------------


def test_a_pinned_image_that_is_gone_is_told() -> None:
    after, news = step(RUNS, EngineStarted(NEW, is_new=True))
    assert (after, news) == (RUNS, "pin-lost")
    after, news = step(TRIED, EngineStarted(supply(3), is_new=True))
    assert (after.trial, news) == (None, "update-dropped")


def test_an_engine_that_was_left_alone_is_still_to_be_replaced() -> None:
    after, news = step(TRIED, EngineStarted(OLD, is_new=False))
    assert (after.restart, after.on_trial, after.trial, news) == (True, False, NEW, "")


def test_so_is_one_whose_stop_was_not_delivered() -> None:
    state, _ = step(FETCHED, Settled(FETCHED))
    state, _ = step(state, RestartBegun())
    after, news = step(state, EngineStarted(OLD, is_new=False))
    assert (after.restart, after.on_trial, after.trial, news) == (True, False, NEW, "")
    state, _ = step(RUNS, RollbackAsked())
    state, _ = step(state, RestartBegun())
    state, _ = step(state, EngineStarted(OLD, is_new=False))
    state, _ = step(state, EngineAnswered(OLD))
    assert (state.restart, state.current, state.previous) == (True, OLDER, OLD)


def test_so_is_one_of_an_update_that_was_undone_meanwhile() -> None:
    state, _ = step(TRIED, EngineFailed(Failure(Code.UNIT_START_FAILED, "cannot"), npu_lost=False))
    state, _ = step(state, Attempted(OLD, "a boot"))
    after, news = step(state, EngineStarted(NEW, is_new=False))
    assert (after.restart, after.pin, news) == (True, OLD, "")


def test_a_revision_that_is_gone() -> None:
    after, news = step(FETCHED, PinLost(FETCHED, GONE))
    assert (after.pin, after.restart, news) == (OLD, False, "update-undone")
    after, news = step(RUNS, PinLost(RUNS, GONE))
    assert (after.current, news) == (replace(OLD, model_revision=""), "pin-lost")
    assert step(RUNS, PinLost(FETCHED, GONE)) == (RUNS, "")  # older news


def test_what_is_lost_takes_no_way_back_with_it() -> None:
    """A model whose damage could not be mended, as its hub does not know that commit any more; an
    image that is gone. Nobody can go back to that, but to what was before it."""
    for other in (replace(OLD, model_revision="r5"), supply(5)):
        state, news = step(RUNS, EngineStarted(other, is_new=True))
        assert news == "pin-lost"
        state, _ = step(state, EngineAnswered(other), 8.0)
        assert (state.current, state.previous) == (replace(other, at=8.0), OLDER)


def test_what_is_switched_late_settles_nothing() -> None:
    assert step(FETCHED, Settled(RUNS)) == (FETCHED, "")


def test_images_are_kept_by_their_role() -> None:
    assert TRIED.kept == (
        KeptImage(Role.CURRENT, OLD.image_id),
        KeptImage(Role.PREVIOUS, OLDER.image_id),
        KeptImage(Role.TRIAL, NEW.image_id),
    )
    assert UpdateState().kept == tuple(KeptImage(role, "") for role in Role)


# --- in any sequence -----------------------------------------------------------------------------


@dataclass
class Machine:
    """An engine that runs what it was started on; `bad` are those that never last."""

    bad: frozenset[str]
    state: UpdateState = field(default_factory=UpdateState)
    runs: Supply | None = None
    now: float = 1000.0
    told: list[str] = field(default_factory=list)
    boot: int = 0

    def tell(self, event: UpdateEvent) -> None:
        self.state, news = step(self.state, event, self.now)
        if news:
            self.told.append(news)

    def play(self, move: str) -> None:
        self.now += 1.0
        match move:
            case "update":
                self.tell(UpdateAsked(ORDER, OLD))
            case "fails":
                self.tell(UpdateFetched(DOWN))
            case "rollback":
                if why_no_rollback("8b", self.state, REFERENCE) is None:
                    self.tell(RollbackAsked())
            case "settle":
                self.tell(Settled(self.state))
            case "boot":
                self.boot, self.runs = self.boot + 1, None
            case "lost":
                self.tell(PinLost(self.state, GONE))
            case "restart":
                self._restart()
            case "answer" if self.runs is not None and self.runs.image_id not in self.bad:
                self.tell(EngineAnswered(self.runs))
            case "die" if self.runs is not None:
                self.tell(EngineFailed(DIED, npu_lost=False))
                self.runs = None
            case "npu" if self.runs is not None:
                self.tell(EngineFailed(DIED, npu_lost=True))
                self.runs = None
            case "fault" if self.runs is not None:
                self.tell(EngineFailed(FAULTED, npu_lost=False))
                self.runs = None
            case "wait" if self.runs is not None:
                self.now += TRIAL_S
                self.tell(ServingTick())
            case _ if move.startswith("fetched"):
                number = int(move.removeprefix("fetched"))
                self.tell(UpdateFetched(Report(None, image_id=f"{number:064x}")))
            case _:
                pass  # nothing runs that could

    def _restart(self) -> None:
        self.tell(StartDue(str(self.boot)))
        pin = self.state.pin or OLD
        self.tell(Settled(self.state))
        self.tell(Attempted(pin, str(self.boot)))
        self.tell(EngineStarted(pin, is_new=True))
        self.runs = pin


MOVES = (
    *("update", "fails", "rollback", "settle", "lost", "restart", "answer", "die", "npu", "wait"),
    *("fetched1", "fetched2", "fetched3", "restart", "answer", "boot", "fault"),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(MOVES), max_size=60), st.sets(st.sampled_from([2, 3])))
def test_the_old_one_is_never_lost(moves: list[str], bad: set[int]) -> None:
    machine = Machine(frozenset(f"{one:064x}" for one in bad))
    machine.play("restart")
    machine.play("answer")
    answered = {OLD.image_id}
    for move in moves:
        before = machine.state
        machine.play(move)
        state = machine.state
        if state.answered_at is not None and state.trial is not None:
            answered.add(state.trial.image_id)
        # What it goes back to has answered once, and is never the one that is on trial.
        assert state.current is not None
        assert state.current.image_id in answered
        assert state.trial is None or not state.trial.is_same(state.current)
        # A trial comes from a person's update alone, and one at a time.
        if state.trial is not None and before.trial is not state.trial:
            assert before.order is not None
            assert before.trial is None
    # Left alone, it ends on what answers: no loop of trials.
    trials = 0
    for _ in range(5):
        trials += machine.state.trial is not None
        machine.play("restart")
        machine.play("answer")
        if machine.state.answered_at is None and machine.state.trial is not None:
            machine.play("die")
        machine.play("wait")
    assert trials <= 1
    assert machine.state.trial is None
