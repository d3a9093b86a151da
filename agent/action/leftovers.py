# SPDX-License-Identifier: MulanPSL-2.0
"""Finds what an engine has left behind, and clears it: ends its processes, then Podman removes the
container."""

import asyncio
import time
from collections.abc import Collection, Sequence

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
    outlived: Collection[PayloadFacts] = (),
    known: Collection[PayloadFacts] = (),
) -> Leftovers:
    """Of an instance whose own unit is down. Raises what the ports raise."""
    others = {one.unit for one in find_lost(alive, survey)} - {"", engine_unit(instance)}
    in_use = [unit for unit in others if not (await units.status(unit)).active.is_down()]
    return find_leftovers(instance, alive, survey, in_use, outlived, known)


async def clear_leftovers(
    found: Leftovers, podman: ContainerEngine, payloads: Payloads
) -> frozenset[PayloadFacts]:
    """Nothing of `found` is there when this returns, but for the strays that it returns: they
    outlive SIGKILL, so they serve nobody, and the driver says which NPUs they hold. Raises what the
    ports raise, and HostError for a process of its own that does not end, or that may be its own
    and did not get SIGKILL.

    Without grace: it has lost its unit, so nothing that it still answers can be kept, and Podman
    alone would wait for the whole stop timeout of an engine that does not hear SIGTERM.
    """
    every = (*found.payloads, *found.strays)
    refused = _kill(every, payloads)
    await _until_ended([one for one in every if one not in refused], payloads)
    for container in found.containers:
        # Not by its name, which may be another container's by now. Podman may also be able to end
        # what we could not.
        await podman.remove(container.container_id)
    alive = [one for one in every if payloads.is_alive(one)]
    for one in alive:
        if one in refused and (one in found.payloads or not one.unit):
            raise refused[one]
    if own := [one for one in alive if one in found.payloads]:
        raise payload_left(own)
    return frozenset(alive)


def payload_left(alive: Collection[PayloadFacts]) -> HostError:
    """Of processes that got SIGKILL."""
    pids = ", ".join(str(pid) for pid in sorted(one.pid for one in alive))
    return HostError(
        Code.PAYLOAD_LEFT,
        f"cannot clear what an earlier engine left: process {pids} outlives SIGKILL",
        "it hangs in the kernel, most likely in the NPU driver: see dmesg; a reboot ends it",
    )


def _kill(found: Sequence[PayloadFacts], payloads: Payloads) -> dict[PayloadFacts, AgentError]:
    """Returns why, for those that did not get it."""
    refused: dict[PayloadFacts, AgentError] = {}
    for payload in found:
        try:
            payloads.kill(payload)
        except AgentError as error:
            refused[payload] = error
    return refused


async def _until_ended(found: Sequence[PayloadFacts], payloads: Payloads) -> None:
    """Or until the deadline."""
    deadline = time.monotonic() + END_DEADLINE_S
    while any(payloads.is_alive(one) for one in found):
        if time.monotonic() > deadline:
            return
        await asyncio.sleep(LOOK_EVERY_S)
