# SPDX-License-Identifier: MulanPSL-2.0
"""Gathers the facts for one instance and turns them into a plan and its unit file.

What an earlier engine has left behind is found first: it would seem to hold NPUs and the port.

Touches nothing. Raises what the ports raise.
"""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, replace

from agent.action.facts import images_of, read_facts
from agent.action.leftovers import look_for_leftovers
from agent.action.tried import build_mark
from agent.config.values import NO_SUPPLY, Profile, RendererChoice, SupplySettings
from agent.errors import Code, Failure
from agent.facts import ContainerFacts, Facts, Neighbor, PayloadFacts, PodmanSurvey
from agent.model import Inventory, Unfit
from agent.plan.holders import npus_of
from agent.plan.leftovers import Leftovers
from agent.plan.needs import check_driver
from agent.plan.plan import Plan, build_plan
from agent.plan.supply import (
    MENDABLE,
    Lacking,
    Update,
    UpdatePlan,
    build_order,
    build_recheck,
    build_update,
)
from agent.ports import ContainerEngine, Machine, Payloads, UnitManager
from agent.render.render import RenderedFile, render
from agent.supplies import Order, Supply


@dataclass(frozen=True, slots=True)
class Request:
    """One instance as it shall be started, and what the agent knows of the NPUs."""

    profile: Profile
    renderer: RendererChoice
    inventory: Inventory
    neighbors: tuple[Neighbor, ...]  # the other instances that are up, or on their way
    unfit: tuple[Unfit, ...] = ()
    supply: SupplySettings = NO_SUPPLY
    pinned: Supply | None = None  # what it is to run on, while the profile names the same
    shares_model: bool = False  # another instance has the same folder, and moves the link there
    host_suspect: str = ""  # why it is the host that is ill, and not its NPUs; empty: it is not
    mends: bool = True  # a model of ours that is damaged; one on trial goes back to the former one

    @property
    def images(self) -> list[str]:
        """What Podman is asked for."""
        ids = () if self.pinned is None else (self.pinned.image_id,)
        return sorted({*images_of((self.profile,), self.inventory), *ids})


@dataclass(frozen=True, slots=True)
class Prepared:
    """Ready to be applied."""

    plan: Plan
    file: RenderedFile
    mark: str  # another one when something has changed that a start depends on
    recheck: Order | None  # for when it is known that an engine cannot read the model
    outlived: Collection[PayloadFacts] = ()  # strays that could not be cleared (plan/leftovers)


async def prepare(
    request: Request,
    podman: ContainerEngine,
    machine: Machine,
    payloads: Payloads,
    units: UnitManager,
    outlived: Collection[PayloadFacts] = (),
    known: Collection[PayloadFacts] = (),
) -> Prepared | Leftovers | Lacking | Failure:
    """Plan and unit file, or what has to be cleared or brought first, or why there can be none.
    `outlived`: strays that are known not to end; `known`: its own, by an earlier look."""
    waiting = check_driver(request.inventory)
    if waiting is not None:
        return waiting  # without asking Podman: at boot this may go on for minutes
    profile = request.profile
    alive = await asyncio.to_thread(payloads.find)
    survey = await podman.survey(request.images)
    leftovers = await look_for_leftovers(profile.name, alive, survey, units, outlived, known)
    if leftovers:
        return leftovers
    facts = await _facts(request, survey, machine)
    plan = build_plan(profile, facts, request.pinned)
    if isinstance(plan, Failure):
        order = _order_to_mend(plan, request, facts)
        return plan if order is None else Lacking(plan, order)
    file = render(plan, request.renderer)
    mark = build_mark(file.text, plan.model_identity, request.inventory.driver_version)
    ours = plan.model_revision if request.mends else ""
    recheck = build_recheck(profile, request.supply, ours) if ours else None
    return Prepared(plan, file, mark, recheck, outlived)


def _order_to_mend(failure: Failure, request: Request, facts: Facts) -> Order | None:
    """None where no order can."""
    if failure.code not in MENDABLE:
        return None
    order = build_order(request.profile, facts, request.supply, request.pinned)
    if order is None or failure.code is not Code.MODEL_INVALID:
        return order
    # Without a model in it, it is an operator's own that is damaged.
    return order if order.model is not None and request.mends else None


async def plan_anew(request: Request, podman: ContainerEngine, machine: Machine) -> Plan | Failure:
    """What a restart of an instance that runs would come to. Raises what the ports raise."""
    survey = await podman.survey(request.images)
    return build_plan(request.profile, await _facts(request, survey, machine), request.pinned)


async def order_missing(
    request: Request, podman: ContainerEngine, machine: Machine
) -> Order | None:
    """What would have to be brought; None when nothing is missing. Raises what the ports raise."""
    survey = await podman.survey(request.images)
    facts = await _facts(request, survey, machine)
    return build_order(request.profile, facts, request.supply, request.pinned)


async def plan_update(
    request: Request, wanted: Update, podman: ContainerEngine, machine: Machine
) -> UpdatePlan | Failure:
    """What would have to be fetched beside. Raises what the ports raise."""
    survey = await podman.survey(request.images)
    facts = await _facts(request, survey, machine)
    return build_update(request.profile, facts, request.supply, wanted, request.pinned)


async def _facts(request: Request, survey: PodmanSurvey, machine: Machine) -> Facts:
    facts = await read_facts(
        (request.profile,),
        request.inventory,
        request.neighbors,
        survey,
        machine,
        request.unfit,
        request.pinned if request.shares_model else None,
    )
    return replace(facts, host_suspect=request.host_suspect)


def find_container(
    survey: PodmanSurvey, name: str
) -> tuple[ContainerFacts, tuple[int, ...]] | None:
    """With the logic ids of its NPUs; None when there is none of that name."""
    found = next((one for one in survey.containers if one.name == name), None)
    return None if found is None else (found, npus_of(found))
