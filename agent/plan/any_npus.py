# SPDX-License-Identifier: MulanPSL-2.0
"""npus = "auto": the smallest number of chips that fits. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from agent.errors import Code, Failure
from agent.model import Npu, ProductLine, product_line
from agent.plan.demand import Chips, Choice, Demand, choose_nearest, in_order, wait_for


def choose_any(demand: Demand, chips: Chips) -> Choice | Failure:
    """What can only be had when an NPU has been mended is waited for."""
    answer = _choose(demand, chips)
    if isinstance(answer, Failure):
        lasting = {one.logic_id: one for one in chips.unfit.values() if not one.passing}
        if not isinstance(_choose(demand, replace(chips, unfit=lasting)), Failure):
            return wait_for(one for one in chips.unfit.values() if one.passing)
    return answer


def _choose(demand: Demand, chips: Chips) -> Choice | Failure:
    npus = in_order(chips.inventory.npus)
    reasons = {npu.logic_id: _why_not(npu, demand, chips) for npu in npus}
    usable = [npu for npu in npus if not reasons[npu.logic_id]]
    for line in demand.products:  # never chips of two lines together
        free = [npu for npu in usable if product_line(npu.product) is line]
        step = 1
        if line is ProductLine.A3:
            whole, step = _whole_cards(free, npus), 2
            halves = {npu.logic_id for npu in free} - {npu.logic_id for npu in whole}
            reasons |= dict.fromkeys(halves, "the other die of its module is not free")
            free = whole
        for size in range(step, len(free) + 1, step):
            chosen = choose_nearest(free, size)
            if demand.divides(size) and sum(npu.memory_mib for npu in chosen) >= demand.memory_mib:
                return Choice(chosen)
    return _too_few(demand, reasons, chips)


def _whole_cards(free: Iterable[Npu], npus: Iterable[Npu]) -> list[Npu]:
    """Chips whose whole card is free: the dies of an A3 module are used and reset together."""
    ids = {npu.logic_id for npu in free}
    broken = {npu.card_id for npu in npus if npu.logic_id not in ids}
    return [npu for npu in npus if npu.logic_id in ids and npu.card_id not in broken]


def _why_not(npu: Npu, demand: Demand, chips: Chips) -> str:
    """Empty when it can be used: "auto" does not guess about memory and product."""
    if npu.logic_id in chips.unfit:
        return chips.unfit[npu.logic_id].reason
    if why := chips.why_not(npu, demand):
        return why
    if product_line(npu.product) not in demand.products:
        return f"the model is not for {npu.product or 'a chip that the driver does not name'}"
    return "" if npu.memory_mib else "the driver does not tell its memory"


def _too_few(demand: Demand, reasons: Mapping[int, str], chips: Chips) -> Failure:
    told = "; ".join(
        f"{npu.logic_id}: {reasons[npu.logic_id] or f'free, {npu.memory_mib} MiB'}"
        for npu in in_order(chips.inventory.npus)
    )
    codes = {holder.code for holder in chips.holders.values()}
    passing = (code for code in (Code.NPU_LEFTOVER, Code.NPU_BUSY) if code in codes)
    return Failure(
        next(passing, Code.NPU_TOO_FEW),
        f"cannot place the model: it needs {demand.memory_mib} MiB of NPU memory on a number of "
        f"NPUs that divides its {demand.shape}; there are: {told or 'none'}",
        "free NPUs that something else holds, or choose a smaller model; see: deepseekctl status",
    )
