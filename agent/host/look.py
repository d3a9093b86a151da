# SPDX-License-Identifier: MulanPSL-2.0
"""A look at something that may hang, with a deadline: what was seen, or why nothing was."""

import asyncio
import os
from collections.abc import Awaitable
from typing import TypeVar

from agent.doctor.looks import Seen, Unseen, Why
from agent.errors import AgentError

Kind = TypeVar("Kind")


async def look(
    what: str, deadline_s: float, looking: Awaitable[Kind], hint: str = ""
) -> Seen[Kind]:
    """Never raises: one look that breaks does not break the others."""
    try:
        async with asyncio.timeout(deadline_s):
            return await looking
    except TimeoutError:
        why = f"cannot look at {what}: it does not answer within {deadline_s:g} s"
        return Unseen(Why.SILENT, why, hint)
    except Exception as error:  # the boundary of one look
        return explain(what, error, hint, is_root=os.geteuid() == 0)


def explain(what: str, error: Exception, hint: str, *, is_root: bool) -> Unseen:
    """What only root may see is no fault of the host's."""
    if isinstance(error, AgentError):
        return Unseen(Why.FAILED, error.failure.message, error.failure.hint or hint)
    if isinstance(error, PermissionError) and not is_root:
        return Unseen(Why.NEEDS_ROOT, f"only root may look at {what}")
    return Unseen(Why.FAILED, f"cannot look at {what}: {error!r}"[:300], hint)
