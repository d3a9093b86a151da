# SPDX-License-Identifier: MulanPSL-2.0
"""What to do about one instance: `decide(state, event, now, limits) -> (state, decision)`. Pure.

`now` is in seconds, monotonic. A decision is a value, carried out elsewhere; what came of it comes
back as an event. Nothing here ever waits: a time to wait for is `not_before` in the state.
"""

from dataclasses import replace
from typing import assert_never

from agent.config.values import Limits
from agent.errors import Code, Failure, Remedy
from agent.model import Health, Phase
from agent.policy.moves import SOON_TRIES, enter, fail, hold, start, stop
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
    NpuLost,
    Probed,
    RestartRequested,
    StartEnded,
    Stop,
    StopEnded,
    StopMissed,
    Tick,
    WishChanged,
)

# The end of a fetch has it look again. In the latter two it went on while it could not be looked
# at what lacks.
WAIT_FOR_FETCH = (Phase.FETCHING, Phase.BACKOFF, Phase.WAITING)


def decide(
    state: InstanceState, event: Event, now: float, limits: Limits, chance: float = 0.5
) -> tuple[InstanceState, Decision]:
    """The next state and what to do. `chance` in [0, 1) spreads the backoff."""
    match event:
        case WishChanged():
            return _on_wish(state, event, now)
        case EngineObserved():
            return _on_engine(state, event, now, limits, chance)
        case StartEnded():
            return _on_started(state, event, now, limits, chance)
        case FetchEnded():
            return _on_fetched(state, event, now, limits, chance)
        case StopEnded():
            return _on_stopped(state, event, now, limits, chance)
        case Probed():
            return _on_probe(state, event, now)
        case CauseChanged():
            return _on_cause(state, now)
        case NpuLost():
            return _on_npu_lost(state, event.failure, now)
        case EngineIll():
            return _on_ill(state, event.failure, now)
        case Diagnosed():
            return _on_diagnosed(state, event, now, limits)
        case StopMissed():
            return _on_stop_missed(state, now)
        case RestartRequested():
            return _on_restart(state, now)
        case Tick():
            return _on_tick(state, now, limits)
        case _:
            assert_never(event)


def _on_wish(
    state: InstanceState, event: WishChanged, now: float
) -> tuple[InstanceState, Decision]:
    if not event.wished:
        return _withdraw(state, now)
    state = replace(state, wished=True)
    match state.phase:
        case Phase.IDLE if state.engine.is_up():
            # Adopted: it runs already, so nothing is started and nothing is disturbed. One that has
            # served is watched, and not asked to answer first: it may be busy.
            return enter(state, Phase.SERVING if state.answered else Phase.LOADING, now), NOTHING
        case Phase.IDLE:
            return start(replace(state, failures=0, failure=None, mended=False), now)
        case Phase.HELD | Phase.WAITING if event.again:
            return start(replace(state, mended=False), now)
        case Phase.BACKOFF if event.again:
            # A person started it by hand, or the front unit is new: try now.
            return start(replace(state, mended=False), now)
        case Phase.STOPPING if event.again and not state.acting:
            # Stopped and started again at once. If the engine never went down it is left alone:
            # a start looks first.
            return start(state, now)
        case _:
            return state, NOTHING


def _withdraw(state: InstanceState, now: float) -> tuple[InstanceState, Decision]:
    """systemd itself stops the rendered unit (PartOf=, and ExecStopPost= of the front unit)."""
    state = replace(state, wished=False, failures=0)
    match state.phase:
        case Phase.IDLE | Phase.STOPPING:
            return state, NOTHING
        case Phase.STARTING:
            # The start in flight is refused by systemd (ExecCondition=); StartEnded tells.
            return state, NOTHING
        case Phase.LOADING | Phase.SERVING:
            return enter(state, Phase.STOPPING, now), NOTHING
        case Phase.WAITING | Phase.FETCHING | Phase.BACKOFF | Phase.HELD:
            # The reason stays to be seen: a held instance that is not enabled ends here too. But
            # where the stop itself ended the job of a start, that has told it before this came.
            why = state.failure
            was_ended = why is not None and why.code is Code.JOB_NOT_RUN
            return enter(state, Phase.IDLE, now, None if was_ended else why), NOTHING
        case _:
            assert_never(state.phase)


def _on_engine(
    state: InstanceState, event: EngineObserved, now: float, limits: Limits, chance: float
) -> tuple[InstanceState, Decision]:
    was_down = state.engine.is_down()
    state = replace(state, engine=event.active, answered=event.answered)
    waits = state.phase in (Phase.BACKOFF, Phase.WAITING, Phase.FETCHING)
    if event.active.is_up() and state.wished and waits:
        return enter(state, Phase.LOADING, now, state.failure), NOTHING
    if not event.active.is_down():
        return state, NOTHING
    if not was_down and state.phase is Phase.BACKOFF and state.wished:
        if _was_refused(state.failure):
            return start(state, now)  # it was still on its way down; that is over
        return state, NOTHING
    match state.phase:
        case Phase.STOPPING if not state.wished and not state.acting:
            return enter(state, Phase.IDLE, now), NOTHING
        case Phase.LOADING | Phase.SERVING if state.wished:
            died = Failure(
                Code.ENGINE_DIED,
                f"cannot keep serving: the engine ended ({event.detail or event.active.value})",
                "it is started again by itself; the engine's last words: deepseekctl logs INSTANCE",
            )
            return fail(state, died, now, limits, chance)
        case _:
            return state, NOTHING


def _was_refused(failure: Failure | None) -> bool:
    return failure is not None and failure.code is Code.UNIT_REFUSED


def _on_started(
    state: InstanceState, event: StartEnded, now: float, limits: Limits, chance: float
) -> tuple[InstanceState, Decision]:
    if state.phase is not Phase.STARTING:
        return state, NOTHING
    state = replace(state, acting=False)
    if event.failure is None:
        if state.wished and state.lost is None and not state.restart:
            return enter(state, Phase.LOADING, now, state.failure), NOTHING
        return stop(state, now, state.lost)
    if not state.wished:
        return enter(state, Phase.IDLE, now), NOTHING
    if state.restart:
        return start(replace(state, mended=False), now)
    in_vain = state.mended and event.failure.code is Code.MODEL_INVALID
    if event.lacking and not state.fetched and not in_vain:
        return enter(state, Phase.FETCHING, now, state.failure), Fetch()
    if state.outdated and event.failure.remedy not in (Remedy.RETRY, Remedy.SOON):
        # The news came while the old facts were being looked at: nobody will bring it again.
        return start(state, now)
    return fail(state, event.failure, now, limits, chance)


def _on_fetched(
    state: InstanceState, event: FetchEnded, now: float, limits: Limits, chance: float
) -> tuple[InstanceState, Decision]:
    """While a new plan is being made the old fetch may end: the plan tells what comes of it. One
    that still lacks something after a fetch is a failure: to fetch again would go on for ever."""
    if state.phase not in WAIT_FOR_FETCH or not state.wished:
        return state, NOTHING
    # Of one that nobody has, as of one that is right, there is nothing more to find out.
    over = event.failure is None or event.failure.code is Code.MODEL_INVALID
    state = replace(state, mended=state.mended or (event.mended and over))
    fetching = state.phase is Phase.FETCHING
    if event.failure is None:
        state = replace(state, failures=0, failure=None) if fetching else state
        state, decision = start(state, now)
        # What a fetch has brought that began before this plan may not be what the plan lacks.
        return replace(state, fetched=fetching), decision
    if not fetching:
        return state, NOTHING  # the next look has it begun anew
    return fail(state, event.failure, now, limits, chance)


def _on_stopped(
    state: InstanceState, event: StopEnded, now: float, limits: Limits, chance: float
) -> tuple[InstanceState, Decision]:
    if state.phase is not Phase.STOPPING:
        return state, NOTHING
    state = replace(state, acting=False)
    if not state.wished:
        return enter(state, Phase.IDLE, now, event.failure), NOTHING
    failure, state = event.failure or state.ill, replace(state, ill=None)
    if failure is not None and not state.restart:
        return fail(state, failure, now, limits, chance)
    return start(state, now)


def _on_probe(state: InstanceState, event: Probed, now: float) -> tuple[InstanceState, Decision]:
    if event.health is Health.HEALTHY and state.phase is Phase.LOADING:
        return enter(replace(state, mended=False), Phase.SERVING, now), NOTHING
    return state, NOTHING


def _on_cause(state: InstanceState, now: float) -> tuple[InstanceState, Decision]:
    if state.phase is Phase.STARTING:
        return replace(state, outdated=True), NOTHING
    if state.wished and state.phase in (Phase.WAITING, Phase.FETCHING, Phase.HELD):
        return start(state, now)
    return state, NOTHING


def _on_npu_lost(
    state: InstanceState, failure: Failure, now: float
) -> tuple[InstanceState, Decision]:
    """Without backoff: the next start goes elsewhere, or waits until the NPU has been mended."""
    match state.phase:
        case Phase.LOADING | Phase.SERVING:
            return stop(state, now, failure)
        case Phase.STARTING:
            return replace(state, lost=failure), NOTHING
        case _:
            return state, NOTHING


def _on_ill(state: InstanceState, failure: Failure, now: float) -> tuple[InstanceState, Decision]:
    """Another try, with backoff where it may come to the same at once. News of a start that has
    come to its end meanwhile, or of an engine that does not serve any more, are none."""
    phase = Phase.LOADING if failure.code is Code.START_TOO_SLOW else Phase.SERVING
    if state.phase is not phase or not state.wished:
        return state, NOTHING
    state, _ = stop(state, now, failure)
    return replace(state, ill=failure), Stop(failure)


def _on_diagnosed(
    state: InstanceState, event: Diagnosed, now: float, limits: Limits
) -> tuple[InstanceState, Decision]:
    """The reason takes the place of what was seen from outside. The wait goes on as it was, unless
    another try cannot help."""
    failure = event.failure
    if state.phase is not Phase.BACKOFF or not died(state.failure):
        return state, NOTHING
    if event.mendable and state.wished and not state.mended:
        return enter(state, Phase.FETCHING, now, failure), Fetch()
    match failure.remedy:
        case Remedy.RETRY | Remedy.EVENT:
            return replace(state, failure=failure), NOTHING
        case Remedy.SOON if state.soon < SOON_TRIES:
            return replace(state, failure=failure, soon=state.soon + 1), NOTHING
        case Remedy.SOON | Remedy.CHANGE | Remedy.PERSON:
            return hold(state, failure, now, limits)
        case _:
            assert_never(failure.remedy)


def died(failure: Failure | None) -> bool:
    """Whether all that is known is that the engine ended: its log may tell more."""
    return failure is not None and failure.code in (Code.ENGINE_DIED, Code.UNIT_START_FAILED)


def _on_stop_missed(state: InstanceState, now: float) -> tuple[InstanceState, Decision]:
    if state.wished or state.acting or not state.engine.is_up():
        return state, NOTHING
    return stop(state, now) if state.phase in (Phase.IDLE, Phase.STOPPING) else (state, NOTHING)


def _on_restart(state: InstanceState, now: float) -> tuple[InstanceState, Decision]:
    match state.phase:
        case Phase.LOADING | Phase.SERVING:
            return stop(state, now)
        case Phase.WAITING | Phase.FETCHING | Phase.BACKOFF | Phase.HELD if state.wished:
            return start(replace(state, mended=False), now)
        case Phase.STARTING | Phase.STOPPING if state.wished:
            # A start that is under way may have been planned before what the restart is for.
            return replace(state, restart=True), NOTHING
        case _:
            return state, NOTHING


def _on_tick(state: InstanceState, now: float, limits: Limits) -> tuple[InstanceState, Decision]:
    match state.phase:
        case Phase.BACKOFF | Phase.WAITING | Phase.HELD if state.wished and (
            now >= state.not_before
        ):
            return start(state, now)
        case Phase.SERVING if not state.proven and now - state.since >= limits.healthy_reset_s:
            return replace(state, failures=0, proven=True), NOTHING
        case _:
            return state, NOTHING
