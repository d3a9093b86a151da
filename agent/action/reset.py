# SPDX-License-Identifier: MulanPSL-2.0
"""Resets NPUs that nothing uses: proves that first, then npud does it. Raises nothing that is ours.

Policy has asked for it by what it knew; a container of somebody else's, or an engine that outlived
its unit, is only seen by looking. npud looks once more, for processes, when it is about to do it.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from agent.errors import AgentError
from agent.facts import ContainerFacts, PayloadFacts
from agent.model import ResetOutcome
from agent.plan.holders import npus_of
from agent.ports import ContainerEngine, NpuDriver, Payloads, ResetOrder, ResetReport

Taken = Callable[[], Mapping[str, tuple[int, ...]]]  # the NPUs of our instances, by their name


async def reset_npus(
    order: ResetOrder,
    taken: Taken,
    planning: asyncio.Lock,
    podman: ContainerEngine,
    payloads: Payloads,
    npud: NpuDriver,
) -> ResetReport:
    """`planning` is held while it is looked who uses them: a plan under way may take one of them,
    and the next one knows already that they are being reset."""
    try:
        async with planning:
            busy = await _find_users(order.ring, taken(), podman, payloads)
    except AgentError as error:
        why = f"it cannot be told what uses the NPU: {error.failure.message}"
        return ResetReport(ResetOutcome.BUSY, why)
    return busy or await npud.reset(order)


async def _find_users(
    ring: tuple[int, ...],
    taken: Mapping[str, tuple[int, ...]],
    podman: ContainerEngine,
    payloads: Payloads,
) -> ResetReport | None:
    for name, npus in taken.items():
        if used := set(npus) & set(ring):
            return _busy(used, f"deepseek@{name}")
    # Before Podman is asked, so that a process of a container that it does not know is left over.
    alive = await asyncio.to_thread(payloads.find)
    survey = await podman.survey(())
    for container in survey.containers:
        used = set(npus_of(container)) & set(ring)
        if used and _lives(container, alive):
            return _busy(used, f"container {container.name}", frozenset(used))
    known = {container.container_id for container in survey.containers}
    for payload in alive:
        if payload.container_id not in known:
            who = f"process {payload.pid} of an engine that has lost its container"
            return ResetReport(ResetOutcome.BUSY, f"{who} may use it")
    return None


def _lives(container: ContainerFacts, alive: Sequence[PayloadFacts]) -> bool:
    """Also one that Podman believes to have ended."""
    return container.running or any(one.container_id == container.container_id for one in alive)


def _busy(used: set[int], who: str, others: frozenset[int] = frozenset()) -> ResetReport:
    numbers = ", ".join(str(number) for number in sorted(used))
    return ResetReport(ResetOutcome.BUSY, f"{who} has NPU {numbers}", others)
