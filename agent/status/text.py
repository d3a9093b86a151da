# SPDX-License-Identifier: MulanPSL-2.0
"""One line on how an instance is, for STATUS= and deepseekctl. Pure."""

from typing import assert_never

from agent.errors import Failure
from agent.language import tr
from agent.model import NO_PROGRESS, Phase, StartProgress, Step
from agent.supplies import Progress
from agent.wording import describe_progress, duration

STEPS = {
    Step.CONTAINER: "",
    Step.ENGINE: "vLLM begins",
    Step.WEIGHTS: "weights",
    Step.COMPILING: "compiling",
    Step.MEMORY: "laying out memory",
    Step.CAPTURING: "capturing graphs",
    Step.LISTENING: "waiting for its first token",
}


def say_progress(progress: StartProgress) -> str:
    """ "weights 45 % (5 of 11)"; empty while nothing is known."""
    words = tr(STEPS[progress.step])
    if progress.percent is not None:
        words += f" {progress.percent} %"
    if progress.done is not None and progress.total is not None:
        words += tr(" ({done} of {total})", done=progress.done, total=progress.total)
    return words


def say_fetch(progress: Progress | None) -> str:
    return tr("looking for image and model") if progress is None else describe_progress(progress)


def headline(
    phase: Phase,
    age_s: float,
    wait_s: float = 0.0,
    progress: StartProgress = NO_PROGRESS,
    fetch: Progress | None = None,
) -> str:
    """Without a reason. What there is as in `describe`."""
    match phase:
        case Phase.IDLE:
            return tr("not started")
        case Phase.WAITING:
            return tr("waiting, {age}", age=duration(age_s))
        case Phase.FETCHING:
            return say_fetch(fetch)
        case Phase.STARTING:
            return tr("starting the container, {age}", age=duration(age_s))
        case Phase.LOADING:
            words = say_progress(progress)
            reached = f": {words}" if words else ""
            return tr("loading the model{reached}, {age}", reached=reached, age=duration(age_s))
        case Phase.SERVING:
            return tr("serving for {age}", age=duration(age_s))
        case Phase.BACKOFF:
            return tr("trying again in {wait}", wait=duration(wait_s))
        case Phase.HELD:
            return tr("held until something changes, {age}", age=duration(age_s))
        case Phase.STOPPING:
            return tr("stopping, {age}", age=duration(age_s))
        case _:
            assert_never(phase)


def describe(
    phase: Phase,
    age_s: float,
    failure: Failure | None,
    wait_s: float = 0.0,
    progress: StartProgress = NO_PROGRESS,
    fetch: Progress | None = None,
    *,
    refused: bool = False,
) -> str:
    """With its reason, in English. `age_s`: since the phase began; `wait_s`: until the next try;
    `progress`: while it loads; `fetch`: while something is being brought."""
    why = f"; last: {failure.message}" if failure else ""
    reason = failure.message if failure else "unknown reason"
    match phase:
        case Phase.WAITING:
            return f"waiting: {reason} ({duration(age_s)})"
        case Phase.FETCHING:
            return f"{say_fetch(fetch)}{why}"
        case Phase.LOADING:
            return f"{headline(phase, age_s, progress=progress)}{why}"
        case Phase.SERVING:
            # Without its age: it would change for ever.
            return f"serving, but {failure.message}" if failure else "serving"
        case Phase.BACKOFF:
            return f"trying again in {duration(wait_s)}: {reason}"
        case Phase.HELD:
            return f"held: {reason}"
        case Phase.IDLE if refused:
            return f"refused: {reason}"
        case Phase.IDLE | Phase.STARTING | Phase.STOPPING:
            return headline(phase, age_s)
        case _:
            assert_never(phase)
