# SPDX-License-Identifier: MulanPSL-2.0
"""What the writer knows of an instance's update, and how that is shown."""

import asyncio
from dataclasses import dataclass

from agent.errors import Failure
from agent.policy.update import TRIAL_S
from agent.policy.update_state import UpdateState
from agent.status.snapshot import UndoneView, UpdateView

NO_UPDATE = UpdateState()


@dataclass
class UpdateSeen:
    """Beside the state, what is under way."""

    state: UpdateState = NO_UPDATE
    switching: "asyncio.Future[Failure | None] | None" = None
    not_before: float = 0.0  # monotonic: switching is tried again then, where nobody waits for it
    judging: "asyncio.Future[None] | None" = None  # why the engine on trial has died is being read
    reason: Failure | None = None  # so far
    ran: bool = False  # what has that reason had been started
    no_hurry: bool = False  # `restart` only stands until it is seen what runs: a backoff goes on


def build_update_view(seen: UpdateSeen) -> UpdateView:
    state, undone = seen.state, seen.state.undone
    return UpdateView(
        fetching=state.order is not None,
        current=state.current,
        previous=state.previous,
        trial=state.trial,
        trial_until=None if state.answered_at is None else state.answered_at + TRIAL_S,
        undone=None if undone is None else UndoneView(undone.at, undone.supply, undone.failure),
        checked_at=state.checked_at,
        restart_due=state.restart,
    )
