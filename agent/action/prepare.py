# SPDX-License-Identifier: MulanPSL-2.0
"""Gathers the facts for one instance and turns them into a plan and its unit file.

Touches nothing: the same code answers `deepseekctl render`. Raises what the ports raise.
"""

from dataclasses import dataclass

from agent.config.values import Profile, RendererChoice
from agent.errors import Failure
from agent.model import Inventory, PodmanSurvey
from agent.plan.plan import DRIVER_PATHS, Plan, build_plan, check_driver, held_by_containers
from agent.ports import ContainerEngine, Machine
from agent.render.render import RenderedFile, render


@dataclass(frozen=True, slots=True)
class Request:
    """One instance as it shall be started, and what the agent knows of the NPUs."""

    profile: Profile
    renderer: RendererChoice
    inventory: Inventory
    taken: frozenset[int]  # logic ids that other instances have


@dataclass(frozen=True, slots=True)
class Prepared:
    """Ready to be applied."""

    plan: Plan
    file: RenderedFile
    survey: PodmanSurvey


async def prepare(
    request: Request, podman: ContainerEngine, machine: Machine
) -> Prepared | Failure:
    """Plan and unit file, or why there can be none."""
    waiting = check_driver(request.inventory)
    if waiting is not None:
        return waiting  # without asking Podman: at boot this may go on for minutes
    survey = await podman.survey(request.profile.image)
    plan = build_plan(
        request.profile,
        machine.facts(survey.version, DRIVER_PATHS),
        survey,
        machine.model(request.profile.model),
        request.inventory,
        request.taken,
    )
    if isinstance(plan, Failure):
        return plan
    return Prepared(plan, render(plan, request.renderer), survey)


def npus_of_container(survey: PodmanSurvey, container: str) -> set[int]:
    """Logic ids that a container has; empty when it does not run."""
    mine = [one for one in survey.containers if one.name == container]
    return held_by_containers(mine, except_name="")
