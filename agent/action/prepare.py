# SPDX-License-Identifier: MulanPSL-2.0
"""Gathers the facts for one instance and turns them into a plan and its unit file.

What an earlier engine has left behind is found first: it would seem to hold NPUs and the port.

Touches nothing. Raises what the ports raise.
"""

import asyncio
from dataclasses import dataclass

from agent.action.facts import images_of, read_facts
from agent.config.values import Profile, RendererChoice
from agent.errors import Failure
from agent.facts import Neighbor, PodmanSurvey
from agent.model import Inventory, Unfit
from agent.plan.holders import npus_of
from agent.plan.leftovers import Leftovers, find_leftovers
from agent.plan.needs import check_driver
from agent.plan.plan import Plan, build_plan
from agent.ports import ContainerEngine, Machine, Payloads
from agent.render.render import RenderedFile, render


@dataclass(frozen=True, slots=True)
class Request:
    """One instance as it shall be started, and what the agent knows of the NPUs."""

    profile: Profile
    renderer: RendererChoice
    inventory: Inventory
    neighbors: tuple[Neighbor, ...]  # the other instances that are up, or on their way
    unfit: tuple[Unfit, ...] = ()


@dataclass(frozen=True, slots=True)
class Prepared:
    """Ready to be applied."""

    plan: Plan
    file: RenderedFile


async def prepare(
    request: Request, podman: ContainerEngine, machine: Machine, payloads: Payloads
) -> Prepared | Leftovers | Failure:
    """Plan and unit file, or what has to be cleared first, or why there can be none."""
    waiting = check_driver(request.inventory)
    if waiting is not None:
        return waiting  # without asking Podman: at boot this may go on for minutes
    profile = request.profile
    alive = await asyncio.to_thread(payloads.find)
    survey = await podman.survey(images_of((profile,), request.inventory))
    leftovers = find_leftovers(profile.name, alive, survey)
    if leftovers:
        return leftovers
    plan = await _plan(request, survey, machine)
    if isinstance(plan, Failure):
        return plan
    return Prepared(plan, render(plan, request.renderer))


async def plan_anew(request: Request, podman: ContainerEngine, machine: Machine) -> Plan | Failure:
    """What a restart of an instance that runs would come to. Raises what the ports raise."""
    survey = await podman.survey(images_of((request.profile,), request.inventory))
    return await _plan(request, survey, machine)


async def _plan(request: Request, survey: PodmanSurvey, machine: Machine) -> Plan | Failure:
    facts = await read_facts(
        (request.profile,), request.inventory, request.neighbors, survey, machine, request.unfit
    )
    return build_plan(request.profile, facts)


def npus_of_container(survey: PodmanSurvey, name: str) -> tuple[int, ...]:
    """Logic ids that a container has; empty when it does not run."""
    found = (npus_of(one) for one in survey.containers if one.name == name and one.running)
    return next(found, ())
