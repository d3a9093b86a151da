# SPDX-License-Identifier: MulanPSL-2.0
"""Finds what an engine has left behind, and clears it: ends its processes, then Podman removes the
container."""

import asyncio
import time
from collections.abc import Sequence

from agent.errors import AgentError, Code, HostError
from agent.facts import PayloadFacts, PodmanSurvey
from agent.model import engine_unit
from agent.plan.leftovers import Leftovers, find_leftovers, find_lost
from agent.ports import ContainerEngine, Payloads, UnitManager

# SIGKILL takes effect at once, except in D state, and while NPU memory is given back.
END_DEADLINE_S = 10.0
LOOK_EVERY_S = 0.05


async def look_for_leftovers(
    instance: str,
    alive: Sequence[PayloadFacts],
    survey: PodmanSurvey,
    units: UnitManager,
) -> Leftovers:
    """Of an instance whose own unit is down. Raises what the ports raise."""
    others = {one.unit for one in find_lost(alive, survey)} - {"", engine_unit(instance)}
    in_use = [unit for unit in others if not (await units.status(unit)).active.is_down()]
    return find_leftovers(instance, alive, survey, in_use)


async def clear_leftovers(found: Leftovers, podman: ContainerEngine, payloads: Payloads) -> None:
    """Nothing of `found` is there when this returns. Raises what the ports raise, and HostError for
    a process that does not end.

    Without grace: it has lost its unit, so nothing that it still answers can be kept, and Podman
    alone would wait for the whole stop timeout of an engine that does not hear SIGTERM.
    """
    refused: AgentError | None = None
    try:
        for payload in found.payloads:
            payloads.kill(payload)
        await _until_ended(found.payloads, payloads)
    except AgentError as error:
        refused = error  # Podman may be able to
    for container in found.containers:
        # Not by its name, which may be another container's by now.
        await podman.remove(container.container_id)
    if refused is not None and any(payloads.is_alive(one) for one in found.payloads):
        raise refused


async def _until_ended(found: Sequence[PayloadFacts], payloads: Payloads) -> None:
    deadline = time.monotonic() + END_DEADLINE_S
    while alive := [one for one in found if payloads.is_alive(one)]:
        if time.monotonic() > deadline:
            pids = ", ".join(str(one.pid) for one in alive)
            raise HostError(
                Code.PAYLOAD_LEFT,
                f"cannot clear what an earlier engine left: process {pids} outlives SIGKILL",
                "it hangs in the kernel, most likely in the NPU driver: see dmesg; "
                "a reboot ends it",
            )
        await asyncio.sleep(LOOK_EVERY_S)
