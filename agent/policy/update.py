# SPDX-License-Identifier: MulanPSL-2.0
"""What an instance runs on, and what becomes of an update: `decide_update(state, event, now) ->
(state, news)`. Pure.

`now` is in seconds since the epoch: a trial outlives the agent and the boot. A jump of the clock
ends a trial early or has it begin anew, and nothing else. What is to be done stands in the state:
what `pin` says shall run, `is_settled`, `restart`, and the order that is to be carried out.
"""

from dataclasses import replace
from typing import assert_never

from agent.errors import Code, Failure
from agent.policy.blame import MAYBE_OF_THE_NEW_ONE, OF_THE_NEW_ONE
from agent.policy.update_state import (
    Attempted,
    EngineAnswered,
    EngineFailed,
    EngineStarted,
    News,
    PinLost,
    RestartBegun,
    RollbackAsked,
    ServingTick,
    Settled,
    StartDue,
    Step,
    Undone,
    UpdateAsked,
    UpdateEvent,
    UpdateFetched,
    UpdateState,
)
from agent.supplies import Report, Supply
from agent.wording import say_supply

TRIAL_S = 600.0  # from the first answer on
TRIAL_BOOTS = 3  # in as many of them may it begin
TRIAL_FAULTS = 5  # with which what its NPU may be the reason of is its own fault


# --- what is refused -----------------------------------------------------------------------------


def why_no_update(name: str, state: UpdateState) -> Failure | None:
    """None when one may begin."""
    if state.order is None and state.trial is None:
        return None
    what = (
        "it is being fetched" if state.trial is None else f"{say_supply(state.trial)} is on trial"
    )
    return Failure(
        Code.UPDATE_REFUSED,
        f"cannot update {name}: another update is under way ({what})",
        f"to end that one: deepseekctl rollback {name}",
    )


def why_no_rollback(name: str, state: UpdateState, reference: str) -> Failure | None:
    """None when there is something to go back to. `reference`: the image in the profile."""
    if state.order is not None or state.trial is not None:
        return None
    if state.previous is None:
        return Failure(
            Code.UPDATE_REFUSED, f"cannot go back with {name}: it has run on nothing else before"
        )
    if state.previous.image_reference != reference:
        return Failure(
            Code.UPDATE_REFUSED,
            f"cannot go back with {name}: it ran on {state.previous.image_reference} before, and "
            f"its profile says {reference}",
            "name that image in the profile",
        )
    return None


# --- deciding ------------------------------------------------------------------------------------


def decide_update(state: UpdateState, event: UpdateEvent, now: float) -> Step:
    """The next state and what is to be told of it."""
    match event:
        case UpdateAsked():
            return _on_asked(state, event)
        case UpdateFetched():
            return _on_fetched(state, event.outcome, now)
        case RollbackAsked():
            return _on_rollback(state, now)
        case Settled():
            same = (state.pin, state.kept) == (event.of.pin, event.of.kept)
            return (replace(state, is_settled=True) if same else state), None
        case PinLost():
            same = state.pin == event.of.pin
            return _on_pin_lost(state, event.failure, now) if same else (state, None)
        case StartDue():
            return _on_start_due(state, event.boot, now)
        case Attempted():
            return _on_attempt(state, event), None
        case RestartBegun():
            return replace(state, restart=False), None
        case EngineStarted():
            return _on_started(state, event)
        case EngineAnswered():
            return _on_answer(state, event.supply, now), None
        case EngineFailed():
            return _on_failure(state, event, now)
        case ServingTick():
            return _on_tick(state, now)
        case _:
            assert_never(event)


def _on_asked(state: UpdateState, event: UpdateAsked) -> Step:
    if state.order is not None or state.trial is not None:
        return state, None
    if state.current is None:
        state = replace(state, current=event.base, is_settled=False)
    return replace(state, order=event.order, undone=None, checked_at=0.0), None


def _on_fetched(state: UpdateState, outcome: Report | Failure, now: float) -> Step:
    current = state.current
    if state.order is None or current is None:
        return state, None
    state = replace(state, order=None)
    failure = outcome if isinstance(outcome, Failure) else outcome.failure
    if failure is not None:
        return state, News("update-failed", failure.message)
    assert isinstance(outcome, Report)  # noqa: S101 - for mypy: otherwise it has failed
    found = _found(current, outcome)
    if found.is_same(current):
        return replace(state, checked_at=now), News("up-to-date", "there is nothing new")
    fresh = replace(
        state, trial=found, on_trial=False, answered_at=None, boots=0, boot="", faults=0
    )
    return _changed(fresh), None


def _found(current: Supply, report: Report) -> Supply:
    """What was not looked for stays as it is."""
    image_id = report.image_id or current.image_id
    known = current.image_digest if image_id == current.image_id else ""
    return replace(
        current,
        image_id=image_id,
        image_digest=report.image_digest or known,
        model_revision=report.model_folder or current.model_revision,
        at=0.0,
    )


def _changed(state: UpdateState) -> UpdateState:
    """Something else shall run from now on."""
    return replace(state, is_settled=False, restart=True)


def _on_rollback(state: UpdateState, now: float) -> Step:
    if state.order is not None:
        return replace(state, order=None), News("update-ended", "a person did not want it any more")
    if state.trial is not None:
        asked = Failure(Code.UPDATE_REFUSED, "a person did not want it any more")
        return _undo(state, asked, now)
    if state.previous is None:
        return state, None
    back = replace(state, current=state.previous, previous=state.current, undone=None)
    return _changed(back), News(
        "rolled-back", f"to {say_supply(state.previous)}, as a person asked"
    )


def _undo(state: UpdateState, failure: Failure, now: float) -> Step:
    """Back to what ran before. Where no start on the new one has begun, that runs still."""
    if state.trial is None:
        return state, None
    undone = Undone(state.trial, failure, now)
    began = state.on_trial
    state = replace(state, trial=None, on_trial=False, answered_at=None, undone=undone)
    state = replace(state, is_settled=False, restart=began)
    back = f"; back to {say_supply(state.current)}" if state.current is not None else ""
    return state, News("update-undone", f"{say_supply(undone.supply)}: {failure.message}{back}")


def _on_pin_lost(state: UpdateState, failure: Failure, now: float) -> Step:
    if state.trial is not None:
        return _undo(state, failure, now)
    if state.current is None:
        return state, None
    # What lies there is served: better than nothing, and told.
    current = replace(state.current, model_revision="")
    return replace(state, current=current), News("pin-lost", failure.message)


def _on_start_due(state: UpdateState, boot: str, now: float) -> Step:
    """A reboot alone ends no trial. One that brings the host down each time would never end."""
    if not state.on_trial or boot == state.boot or state.boots < TRIAL_BOOTS:
        return state, None
    failure = Failure(
        Code.HOST_WENT_DOWN,
        f"cannot keep it on trial: the host went down in each of {state.boots} boots in which it "
        "was tried",
        "why: journalctl -b -1",
    )
    return _undo(state, failure, now)


def _on_attempt(state: UpdateState, event: Attempted) -> UpdateState:
    if state.pin is None or not state.pin.is_same(event.pin):
        return state
    state = replace(state, restart=False, on_trial=state.trial is not None, answered_at=None)
    if not state.on_trial:
        return state
    return replace(state, boots=state.boots + (event.boot != state.boot), boot=event.boot)


def _on_started(state: UpdateState, event: EngineStarted) -> Step:
    runs, pin = event.supply, state.pin
    if pin is None or pin.is_same(runs):
        return state, None
    if not event.is_new:
        # What it is to be replaced by may have become another one meanwhile: an update was undone.
        # Or the restart that had begun for it came to nothing: its stop was not delivered.
        return replace(state, on_trial=False, restart=True), None
    if state.trial is not None and not state.on_trial:
        return state, None  # it was started on the former one, and will be replaced
    why = f"it runs on {say_supply(runs)}, since {_why_other(pin, runs)}"
    if state.trial is None:
        return state, News("pin-lost", why) if pin.is_named_alike(runs) else None
    dropped = replace(state, trial=None, on_trial=False, answered_at=None, is_settled=False)
    return dropped, News("update-dropped", why)


def _why_other(pin: Supply, runs: Supply) -> str:
    if pin.image_reference != runs.image_reference:
        return "its profile names another image"
    if pin.model_directory != runs.model_directory:
        return "its profile names another model"
    if pin.image_id != runs.image_id:
        return f"image {pin.image_id[:12]} is gone from Podman"
    return f"the model's revision {pin.model_revision or 'of before'} is not what lies there"


def _on_answer(state: UpdateState, supply: Supply, now: float) -> UpdateState:
    if state.trial is not None and state.on_trial:
        if not supply.is_same(state.trial) or state.answered_at is not None:
            return state
        return replace(state, answered_at=now)
    if state.current is None:
        return replace(state, current=replace(supply, at=now), is_settled=False)
    if state.restart and supply.is_named_alike(state.current):
        return state  # that engine is being replaced: its answer comes late
    if supply.is_same(state.current) or state.trial is not None:
        return state
    # Another one under the same names: what was to run is lost, and nobody can go back to it.
    lost = supply.is_named_alike(state.current)
    previous = state.previous if lost else state.current
    return replace(state, current=replace(supply, at=now), previous=previous, is_settled=False)


def _on_failure(state: UpdateState, event: EngineFailed, now: float) -> Step:
    if state.trial is None or not state.on_trial:
        return state, None
    state = replace(state, answered_at=None)
    if event.npu_lost:
        return state, None
    if event.failure.code in OF_THE_NEW_ONE:
        return _undo(state, event.failure, now)
    if event.ran and event.failure.code in MAYBE_OF_THE_NEW_ONE:
        return _on_doubt(replace(state, faults=state.faults + 1), event.failure, now)
    return state, None


def _on_doubt(state: UpdateState, failure: Failure, now: float) -> Step:
    """An answer in between is no proof: kernels fail under load. Nobody else ends such a loop, as
    nothing is known against the NPU."""
    if state.faults < TRIAL_FAULTS:
        return state, None
    words = f"cannot keep it on trial: it came to this {state.faults} times: {failure.message}"
    return _undo(state, replace(failure, message=words), now)


def _on_tick(state: UpdateState, now: float) -> Step:
    if state.trial is None or not state.on_trial or state.answered_at is None:
        return state, None
    if state.answered_at > now:
        return replace(state, answered_at=now), None  # the clock was set back
    if now - state.answered_at < TRIAL_S:
        return state, None
    won = replace(
        state,
        current=replace(state.trial, at=state.answered_at),
        previous=state.current,
        trial=None,
        on_trial=False,
        answered_at=None,
        is_settled=False,
    )
    return won, News("updated", f"to {say_supply(state.trial)}")
