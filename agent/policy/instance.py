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
from agent.policy.backoff import backoff_s
from agent.policy.state import (
    NOTHING,
    CauseChanged,
    Decision,
    EngineObserved,
    Event,
    InstanceState,
    NpuLost,
    Probed,
    RestartRequested,
    Start,
    StartEnded,
    Stop,
    StopEnded,
    Tick,
    WishChanged,
)

# Backoff of 1, 2, 4 ... 32 s: a minute for whoever holds a port or a chip to let go of it.
SOON_TRIES = 6


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
        case StopEnded():
            return _on_stopped(state, event, now, limits, chance)
        case Probed():
            return _on_probe(state, event, now)
        case CauseChanged():
            return _on_cause(state, now)
        case NpuLost():
            return _on_npu_lost(state, event.failure, now)
        case RestartRequested():
            return _on_restart(state, now)
        case Tick():
            return _on_tick(state, now, limits)
        case _:
            assert_never(event)


def _enter(
    state: InstanceState, phase: Phase, now: float, failure: Failure | None = None
) -> InstanceState:
    return replace(state, phase=phase, since=now, failure=failure)


def _start(state: InstanceState, now: float) -> tuple[InstanceState, Decision]:
    """A failure that led here stays visible until the instance serves; what was only waited for
    does not."""
    state = replace(state, outdated=False, acting=True, lost=None)
    failure = state.failure
    if failure is not None and failure.remedy not in (Remedy.RETRY, Remedy.SOON):
        failure = None
    return _enter(state, Phase.STARTING, now, failure), Start()


def _stop(
    state: InstanceState, now: float, failure: Failure | None = None
) -> tuple[InstanceState, Decision]:
    """`failure`: why, where nobody asked for it."""
    return _enter(replace(state, acting=True, lost=None), Phase.STOPPING, now, failure), Stop()


def _on_wish(
    state: InstanceState, event: WishChanged, now: float
) -> tuple[InstanceState, Decision]:
    if not event.wished:
        return _withdraw(state, now)
    state = replace(state, wished=True)
    match state.phase:
        case Phase.IDLE if state.engine.is_up():
            # Adopted: it runs already, so nothing is started and nothing is disturbed.
            return _enter(state, Phase.LOADING, now), NOTHING
        case Phase.IDLE:
            return _start(replace(state, failures=0, failure=None), now)
        case Phase.HELD | Phase.WAITING if event.again:
            return _start(state, now)
        case Phase.BACKOFF if event.again:
            # A person started it by hand, or the front unit is new: try now.
            return _start(state, now)
        case Phase.STOPPING if event.again and not state.acting:
            # Stopped and started again at once. If the engine never went down it is left alone:
            # a start looks first.
            return _start(state, now)
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
            return _enter(state, Phase.STOPPING, now), NOTHING
        case Phase.WAITING | Phase.BACKOFF | Phase.HELD:
            # The reason stays to be seen: a held instance that is not enabled ends here too.
            return _enter(state, Phase.IDLE, now, state.failure), NOTHING
        case _:
            assert_never(state.phase)


def _on_engine(
    state: InstanceState, event: EngineObserved, now: float, limits: Limits, chance: float
) -> tuple[InstanceState, Decision]:
    was_down = state.engine.is_down()
    state = replace(state, engine=event.active)
    if event.active.is_up() and state.wished and state.phase in (Phase.BACKOFF, Phase.WAITING):
        return _enter(state, Phase.LOADING, now, state.failure), NOTHING
    if not event.active.is_down():
        return state, NOTHING
    if not was_down and state.phase is Phase.BACKOFF and state.wished:
        if _was_refused(state.failure):
            return _start(state, now)  # it was still on its way down; that is over
        return state, NOTHING
    match state.phase:
        case Phase.STOPPING if not state.wished and not state.acting:
            return _enter(state, Phase.IDLE, now), NOTHING
        case Phase.LOADING | Phase.SERVING if state.wished:
            died = Failure(
                Code.ENGINE_DIED,
                f"cannot keep serving: the engine ended ({event.detail or event.active.value})",
                "it is started again by itself; the engine's last words: deepseekctl logs",
            )
            return _fail(state, died, now, limits, chance)
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
        if state.wished and state.lost is None:
            return _enter(state, Phase.LOADING, now, state.failure), NOTHING
        return _stop(state, now, state.lost)
    if not state.wished:
        return _enter(state, Phase.IDLE, now), NOTHING
    if state.outdated and event.failure.remedy not in (Remedy.RETRY, Remedy.SOON):
        # The news came while the old facts were being looked at: nobody will bring it again.
        return _start(state, now)
    return _fail(state, event.failure, now, limits, chance)


def _on_stopped(
    state: InstanceState, event: StopEnded, now: float, limits: Limits, chance: float
) -> tuple[InstanceState, Decision]:
    if state.phase is not Phase.STOPPING:
        return state, NOTHING
    state = replace(state, acting=False)
    if not state.wished:
        return _enter(state, Phase.IDLE, now), NOTHING
    if event.failure is not None:
        return _fail(state, event.failure, now, limits, chance)
    return _start(state, now)


def _on_probe(state: InstanceState, event: Probed, now: float) -> tuple[InstanceState, Decision]:
    if event.health is Health.HEALTHY and state.phase is Phase.LOADING:
        return _enter(state, Phase.SERVING, now), NOTHING
    return state, NOTHING


def _on_cause(state: InstanceState, now: float) -> tuple[InstanceState, Decision]:
    if state.phase is Phase.STARTING:
        return replace(state, outdated=True), NOTHING
    if state.wished and state.phase in (Phase.WAITING, Phase.HELD):
        return _start(state, now)
    return state, NOTHING


def _on_npu_lost(
    state: InstanceState, failure: Failure, now: float
) -> tuple[InstanceState, Decision]:
    """Without backoff: the next start goes elsewhere, or waits until the NPU has been mended."""
    match state.phase:
        case Phase.LOADING | Phase.SERVING:
            return _stop(state, now, failure)
        case Phase.STARTING:
            return replace(state, lost=failure), NOTHING
        case _:
            return state, NOTHING


def _on_restart(state: InstanceState, now: float) -> tuple[InstanceState, Decision]:
    match state.phase:
        case Phase.LOADING | Phase.SERVING:
            return _stop(state, now)
        case Phase.WAITING | Phase.BACKOFF | Phase.HELD if state.wished:
            return _start(state, now)
        case _:
            return state, NOTHING


def _on_tick(state: InstanceState, now: float, limits: Limits) -> tuple[InstanceState, Decision]:
    match state.phase:
        case Phase.BACKOFF | Phase.WAITING | Phase.HELD if state.wished and (
            now >= state.not_before
        ):
            return _start(state, now)
        case Phase.SERVING if state.failures and now - state.since >= limits.healthy_reset_s:
            return replace(state, failures=0), NOTHING
        case _:
            return state, NOTHING


def _fail(
    state: InstanceState, failure: Failure, now: float, limits: Limits, chance: float
) -> tuple[InstanceState, Decision]:
    """Retry later, wait for an event, or hold: by who can mend it. All of them look again."""
    match failure.remedy:
        case Remedy.SOON if state.failures >= SOON_TRIES:
            return _hold(state, failure, now, limits)
        case Remedy.RETRY | Remedy.SOON:
            failures = state.failures + 1
            wait_s = backoff_s(failures, limits, chance)
            state = replace(state, failures=failures, not_before=now + wait_s)
            return _enter(state, Phase.BACKOFF, now, failure), NOTHING
        case Remedy.EVENT:
            # The event comes from npud; looking again covers one that was lost.
            state = replace(state, not_before=now + limits.recheck_held_s)
            return _enter(state, Phase.WAITING, now, failure), NOTHING
        case Remedy.CHANGE | Remedy.PERSON:
            return _hold(state, failure, now, limits)
        case _:
            assert_never(failure.remedy)


def _hold(
    state: InstanceState, failure: Failure, now: float, limits: Limits
) -> tuple[InstanceState, Decision]:
    state = replace(state, not_before=now + limits.recheck_held_s)
    return _enter(state, Phase.HELD, now, failure), NOTHING
