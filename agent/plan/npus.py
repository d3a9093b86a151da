# SPDX-License-Identifier: MulanPSL-2.0
"""Chooses NPUs: which chips, and how many share the model (tensor-parallel size). Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from agent.errors import Code, Failure
from agent.model import Inventory, Npu, NpuHealth, ProductLine, Unfit, product_line
from agent.plan.holders import Holder

# Chips in these states still compute (facts: ascend, "Warning" is a minor alarm). What a fault code
# means in detail is known to policy (`Unfit`); UNKNOWN is not chosen, because nothing is known.
USABLE = (NpuHealth.OK, NpuHealth.WARNING)
# While the host is suspected, and where the others do not suffice: what all of them say is no sign
# of any of them. Not CRITICAL, the driver's last word: too hot to go on is such a fault.
USABLE_IN_DOUBT = (*USABLE, NpuHealth.ALARM)


@dataclass(frozen=True, slots=True)
class Demand:
    """What a model asks of the chips together."""

    wanted: str | tuple[int, ...]  # "auto", "all", or logic ids
    products: tuple[ProductLine, ...]
    heads: int  # attention heads; 0: unknown
    kv_heads: int  # 0: as many as attention heads
    memory_mib: int
    usable: tuple[NpuHealth, ...] = USABLE

    @property
    def shape(self) -> str:
        """For messages."""
        kv_heads = f" and {self.kv_heads} key-value heads" if self.kv_heads else ""
        return f"{self.heads} attention heads{kv_heads}"

    def divides(self, size: int) -> bool:
        """Whether `size` chips can share the heads, as vLLM's models assert it: attention heads
        are split evenly, and key-value heads are split or repeated evenly."""
        if self.heads == 0 or size == 0:
            return size == 1
        kv_heads = self.kv_heads or self.heads
        evenly = kv_heads % size == 0 if kv_heads >= size else size % kv_heads == 0
        return self.heads % size == 0 and evenly


@dataclass(frozen=True, slots=True)
class Choice:
    """The chips for one instance, in ascending order of logic id."""

    npus: tuple[Npu, ...]
    degraded: str = ""  # why they are fewer than were asked for
    alarmed: str = ""  # which of them are used in spite of their alarm, and why


def check_supported(products: Iterable[ProductLine], inventory: Inventory) -> Failure | None:
    """Whether the profile is meant for any of the NPUs of this host; those that the driver has not
    named yet are not judged."""
    lines = {product_line(npu.product) for npu in inventory.npus if npu.product}
    return None if not lines or lines & set(products) else _unsupported(products, inventory)


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
    choice = _choose(demand, inventory, holders, unfit)
    if not host_suspect or isinstance(choice, Choice) or choice.code is Code.NPU_RESETTING:
        return choice
    in_doubt = _choose(replace(demand, usable=USABLE_IN_DOUBT), inventory, holders, unfit)
    if isinstance(in_doubt, Failure):
        return choice
    ids = [npu.logic_id for npu in in_doubt.npus if npu.health not in USABLE]
    told = f"the host is suspected ({host_suspect}): the alarm of the NPUs {ids} does not count"
    return replace(in_doubt, alarmed=told)


def _choose(
    demand: Demand,
    inventory: Inventory,
    holders: Mapping[int, Holder],
    unfit: Mapping[int, Unfit],
) -> Choice | Failure:
    match demand.wanted:
        case "auto":
            return _auto_or_wait(demand, inventory, holders, unfit)
        case "all":
            every = {npu.logic_id for npu in inventory.npus} | unfit.keys()
            return _exactly(sorted(every), demand, inventory, holders, unfit)
        case str():
            return Failure(
                Code.CONFIG_INVALID,
                f'cannot choose NPUs: npus = "{demand.wanted}" is not known',
                'use "auto", "all" or a list of logic ids',
            )
        case _:
            return _exactly(demand.wanted, demand, inventory, holders, unfit)


# --- "auto" --------------------------------------------------------------------------------------


def _auto_or_wait(
    demand: Demand,
    inventory: Inventory,
    holders: Mapping[int, Holder],
    unfit: Mapping[int, Unfit],
) -> Choice | Failure:
    answer = _auto(demand, inventory, holders, unfit)
    if isinstance(answer, Failure):
        mended = {one.logic_id: one for one in unfit.values() if not one.passing}
        if not isinstance(_auto(demand, inventory, holders, mended), Failure):
            return _wait_for(one for one in unfit.values() if one.passing)
    return answer


def _auto(
    demand: Demand,
    inventory: Inventory,
    holders: Mapping[int, Holder],
    unfit: Mapping[int, Unfit],
) -> Choice | Failure:
    reasons = {npu.logic_id: _why_not_free(npu, demand, holders, unfit) for npu in inventory.npus}
    usable = [npu for npu in _sorted(inventory.npus) if not reasons[npu.logic_id]]
    for line in demand.products:  # never chips of two lines together
        free = [npu for npu in usable if product_line(npu.product) is line]
        step = 1
        if line is ProductLine.A3:
            whole, step = _whole_cards(free, inventory), 2
            halves = {npu.logic_id for npu in free} - {npu.logic_id for npu in whole}
            reasons |= dict.fromkeys(halves, "the other die of its module is not free")
            free = whole
        for size in range(step, len(free) + 1, step):
            chosen = _nearest(free, size)
            if demand.divides(size) and sum(npu.memory_mib for npu in chosen) >= demand.memory_mib:
                return Choice(chosen)
    return _too_few(demand, reasons, inventory, holders)


def _whole_cards(free: Iterable[Npu], inventory: Inventory) -> list[Npu]:
    """Chips whose whole card is free: the dies of an A3 module are used and reset together."""
    chips = list(free)
    ids = {npu.logic_id for npu in chips}
    broken = {npu.card_id for npu in inventory.npus if npu.logic_id not in ids}
    return [npu for npu in chips if npu.card_id not in broken]


def _nearest(free: Sequence[Npu], size: int) -> tuple[Npu, ...]:
    """`size` chips on as few cards as can be; of cards that do, the one with the least to spare,
    so that whole cards stay whole."""
    cards: dict[int, list[Npu]] = defaultdict(list)
    for npu in free:
        cards[npu.card_id].append(npu)
    fitting = [chips for chips in cards.values() if len(chips) >= size]
    if fitting:
        return tuple(min(fitting, key=lambda chips: (len(chips), chips[0].logic_id))[:size])
    fullest = sorted(free, key=lambda npu: (-len(cards[npu.card_id]), npu.logic_id))
    return tuple(_sorted(fullest[:size]))


def _too_few(
    demand: Demand,
    reasons: Mapping[int, str],
    inventory: Inventory,
    holders: Mapping[int, Holder],
) -> Failure:
    told = "; ".join(
        f"{npu.logic_id}: {reasons[npu.logic_id] or f'free, {npu.memory_mib} MiB'}"
        for npu in _sorted(inventory.npus)
    )
    codes = {holder.code for holder in holders.values()}
    passing = (code for code in (Code.NPU_LEFTOVER, Code.NPU_BUSY) if code in codes)
    return Failure(
        next(passing, Code.NPU_TOO_FEW),
        f"cannot place the model: it needs {demand.memory_mib} MiB of NPU memory on a number of "
        f"NPUs that divides its {demand.shape}; there are: {told or 'none'}",
        "free NPUs that something else holds, or choose a smaller model; see: deepseekctl status",
    )


# --- a list, "all" -------------------------------------------------------------------------------


def _exactly(
    wanted: Sequence[int],
    demand: Demand,
    inventory: Inventory,
    holders: Mapping[int, Holder],
    unfit: Mapping[int, Unfit],
) -> Choice | Failure:
    lost = [unfit[logic_id] for logic_id in wanted if logic_id in unfit]
    if any(one.passing for one in lost):
        return _wait_for(one for one in lost if one.passing)
    left = [logic_id for logic_id in wanted if logic_id not in unfit]
    chosen = _check_each(left, demand, inventory, holders)
    if isinstance(chosen, Failure):
        return chosen
    if lost:
        return _fewer(chosen, lost, demand, inventory)
    return _check_together(chosen, demand, inventory) or Choice(chosen)


def _check_each(
    wanted: Sequence[int], demand: Demand, inventory: Inventory, holders: Mapping[int, Holder]
) -> tuple[Npu, ...] | Failure:
    known = {npu.logic_id: npu for npu in inventory.npus}
    for logic_id in wanted:
        npu = known.get(logic_id)
        if npu is None:
            return _refuse(Code.NPU_UNKNOWN, logic_id, f"this host has {sorted(known)}")
        if why := _why_not(npu, demand, holders):
            held = holders[logic_id].code if logic_id in holders else Code.NPU_TOO_FEW
            code = held if npu.device_present else Code.NPU_DEVICE_MISSING
            return _refuse(code, logic_id, why)
        if product_line(npu.product) not in demand.products:
            return _unsupported(demand.products, inventory)
    return tuple(_sorted(known[logic_id] for logic_id in set(wanted)))


def _fewer(
    left: tuple[Npu, ...], lost: Sequence[Unfit], demand: Demand, inventory: Inventory
) -> Choice | Failure:
    """The largest number of those that are left that can serve the model together."""
    told = "; ".join(f"{one.logic_id}: {one.reason}" for one in lost)
    for size in range(len(left), 0, -1):
        chosen = _nearest(left, size)  # of an A3 the whole modules first
        if _check_together(chosen, demand, inventory) is None:
            return Choice(chosen, f"{size} of {len(left) + len(lost)} NPUs; {told}")
    return Failure(
        Code.NPU_TOO_FEW,
        f"cannot do without the NPUs that are lost ({told}): no number of the others "
        f"({[npu.logic_id for npu in left]}) has {demand.memory_mib} MiB of NPU memory and divides "
        f"the model's {demand.shape}",
        "replace the NPU, or see: deepseekctl npus, deepseekctl quarantine clear N",
    )


def _wait_for(unfit: Iterable[Unfit]) -> Failure:
    told = "; ".join(f"{one.logic_id}: {one.reason}" for one in unfit)
    return Failure(
        Code.NPU_RESETTING,
        f"cannot start yet: it takes an NPU that is being mended ({told})",
        "wait: it is started when the NPU is well, or without it if that is not to be; "
        "see: deepseekctl npus",
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


# --- both ----------------------------------------------------------------------------------------


def _why_not(npu: Npu, demand: Demand, holders: Mapping[int, Holder]) -> str:
    """Empty when it can be used."""
    if not npu.device_present:
        return f"{npu.device} does not exist"
    if npu.logic_id in holders:
        return holders[npu.logic_id].why
    return "" if npu.health in demand.usable else f"its health is {npu.health}"


def _why_not_free(
    npu: Npu, demand: Demand, holders: Mapping[int, Holder], unfit: Mapping[int, Unfit]
) -> str:
    """The same for "auto", which does not guess about memory and product."""
    if npu.logic_id in unfit:
        return unfit[npu.logic_id].reason
    if why := _why_not(npu, demand, holders):
        return why
    if product_line(npu.product) not in demand.products:
        return f"the model is not for {npu.product or 'a chip that the driver does not name'}"
    return "" if npu.memory_mib else "the driver does not tell its memory"


def _sorted(npus: Iterable[Npu]) -> list[Npu]:
    return sorted(npus, key=lambda npu: npu.logic_id)


def _unsupported(products: Iterable[ProductLine], inventory: Inventory) -> Failure:
    there = ", ".join(sorted({npu.product for npu in inventory.npus if npu.product}))
    return Failure(
        Code.NPU_UNSUPPORTED,
        f"cannot use the NPUs of this host ({there}): the model is for {', '.join(products)}",
        "choose a model for this NPU, or add it to `products` of the profile if you know that the "
        "image serves the model on it",
    )


def _refuse(code: Code, logic_id: int, why: str) -> Failure:
    hint = "correct `npus` of the model profile"
    if code is Code.NPU_LEFTOVER:
        hint = "wait: it is started when the NPU is free, by itself or by a reset"
    return Failure(code, f"cannot use NPU {logic_id}: {why}", hint)
