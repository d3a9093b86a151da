# SPDX-License-Identifier: MulanPSL-2.0
"""The work of a reset, in a forked process of its own: looks, resets, waits for the boot.

Everything that could forbid it is asked for now: what npud knows may be a minute old.
"""

import os
import time

from agent.model import MEMORY_LEFT, ResetOutcome, is_filled
from agent.npud.dcmi import abi
from agent.npud.dcmi.faults import CARD_DROP, name_of_fault
from agent.npud.dcmi.messages import ChipKey, ResetEnded, ResetOrder, State
from agent.npud.dcmi.reader import Reader
from agent.npud.open_nodes import who_has_open
from agent.npud.source import FAULT_GONE

NEVER = (abi.NOT_PERMITTED, abi.NOT_SUPPORTED, abi.MISSING)


def reset(reader: Reader, order: ResetOrder) -> ResetEnded:
    """Returns when all chips have booted, or one did not in time, or nothing was done."""
    if unlisted := [key for key in order.ring if not reader.lists(key)]:
        why_not = f"a new process of libdcmi does not list chip {_name(unlisted[0])}"
        return ResetEnded(ResetOutcome.BUSY, why_not)
    states = {key: reader.read_state(key) for key in order.ring}
    why_not = (
        _who_uses_them(reader, states)
        or _is_it_gone(reader, order, states[order.chip])
        or _who_has_them_open(order, states)
    )
    if why_not:
        return ResetEnded(ResetOutcome.BUSY, why_not)
    code = reader.reset(order.through)
    if code != abi.OK:
        outcome = ResetOutcome.REFUSED if code in NEVER else ResetOutcome.FAILED
        return ResetEnded(outcome, f"dcmi_set_device_reset: {abi.name_of_code(code)}")
    return _wait_for_boot(reader, order)


def _who_uses_them(reader: Reader, states: dict[ChipKey, State]) -> str:
    """ "" when nobody does. A chip that has dropped off cannot be asked, nor be used."""
    for key, state in states.items():
        if state.code == abi.DROPPED:
            continue
        processes = reader.read_processes(key)
        if processes is None:
            return f"the driver does not say what uses chip {_name(key)}"
        if processes:
            pids = ", ".join(str(process.pid) for process in processes)
            return f"chip {_name(key)} is in use by process {pids}"
    return ""


def _who_has_them_open(order: ResetOrder, states: dict[ChipKey, State]) -> str:
    """ "" when nobody has, as far as the driver can be asked about them. npud is the parent."""
    chips = zip(order.ring, order.numbers, strict=True)
    asked = frozenset(one for key, one in chips if states[key].code != abi.DROPPED)
    return who_has_open(order.folder, asked, os.getppid())


def _is_it_gone(reader: Reader, order: ResetOrder, state: State) -> str:
    """ "" when one of the faults that it is for is there, or when nobody can tell."""
    if not order.codes:
        return ""
    if state.code == abi.DROPPED:
        return "" if CARD_DROP in order.codes else FAULT_GONE
    if MEMORY_LEFT in order.codes and _is_memory_left(reader, order.chip):
        return ""
    codes = set(order.codes) - {MEMORY_LEFT}
    if not codes:
        return FAULT_GONE
    if not reader.tells_codes():
        return ""
    if state.faults is None:
        return "the driver does not say which faults are there"
    there = {name_of_fault(code) for code, _text in state.faults}
    return "" if there & codes else FAULT_GONE


def _is_memory_left(reader: Reader, key: ChipKey) -> bool:
    """That no process uses the chip is known by now."""
    size_mib, used_mib, _temperature = reader.read_memory(key)
    return is_filled(used_mib or 0, size_mib)


def _wait_for_boot(reader: Reader, order: ResetOrder) -> ResetEnded:
    end = time.monotonic() + order.boot_s
    while True:
        told = {key: reader.read_boot_status(key) for key in order.ring}
        late = {key: status for key, status in told.items() if status != abi.BOOTED}
        if not late:
            return ResetEnded(ResetOutcome.OK, f"boot status {abi.BOOTED}")
        if time.monotonic() >= end:
            words = ", ".join(f"{_name(key)}: {_status(status)}" for key, status in late.items())
            return ResetEnded(ResetOutcome.FAILED, f"boot status after {order.boot_s:g} s: {words}")
        time.sleep(order.look_s)


def _status(status: int | None) -> str:
    return "not told" if status is None else str(status)


def _name(key: ChipKey) -> str:
    return f"{key[0]}.{key[1]}"
