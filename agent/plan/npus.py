# SPDX-License-Identifier: MulanPSL-2.0
"""Chooses NPUs: which chips, and how many share the model (tensor-parallel size). Pure."""

from collections.abc import Collection, Sequence

from agent.errors import Code, Failure
from agent.model import Inventory, Npu, NpuHealth

# Chips in these states still compute (facts: ascend, "Warning" is a minor alarm). What a fault code
# means in detail is policy of a later stage; UNKNOWN is not chosen, because nothing is known.
USABLE = (NpuHealth.OK, NpuHealth.WARNING)


def choose_npus(
    wanted: str | Sequence[int],
    inventory: Inventory,
    taken: Collection[int],
    heads: int,
    need_mib: int,
) -> tuple[Npu, ...] | Failure:
    """The chips for one instance, in ascending order of logic id.

    `wanted` is "auto", "all", or logic ids; `taken` are logic ids that something else holds;
    `heads` are the model's attention heads (the size must divide them); `need_mib` is the memory
    that the chosen chips must have together.
    """
    match wanted:
        case "auto":
            return _smallest_fit(_free(inventory, taken), heads, need_mib)
        case "all":
            return _exactly([npu.logic_id for npu in inventory.npus], inventory, taken, heads)
        case str():
            return Failure(
                Code.CONFIG_INVALID,
                f'cannot choose NPUs: npus = "{wanted}" is not known',
                'use "auto", "all" or a list of logic ids',
            )
        case _:
            return _exactly(wanted, inventory, taken, heads)


def _free(inventory: Inventory, taken: Collection[int]) -> list[Npu]:
    return [
        npu
        for npu in sorted(inventory.npus, key=lambda npu: npu.logic_id)
        if npu.device_present and npu.health in USABLE and npu.logic_id not in taken
    ]


def _smallest_fit(free: Sequence[Npu], heads: int, need_mib: int) -> tuple[Npu, ...] | Failure:
    for size in range(1, len(free) + 1):
        chosen = free[:size]
        if _divides(size, heads) and sum(npu.memory_mib for npu in chosen) >= need_mib:
            return tuple(chosen)
    memory = ", ".join(f"{npu.logic_id}: {npu.memory_mib} MiB" for npu in free) or "none"
    return Failure(
        Code.NPU_TOO_FEW,
        f"cannot place the model: it needs {need_mib} MiB of NPU memory on a number of NPUs that "
        f"divides its {heads} attention heads; free and healthy: {memory}",
        "free NPUs that something else holds, or choose a smaller model; see: deepseekctl status",
    )


def _exactly(
    wanted: Sequence[int], inventory: Inventory, taken: Collection[int], heads: int
) -> tuple[Npu, ...] | Failure:
    known = {npu.logic_id: npu for npu in inventory.npus}
    for logic_id in wanted:
        npu = known.get(logic_id)
        if npu is None:
            return _refuse(Code.NPU_UNKNOWN, logic_id, f"this host has {sorted(known)}")
        if not npu.device_present:
            return _refuse(Code.NPU_DEVICE_MISSING, logic_id, f"{npu.device} does not exist")
        if logic_id in taken:
            return _refuse(Code.NPU_TOO_FEW, logic_id, "something else holds it")
        if npu.health not in USABLE:
            return _refuse(Code.NPU_TOO_FEW, logic_id, f"its health is {npu.health}")
    size = len(set(wanted))
    if not _divides(size, heads):
        return Failure(
            Code.NPU_TOO_FEW,
            f"cannot use {size} NPUs: the model has {heads} attention heads, which {size} does not "
            "divide",
            "list a number of NPUs that divides the attention heads",
        )
    return tuple(known[logic_id] for logic_id in sorted(set(wanted)))


def _divides(size: int, heads: int) -> bool:
    """Heads that are not known (0) are not divided."""
    return size == 1 if heads == 0 else size > 0 and heads % size == 0


def _refuse(code: Code, logic_id: int, why: str) -> Failure:
    return Failure(code, f"cannot use NPU {logic_id}: {why}", "correct `npus` of the model profile")
