# SPDX-License-Identifier: MulanPSL-2.0
"""What a model asks of NPUs, what there is, what is chosen; what "auto" and a list share. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from agent.errors import Code, Failure
from agent.model import Inventory, Npu, NpuHealth, ProductLine, Unfit
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
class Chips:
    """What there is to choose from, and why some of it cannot be had. `holders` and `unfit`: by
    logic id."""

    inventory: Inventory
    holders: Mapping[int, Holder]
    unfit: Mapping[int, Unfit]

    def why_not(self, npu: Npu, demand: Demand) -> str:
        """Empty when it can be used."""
        if not npu.device_present:
            return f"{npu.device} does not exist"
        if npu.logic_id in self.holders:
            return self.holders[npu.logic_id].why
        return "" if npu.health in demand.usable else f"its health is {npu.health}"


@dataclass(frozen=True, slots=True)
class Choice:
    """The chips for one instance, in ascending order of logic id."""

    npus: tuple[Npu, ...]
    degraded: str = ""  # why they are fewer than were asked for
    alarmed: str = ""  # which of them are used in spite of their alarm, and why


def choose_nearest(free: Sequence[Npu], size: int) -> tuple[Npu, ...]:
    """`size` chips on as few cards as can be; of cards that do, the one with the least to spare,
    so that whole cards stay whole."""
    cards: dict[int, list[Npu]] = defaultdict(list)
    for npu in free:
        cards[npu.card_id].append(npu)
    fitting = [chips for chips in cards.values() if len(chips) >= size]
    if fitting:
        return tuple(min(fitting, key=lambda chips: (len(chips), chips[0].logic_id))[:size])
    fullest = sorted(free, key=lambda npu: (-len(cards[npu.card_id]), npu.logic_id))
    return tuple(in_order(fullest[:size]))


def in_order(npus: Iterable[Npu]) -> list[Npu]:
    return sorted(npus, key=lambda npu: npu.logic_id)


def unsupported(products: Iterable[ProductLine], inventory: Inventory) -> Failure:
    there = ", ".join(sorted({npu.product for npu in inventory.npus if npu.product}))
    return Failure(
        Code.NPU_UNSUPPORTED,
        f"cannot use the NPUs of this host ({there}): the model is for {', '.join(products)}",
        "choose a model for this NPU, or add it to `products` of the profile if you know that the "
        "image serves the model on it",
    )


def wait_for(unfit: Iterable[Unfit]) -> Failure:
    told = "; ".join(f"{one.logic_id}: {one.reason}" for one in unfit)
    return Failure(
        Code.NPU_RESETTING,
        f"cannot start yet: it takes an NPU that is being mended ({told})",
        "wait: it is started when the NPU is well, or without it if that is not to be; "
        "see: deepseekctl npus",
    )
