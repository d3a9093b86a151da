# SPDX-License-Identifier: MulanPSL-2.0
"""Gathers what planning has to know, through the ports. Touches nothing; raises what they raise."""

from collections.abc import Iterable

from agent.config.values import Profile
from agent.facts import Facts, Neighbor, PodmanSurvey
from agent.model import Inventory
from agent.plan.plan import DRIVER_PATHS
from agent.ports import ContainerEngine, Machine


async def gather_facts(
    profiles: Iterable[Profile],
    inventory: Inventory,
    neighbors: Iterable[Neighbor],
    podman: ContainerEngine,
    machine: Machine,
) -> Facts:
    """The facts for plans of `profiles`."""
    wanted = tuple(profiles)
    references = sorted({profile.image_for(inventory) for profile in wanted})
    survey = await podman.survey(references)
    return look(wanted, inventory, neighbors, survey, machine)


def look(
    profiles: Iterable[Profile],
    inventory: Inventory,
    neighbors: Iterable[Neighbor],
    survey: PodmanSurvey,
    machine: Machine,
) -> Facts:
    """All but Podman's part."""
    wanted = tuple(profiles)
    pids = {process.pid for npu in inventory.npus for process in npu.processes}
    secret = {path for one in wanted for path in (one.api_key_file, one.tls_key) if path}
    public = {one.tls_certificate for one in wanted if one.tls_certificate}
    return Facts(
        host=machine.facts(survey.version, DRIVER_PATHS),
        podman=survey,
        inventory=inventory,
        models=tuple(machine.model(path) for path in sorted({one.model for one in wanted})),
        files=(
            *(machine.file(path, secret=True) for path in sorted(secret)),
            *(machine.file(path, secret=False) for path in sorted(public)),
        ),
        processes=tuple(machine.processes(sorted(pids))),
        listeners=tuple(machine.listeners()),
        neighbors=tuple(neighbors),
    )
