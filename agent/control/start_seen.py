# SPDX-License-Identifier: MulanPSL-2.0
"""What the writer knows of the start of one instance, and how that is shown."""

import asyncio
from dataclasses import dataclass

from agent.action.tried import Tried
from agent.model import NO_PROGRESS, Phase, StartProgress
from agent.policy.startup import StartWatch
from agent.status.snapshot import StartView


@dataclass
class StartSeen:
    """`watch` is there while it loads; `last_s`, `last_mark` and `tried` outlive the agent."""

    progress: StartProgress = NO_PROGRESS
    watch: StartWatch | None = None
    reader: "asyncio.Task[None] | None" = None  # of its log
    ours_at: float | None = None  # monotonic: when this agent started it; None: it was adopted
    too_slow: bool = False  # and that has been told
    last_s: float | None = None  # what it needed the last time until it answered
    last_mark: str = ""  # of that start; empty: nobody knows
    mark: str = ""  # of the latest start: see `action/tried`
    tried: Tried | None = None
    verdict: "asyncio.Future[Tried | None] | None" = None  # on the latest death


def build_start_view(seen: StartSeen, phase: Phase, now: float, wall: float) -> StartView | None:
    """None when it does not load. `now` is monotonic, `wall` seconds since the epoch."""
    watch, progress = seen.watch, seen.progress
    if phase is not Phase.LOADING or watch is None:
        return None
    return StartView(
        progress.step,
        progress.percent,
        progress.done,
        progress.total,
        moved_at=round(wall + watch.moved_at - now, 1),
        gives_up_at=round(wall + watch.ends_at - now, 1),
        budget_s=watch.budget_s,
    )
