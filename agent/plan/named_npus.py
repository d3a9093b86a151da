# SPDX-License-Identifier: MulanPSL-2.0
"""npus = a list, or "all": obeyed or refused, without those that are lost. Pure."""

from collections.abc import Sequence

from agent.errors import Code, Failure
from agent.model import Inventory, Npu, ProductLine, Unfit, product_line
from agent.plan.demand import (
    Chips,
    Choice,
    Demand,
    choose_nearest,
    in_order,
    unsupported,
    wait_for,
)


def choose_named(wanted: Sequence[int], demand: Demand, chips: Chips) -> Choice | Failure:
    """`wanted`: logic ids. Of those without an NPU that is lost as much is used as can be."""
    lost = [chips.unfit[logic_id] for logic_id in wanted if logic_id in chips.unfit]
    if any(one.passing for one in lost):
        return wait_for(one for one in lost if one.passing)
    left = [logic_id for logic_id in wanted if logic_id not in chips.unfit]
    chosen = _check_each(left, demand, chips)
    if isinstance(chosen, Failure):
        return chosen
    if lost:
        return _fewer(chosen, lost, demand, chips.inventory)
    return _check_together(chosen, demand, chips.inventory) or Choice(chosen)


def _check_each(wanted: Sequence[int], demand: Demand, chips: Chips) -> tuple[Npu, ...] | Failure:
    known = {npu.logic_id: npu for npu in chips.inventory.npus}
    for logic_id in wanted:
        npu = known.get(logic_id)
        if npu is None:
            return _refuse(Code.NPU_UNKNOWN, logic_id, f"this host has {sorted(known)}")
        if why := chips.why_not(npu, demand):
            holder = chips.holders.get(logic_id)
            held = Code.NPU_TOO_FEW if holder is None else holder.code
            code = held if npu.device_present else Code.NPU_DEVICE_MISSING
            return _refuse(code, logic_id, why)
        if product_line(npu.product) not in demand.products:
            return unsupported(demand.products, chips.inventory)
    return tuple(in_order(known[logic_id] for logic_id in set(wanted)))


def _fewer(
    left: tuple[Npu, ...], lost: Sequence[Unfit], demand: Demand, inventory: Inventory
) -> Choice | Failure:
    """The largest number of those that are left that can serve the model together."""
    told = "; ".join(f"{one.logic_id}: {one.reason}" for one in lost)
    for size in range(len(left), 0, -1):
        chosen = choose_nearest(left, size)  # of an A3 the whole modules first
        if _check_together(chosen, demand, inventory) is None:
            return Choice(chosen, f"{size} of {len(left) + len(lost)} NPUs; {told}")
    return Failure(
        Code.NPU_TOO_FEW,
        f"cannot do without the NPUs that are lost ({told}): no number of the others "
        f"({[npu.logic_id for npu in left]}) has {demand.memory_mib} MiB of NPU memory and divides "
        f"the model's {demand.shape}",
        "replace the NPU, or see: deepseekctl npus, deepseekctl quarantine clear N",
    )


def _check_together(
    chosen: tuple[Npu, ...], demand: Demand, inventory: Inventory
) -> Failure | None:
    ids = [npu.logic_id for npu in chosen]
    if not demand.divides(len(ids)):
        return Failure(
            Code.NPU_TOO_FEW,
            f"cannot use {len(ids)} NPUs: the model has {demand.shape}, which {len(ids)} does not "
            "divide",
            "list a number of NPUs that divides the attention heads",
        )
    for npu in chosen:
        mates = [mate.logic_id for mate in inventory.npus if mate.card_id == npu.card_id]
        if product_line(npu.product) is ProductLine.A3 and not set(mates) <= set(ids):
            why = f"the dies {sorted(mates)} of its module go together"
            return _refuse(Code.NPU_TOO_FEW, npu.logic_id, why)
    # Memory that the driver did not tell (0) is not judged.
    there = sum(npu.memory_mib for npu in chosen)
    if all(npu.memory_mib for npu in chosen) and there < demand.memory_mib:
        return Failure(
            Code.NPU_TOO_FEW,
            f"cannot use the NPUs {ids}: the model needs {demand.memory_mib} MiB of NPU memory, "
            f"they have {there}",
            "list more NPUs, or lower needs.npu_memory_gib of the profile if you know that it fits",
        )
    return None


def _refuse(code: Code, logic_id: int, why: str) -> Failure:
    hint = "correct `npus` of the model profile"
    if code is Code.NPU_LEFTOVER:
        hint = "wait: it is started when the NPU is free, by itself or by a reset"
    return Failure(code, f"cannot use NPU {logic_id}: {why}", hint)
