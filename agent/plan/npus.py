# SPDX-License-Identifier: MulanPSL-2.0
"""Chooses NPUs: which chips, and how many share the model (tensor-parallel size). Pure.

any_npus.py takes what it likes of those that are free, named_npus.py those that it is told.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from agent.errors import Code, Failure
from agent.model import Inventory, ProductLine, Unfit, product_line
from agent.plan.any_npus import choose_any
from agent.plan.demand import USABLE, USABLE_IN_DOUBT, Chips, Choice, Demand, unsupported
from agent.plan.holders import Holder
from agent.plan.named_npus import choose_named


def check_supported(products: Iterable[ProductLine], inventory: Inventory) -> Failure | None:
    """Whether the profile is meant for any of the NPUs of this host; those that the driver has not
    named yet are not judged."""
    lines = {product_line(npu.product) for npu in inventory.npus if npu.product}
    return None if not lines or lines & set(products) else unsupported(products, inventory)


def choose_npus(
    demand: Demand,
    inventory: Inventory,
    holders: Mapping[int, Holder],
    unfit: Mapping[int, Unfit],
    host_suspect: str = "",
) -> Choice | Failure:
    """The chips for one instance.

    "auto" takes the smallest number that fits; a list and "all" are obeyed, or refused. Of those
    without an NPU that is lost as much is used as can be. What can only be had when an NPU has been
    mended is waited for. `host_suspect`: why it is the host that is ill, and not its NPUs; empty
    while it is not.
    """
    chips = Chips(inventory, holders, unfit)
    choice = _choose(demand, chips)
    if not host_suspect or isinstance(choice, Choice) or choice.code is Code.NPU_RESETTING:
        return choice
    in_doubt = _choose(replace(demand, usable=USABLE_IN_DOUBT), chips)
    if isinstance(in_doubt, Failure):
        return choice
    ids = [npu.logic_id for npu in in_doubt.npus if npu.health not in USABLE]
    told = f"the host is suspected ({host_suspect}): the alarm of the NPUs {ids} does not count"
    return replace(in_doubt, alarmed=told)


def _choose(demand: Demand, chips: Chips) -> Choice | Failure:
    match demand.wanted:
        case "auto":
            return choose_any(demand, chips)
        case "all":
            every = {npu.logic_id for npu in chips.inventory.npus} | chips.unfit.keys()
            return choose_named(sorted(every), demand, chips)
        case str():
            return Failure(
                Code.CONFIG_INVALID,
                f'cannot choose NPUs: npus = "{demand.wanted}" is not known',
                'use "auto", "all" or a list of logic ids',
            )
        case _:
            return choose_named(demand.wanted, demand, chips)
