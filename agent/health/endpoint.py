# SPDX-License-Identifier: MulanPSL-2.0
"""Waits until the engine of one instance answers a completion.

In: where it listens. Out: `Health.HEALTHY` once, when a completion of one token has come back
through the same door that users take, or users get tokens there. Refused and timeout are no verdict
while it loads.
"""

import asyncio

from agent.health.asking import Asker, Engine
from agent.health.metrics import Work
from agent.health.state import Outcome, Question
from agent.model import Health
from agent.ports import Http, Server

# While the model loads the port is closed and a look costs next to nothing.
POLL_S = 0.25
# A connection made while Podman starts a container can fall to conmon, which never answers it.
LOOK_DEADLINE_S = 1.0
# A restarted engine whose users are back at once may take longer: twice as long at each timeout.
LOOK_DEADLINE_MAX_S = 30.0
# The first completion may compile kernels: 105 s were seen (facts: serving-health).
FIRST_COMPLETION_DEADLINE_S = 300.0
WORK_EVERY_S = 2.0


async def wait_until_healthy(http: Http, server: Server, served_name: str, key: str = "") -> Health:
    """Returns HEALTHY; ends otherwise only by cancellation, which the caller bounds."""
    asker = _asker(http, server, served_name, key)
    deadline_s = LOOK_DEADLINE_S
    while True:
        listens, _ = await asker.ask(Question.HEALTH, deadline_s)
        if listens is Outcome.OK and await _computes(asker) is Health.HEALTHY:
            return Health.HEALTHY
        deadline_s = _next_deadline_s(deadline_s, listens)
        await asyncio.sleep(POLL_S)


def _next_deadline_s(deadline_s: float, came_of_it: Outcome) -> float:
    """Of the next look."""
    match came_of_it:
        case Outcome.TIMEOUT:
            return min(2 * deadline_s, LOOK_DEADLINE_MAX_S)
        case Outcome.REFUSED:
            return LOOK_DEADLINE_S
        case _:
            return deadline_s


async def canary(http: Http, server: Server, served_name: str, key: str = "") -> Health:
    """Asks for one token. UNKNOWN when nothing answered at all."""
    return await _canary(_asker(http, server, served_name, key))


async def _computes(asker: Asker) -> Health:
    """A token for us, or tokens for others: an engine that was there before this agent may have a
    long queue, and our request would wait at its end."""
    asking = asyncio.create_task(_canary(asker))
    first: Work | None = None
    try:
        while not (await asyncio.wait({asking}, timeout=WORK_EVERY_S))[0]:
            _, work = await asker.ask(Question.METRICS, WORK_EVERY_S)
            if first is not None and work is not None and work.tokens > first.tokens:
                return Health.HEALTHY
            first = first or work
        return asking.result()
    finally:
        asking.cancel()


async def _canary(asker: Asker) -> Health:
    outcome, _ = await asker.ask(Question.CANARY, FIRST_COMPLETION_DEADLINE_S)
    match outcome:
        case Outcome.OK:
            return Health.HEALTHY
        case Outcome.ODD | Outcome.ILL:
            return Health.UNHEALTHY
        case Outcome.REFUSED | Outcome.TIMEOUT | Outcome.BROKEN | Outcome.UNABLE:
            return Health.UNKNOWN


def _asker(http: Http, server: Server, served_name: str, key: str) -> Asker:
    return Asker(http, Engine(server, lambda: None, served_name, key))
