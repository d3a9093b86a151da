# SPDX-License-Identifier: MulanPSL-2.0
"""The inventory, put together: the driver's account and the device nodes come in, an Inventory,
a status line or a message goes out. Pure: touches nothing.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, replace

from agent.model import (
    UNKNOWN_CARD,
    DriverState,
    Inventory,
    Npu,
    NpuHealth,
    NpuProcess,
    NpuReadings,
    ResetOutcome,
)
from agent.npud.devices import CHIP, Devices
from agent.npud.npu_smi import NOT_LOADED, ChipKey, ChipName, ChipState, Table

SCHEMA = 1

# Memory in use moves with every request that an engine serves; a change that somebody could act
# on (a model loaded, a dead engine that still holds its memory) is gigabytes. Smaller ones are
# seen by whoever connects, and ride along with the next real change.
MEMORY_STEP_MIB = 512

NODE_NOT_TOLD = "the driver does not say which device node it has"

NO_ANSWER_YET = Inventory(DriverState.UNKNOWN, "the driver has not answered yet")


def build_account(mapping: tuple[ChipName, ...], table: Table) -> Inventory:
    """What npu-smi told; a chip that the table left out is listed, and UNKNOWN."""
    return Inventory(
        driver=DriverState.READY,
        driver_version=table.version,
        npus=tuple(
            _npu(name, table.chips.get((name.card_id, name.chip_id)), table) for name in mapping
        ),
        source="npu-smi",
    )


def _npu(name: ChipName, state: ChipState | None, table: Table) -> Npu:
    key: ChipKey = (name.card_id, name.chip_id)
    npu = replace(unknown_npu(name.number, ""), card_id=name.card_id, chip_id=name.chip_id)
    npu = replace(npu, product=name.product, processes=table.processes.get(key, ()))
    npu = replace(npu, node_told=name.node is not None)
    if state is None:
        return npu
    return replace(
        npu,
        product=state.product or name.product,
        health=state.health,
        memory_mib=state.memory_mib,
        memory_used_mib=state.memory_used_mib,
        bus_id=state.bus_id,
        # Of a chip without a health no processes are listed.
        processes_told=table.has_processes and state.health is not NpuHealth.UNKNOWN,
    )


def unknown_npu(logic_id: int, device: str) -> Npu:
    return Npu(
        logic_id=logic_id,
        card_id=UNKNOWN_CARD,
        chip_id=UNKNOWN_CARD,
        device=device,
        device_present=bool(device),
        product="",
        health=NpuHealth.UNKNOWN,
        memory_mib=0,
        memory_used_mib=0,
    )


def forget(account: Inventory, logic_ids: frozenset[int]) -> Inventory:
    """The account as far as it still holds after the nodes of these chips came or went.

    What the driver told about such a chip was about another state of it.
    """
    if account.driver is not DriverState.READY:
        return NO_ANSWER_YET
    npus = (
        replace(npu, health=NpuHealth.UNKNOWN) if npu.logic_id in logic_ids else npu
        for npu in account.npus
    )
    return replace(account, npus=tuple(npus))


def with_devices(account: Inventory, devices: Devices) -> Inventory:
    """The driver's account, and what /dev says about it."""
    sure = {npu.logic_id: npu for npu in _whose_node_is_sure(account.npus, devices.chips)}
    numbers = {npu.logic_id for npu in account.npus}
    reason = "" if sure.keys() == numbers else NODE_NOT_TOLD
    gaps = _gaps(numbers | devices.chips)
    npus = []
    for number in sorted(numbers | devices.chips | gaps):
        path = devices.path(f"{CHIP}{number}")
        why = "" if number in gaps else reason
        npu = sure.get(number) or replace(unknown_npu(number, path), reason=why)
        npus.append(replace(npu, device=path, device_present=number in devices.chips))
    driver, detail = _driver(account, devices)
    return replace(
        account,
        driver=driver,
        detail=detail,
        npus=tuple(npus),
        manager_devices=tuple(devices.path(name) for name in devices.managers),
    )


def _gaps(known: set[int]) -> set[int]:
    """The places of chips that did not come up at boot: nobody tells of them but those behind
    them. Where most places are empty, none is taken for the place of a chip."""
    gaps = set(range(max(known, default=0))) - known
    return gaps if len(gaps) <= len(known) else set()


def _whose_node_is_sure(npus: tuple[Npu, ...], nodes: frozenset[int]) -> Iterator[Npu]:
    """Where the driver does not tell nodes, its logic ids are theirs only without a gap: a chip
    that was not there at boot has no logic id, and those behind it moved up. So they are up to the
    first node that is missing, and all of them when the highest is the same."""
    guessed = [npu.logic_id for npu in npus if not npu.node_told]
    has_no_gap = len(guessed) == len(npus) and max(guessed, default=-1) == max(nodes, default=-1)
    for npu in npus:
        if npu.node_told or has_no_gap or nodes.issuperset(range(npu.logic_id + 1)):
            yield npu


def _driver(account: Inventory, devices: Devices) -> tuple[DriverState, str]:
    if account.driver is DriverState.ABSENT and devices.any:
        return DriverState.UNKNOWN, f"{account.detail}, but there are device nodes"
    # npu-smi is on the disk before the driver is loaded, and says -8005 until it is. Without any
    # node that is a driver to wait for, not one that failed.
    not_loaded = account.driver is DriverState.FAILED and NOT_LOADED in account.detail
    if not_loaded and not devices.any:
        return DriverState.ABSENT, f"no {devices.path(CHIP)}* yet; {account.detail}"
    return account.driver, account.detail


def is_change(published: Inventory, now: Inventory) -> bool:
    """Whether clients have to be told; see MEMORY_STEP_MIB for what does not count.

    Readings never do: a temperature moves with every look.
    """
    if _without_what_moves(published) != _without_what_moves(now):
        return True
    return any(
        abs(was - is_now) >= MEMORY_STEP_MIB
        for was, is_now in zip(_memory(published), _memory(now), strict=True)
    )


def _without_what_moves(inventory: Inventory) -> Inventory:
    npus = (
        replace(
            npu,
            memory_used_mib=0,
            processes=tuple(_still(npu.processes)),
            readings=NpuReadings(),
        )
        for npu in inventory.npus
    )
    return replace(inventory, npus=tuple(npus), read_at=0.0, sequence=0)


def _still(processes: tuple[NpuProcess, ...]) -> list[NpuProcess]:
    return sorted((replace(p, memory_mib=0) for p in processes), key=lambda p: (p.pid, p.name))


def _memory(inventory: Inventory) -> list[int]:
    """Every amount that moves; the order is the same for inventories that are otherwise equal."""
    amounts: list[int] = []
    for npu in inventory.npus:
        amounts.append(npu.memory_used_mib)
        ordered = sorted(npu.processes, key=lambda p: (p.pid, p.name))
        amounts.extend(process.memory_mib for process in ordered)
    return amounts


def status_line(inventory: Inventory) -> str:
    """One line for `systemctl status deepseek-npud`."""
    match inventory.driver:
        case DriverState.READY:
            return _ready_line(inventory)
        case DriverState.ABSENT:
            return "waiting for the NPU driver: no /dev/davinci* yet"
        case DriverState.FAILED:
            return f"the NPU driver refuses: {inventory.detail}"
        case DriverState.UNKNOWN:
            return f"state of the NPU driver unknown: {inventory.detail}"


def _ready_line(inventory: Inventory) -> str:
    line = f"{len(inventory.npus)} NPUs, driver {inventory.driver_version or 'of unknown version'}"
    bad = [_complaint(npu) for npu in inventory.npus if _complaint(npu)]
    return f"{line}; {', '.join(bad)}" if bad else line


def _complaint(npu: Npu) -> str:
    if not npu.device_present:
        return f"{npu.device} missing"
    if npu.health is NpuHealth.OK and not npu.faults:
        return ""
    codes = "".join(f" {fault.code}" for fault in npu.faults)
    reason = f" ({npu.reason})" if npu.reason else ""
    return f"{npu.device} {npu.health.value}{reason}{codes}"


def inventory_message(inventory: Inventory) -> bytes:
    """The full picture: the fields of agent.model.Inventory, enums as values, tuples as lists."""
    return _line({"schema": SCHEMA, "type": "inventory", "inventory": asdict(inventory)})


def heartbeat_message(sequence: int) -> bytes:
    return _line({"schema": SCHEMA, "type": "heartbeat", "sequence": sequence})


def reset_message(logic_id: int, outcome: ResetOutcome, detail: str) -> bytes:
    """To the client that asked for it."""
    told = {"logic_id": logic_id, "outcome": outcome, "detail": detail}
    return _line({"schema": SCHEMA, "type": "reset", **told})


def _line(message: dict[str, object]) -> bytes:
    # Escaped, the words of some drivers would be twice as long.
    line = json.dumps(message, separators=(",", ":"), ensure_ascii=False)
    return line.encode("utf-8", "replace") + b"\n"
