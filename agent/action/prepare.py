# SPDX-License-Identifier: MulanPSL-2.0
"""Gathers the facts for one instance and turns them into a plan and its unit file.

Touches nothing. Raises what the ports raise.
"""

from dataclasses import dataclass

from agent.action.facts import gather_facts
from agent.config.values import Profile, RendererChoice
from agent.errors import Failure
from agent.facts import Neighbor, PodmanSurvey
from agent.model import Inventory
from agent.plan.holders import npus_of
from agent.plan.needs import check_driver
from agent.plan.plan import Plan, build_plan
from agent.ports import ContainerEngine, Machine
from agent.render.render import RenderedFile, render


@dataclass(frozen=True, slots=True)
class Request:
    """One instance as it shall be started, and what the agent knows of the NPUs."""

    profile: Profile
    renderer: RendererChoice
    inventory: Inventory
    neighbors: tuple[Neighbor, ...]  # the other instances that are up, or on their way


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
    facts = await gather_facts(
        (request.profile,), request.inventory, request.neighbors, podman, machine
    )
    plan = build_plan(request.profile, facts)
    if isinstance(plan, Failure):
        return plan
    return Prepared(plan, render(plan, request.renderer), facts.podman)


def npus_of_container(survey: PodmanSurvey, name: str) -> tuple[int, ...]:
    """Logic ids that a container has; empty when it does not run."""
    found = (npus_of(one) for one in survey.containers if one.name == name and one.running)
    return next(found, ())
