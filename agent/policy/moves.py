# SPDX-License-Identifier: MulanPSL-2.0
"""The moves that `instance` makes: into a phase, with what has to be done there. Pure."""

from dataclasses import replace
from typing import assert_never

from agent.config.values import Limits
from agent.errors import Failure, Remedy
from agent.model import Phase
from agent.policy.backoff import backoff_s
from agent.policy.state import NOTHING, Decision, InstanceState, Start, Stop

# Backoff of 1, 2, 4 ... 32 s: a minute for whoever holds a port or a chip to let go of it.
SOON_TRIES = 6


def enter(
    state: InstanceState, phase: Phase, now: float, failure: Failure | None = None
) -> InstanceState:
    return replace(state, phase=phase, since=now, failure=failure)


def start(state: InstanceState, now: float) -> tuple[InstanceState, Decision]:
    """A failure that led here stays visible until the instance serves; what was only waited for
    does not."""
    state = replace(
        state, outdated=False, acting=True, fetched=False, lost=None, proven=False, restart=False
    )
    failure = state.failure
    if failure is not None and failure.remedy not in (Remedy.RETRY, Remedy.SOON):
        failure = None
    return enter(state, Phase.STARTING, now, failure), Start()


def stop(
    state: InstanceState, now: float, failure: Failure | None = None
) -> tuple[InstanceState, Decision]:
    """`failure`: why, where nobody asked for it."""
    state = replace(state, acting=True, lost=None, ill=None, restart=False)
    return enter(state, Phase.STOPPING, now, failure), Stop()


def fail(
    state: InstanceState, failure: Failure, now: float, limits: Limits, chance: float
) -> tuple[InstanceState, Decision]:
    """Retry later, wait for an event, or hold: by who can mend it. All of them look again.

    One that has served for long is started anew at once: what it starts with has worked."""
    soon = count_soon(state)
    match failure.remedy:
        case Remedy.SOON if soon >= SOON_TRIES:
            return hold(state, failure, now, limits)
        case Remedy.RETRY | Remedy.SOON:
            failures = state.failures + 1
            # What may pass soon is looked at soon, however often it has failed of other things.
            in_row = soon + 1 if failure.remedy is Remedy.SOON else failures
            wait_s = 0.0 if state.proven else backoff_s(in_row, limits, chance)
            state = replace(state, failures=failures, not_before=now + wait_s, proven=False)
            # Of a death it stays as it was: the engine's last words may tell that it is another.
            state = replace(state, soon=soon + (failure.remedy is Remedy.SOON))
            return enter(state, Phase.BACKOFF, now, failure), NOTHING
        case Remedy.EVENT:
            # The event comes from npud; looking again covers one that was lost.
            state = replace(state, not_before=now + limits.recheck_held_s)
            return enter(state, Phase.WAITING, now, failure), NOTHING
        case Remedy.CHANGE | Remedy.PERSON:
            return hold(state, failure, now, limits)
        case _:
            assert_never(failure.remedy)


def count_soon(state: InstanceState) -> int:
    """How often in a row it has failed of what may pass soon. Any other failure in between, and
    serving, begin that anew."""
    latest = state.failure
    return state.soon if latest is not None and latest.remedy is Remedy.SOON else 0


def hold(
    state: InstanceState, failure: Failure, now: float, limits: Limits
) -> tuple[InstanceState, Decision]:
    state = replace(state, not_before=now + limits.recheck_held_s)
    return enter(state, Phase.HELD, now, failure), NOTHING
