# SPDX-License-Identifier: MulanPSL-2.0
"""Which process has the device node of a chip open: looks through /proc, whatever the driver says.

The driver may not list a process that it has lost, or that is in a container; a reset would hurt it
all the same. A node is known by its device number, since a container may have it under another
name. What cannot be looked into is passed over: npud is root, and can look into everything.
"""

import os
import re
import stat
import time

from agent.npud.devices import CHIP, read_names

# 180 processes with 1,500 files take 10 ms (measured). npud answers nobody meanwhile: this is far
# below the silence that its clients bear (16 s).
LIMIT_S = 2.0
_NODE = re.compile(rf"/{CHIP}([0-9]{{1,4}})(?: \(deleted\))?$")


def who_has_open(
    folder: str, logic_ids: frozenset[int], npud: int, limit_s: float = LIMIT_S
) -> str:
    """Words about a process that has one of these open, "" when there is none."""
    found = find_openers(folder, npud, limit_s=limit_s)
    if found is None:
        return f"it cannot be told within {limit_s:g} s who has the NPU open"
    return next((found[one] for one in sorted(logic_ids) if one in found), "")


def find_openers(
    folder: str, npud: int, proc: str = "/proc", limit_s: float = LIMIT_S
) -> dict[int, str] | None:
    """Logic id -> words about one that has it open; None: it cannot be told in time. `npud` is its
    process id: it and its children do not count, since the driver's library may open nodes."""
    numbers = _device_numbers(folder)
    found: dict[int, str] = {}
    end = time.monotonic() + limit_s
    for pid in os.listdir(proc):
        if not pid.isdecimal():
            continue
        for file in _files_of(f"{proc}/{pid}/fd"):
            if time.monotonic() > end:
                return None
            logic_id = _chip_of(file, numbers)
            if logic_id is not None and not _is_of_npud(proc, pid, npud):
                words = f"NPU {logic_id} is open in process {pid} ({_name(proc, pid)})"
                found.setdefault(logic_id, words)
    return found


def _device_numbers(folder: str) -> dict[int, int]:
    """Of the chips, by logic id."""
    found: dict[int, int] = {}
    for logic_id in read_names(folder).chips:
        try:
            found[logic_id] = os.stat(f"{folder}/{CHIP}{logic_id}").st_rdev
        except OSError:
            continue
    return found


def _files_of(folder: str) -> list[str]:
    try:
        return [f"{folder}/{name}" for name in os.listdir(folder)]
    except OSError:
        return []  # it has ended


def _chip_of(file: str, numbers: dict[int, int]) -> int | None:
    """Only of what is named like a node: to ask for the number of any file may take as long as a
    dead network file system does."""
    try:
        named = _NODE.search(os.readlink(file))
        status = os.stat(file) if named else None
    except OSError:
        return None  # closed meanwhile
    if named is None or status is None or not stat.S_ISCHR(status.st_mode):
        return None
    logic_id = int(named[1])
    owners = [one for one, number in numbers.items() if number == status.st_rdev]
    if len(owners) == 1:
        return owners[0]
    # The name has the say about numbers that several nodes share (no driver makes such), and where
    # the host's own node is gone.
    return logic_id if logic_id in owners or logic_id not in numbers else None


def _is_of_npud(proc: str, pid: str, npud: int) -> bool:
    if int(pid) == npud:
        return True
    try:
        with open(f"{proc}/{pid}/stat", "rb") as file:
            return int(file.read(4096).rpartition(b")")[2].split()[1]) == npud
    except (OSError, IndexError, ValueError):
        return False


def _name(proc: str, pid: str) -> str:
    try:
        with open(f"{proc}/{pid}/comm", "rb") as file:
            name = file.read(64).decode("utf-8", "replace")
    except OSError:
        return "?"
    return "".join(one for one in name if one.isprintable())
