# SPDX-License-Identifier: MulanPSL-2.0
"""Stops an engine that does not work: with a short grace, then SIGKILL for what is left of it.

systemd's own way takes the whole of Podman's stop timeout, which is meant for engines that have
something to finish.
"""

import asyncio

from agent.errors import AgentError
from agent.facts import PayloadFacts
from agent.model import JobResult, engine_unit
from agent.ports import Payloads, UnitManager

# One that still hears SIGTERM ends within a second or two; a graceful stop of one that hangs can
# block for ever (TensorRT-LLM goes over to SIGKILL for that reason; facts: serving-health).
GRACE_S = 5.0
KILL_EVERY_S = 0.5


async def stop_by_force(
    instance: str, container_id: str, units: UnitManager, payloads: Payloads, deadline_s: float
) -> int:
    """Returns how many processes were killed once the stop job has ended, or its deadline has
    passed. `container_id` empty: nothing can be killed, and systemd's times apply. Raises what the
    ports raise."""
    stopping = asyncio.create_task(units.stop(engine_unit(instance), deadline_s))
    try:
        killed = await _kill_while(stopping, container_id, payloads)
        await stopping
    finally:
        stopping.cancel()
    return killed


async def _kill_while(
    stopping: "asyncio.Task[JobResult]", container_id: str, payloads: Payloads
) -> int:
    await asyncio.wait({stopping}, timeout=GRACE_S)
    killed: set[int] = set()
    while container_id and not stopping.done():
        for payload in await asyncio.to_thread(_own, container_id, payloads):
            try:
                payloads.kill(payload)
            except AgentError:
                continue  # the stop goes on, and says what came of it
            killed.add(payload.pid)
        await asyncio.wait({stopping}, timeout=KILL_EVERY_S)
    return len(killed)


def _own(container_id: str, payloads: Payloads) -> list[PayloadFacts]:
    return [one for one in payloads.find() if one.container_id == container_id]
