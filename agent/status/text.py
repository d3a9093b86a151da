# SPDX-License-Identifier: MulanPSL-2.0
"""One line on how an instance is, for STATUS= and deepseekctl. Pure."""

from typing import assert_never

from agent.errors import Failure
from agent.model import Phase


def duration(seconds: float) -> str:
    """Readable at a glance: "8 s", "1 min 20 s", "2 h 5 min", "3 d 4 h"."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"


def describe(phase: Phase, age_s: float, failure: Failure | None, wait_s: float = 0.0) -> str:
    """`age_s`: since the phase began; `wait_s`: until the next try."""
    why = f"; last: {failure.message}" if failure else ""
    reason = failure.message if failure else "unknown reason"
    match phase:
        case Phase.IDLE:
            return "not started"
        case Phase.WAITING:
            return f"waiting: {reason} ({duration(age_s)})"
        case Phase.STARTING:
            return f"starting the container, {duration(age_s)}"
        case Phase.LOADING:
            return f"loading the model, {duration(age_s)}{why}"
        case Phase.SERVING:
            return "serving"  # without its age: it would change for ever
        case Phase.BACKOFF:
            return f"trying again in {duration(wait_s)}: {reason}"
        case Phase.HELD:
            return f"held: {reason}"
        case Phase.STOPPING:
            return f"stopping, {duration(age_s)}"
        case _:
            assert_never(phase)
