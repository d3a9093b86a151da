# SPDX-License-Identifier: MulanPSL-2.0
"""Processes as the kernel sees them: states, where they wait, kernel stacks. Reads /proc only."""

import os
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")
STATES = {
    "R": "running",
    "S": "sleeping",
    "D": "uninterruptible: waits in the kernel",
    "T": "stopped",
    "t": "stopped by a debugger",
    "Z": "zombie",
    "X": "dead",
    "I": "idle",
}
# Threads named for one stack; vLLM has hundreds that all wait for the same.
NAMED_THREADS = 8
MEBIBYTE = 1024 * 1024


def describe_process(pid: int, proc: Path = PROC) -> Iterator[str]:
    """In lines, what vanishes soonest first. The command line is not among them: to read it takes
    the lock of the process's memory, which a process that hangs may hold."""
    folder = proc / str(pid)
    name, fields = _stat(folder)
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    user_s, system_s, started_s = (int(fields[index]) / ticks for index in (11, 12, 19))
    state = fields[0]
    yield f"process {pid} ({name}): state {state}, {STATES.get(state, 'unknown')}"
    yield (
        f"  {fields[17]} threads, cpu {user_s:.2f} s user {system_s:.2f} s system, "
        f"rss {int(fields[21]) * page // MEBIBYTE} MiB, started {started_s:.0f} s after the boot"
    )
    yield from _describe_threads(folder)


def _describe_threads(folder: Path) -> Iterator[str]:
    """Those that are in the same place of the kernel together."""
    places: dict[tuple[str, ...], list[str]] = {}
    for thread in sorted(os.listdir(folder / "task"), key=int):
        try:
            name, fields = _stat(folder / "task" / thread)
        except (OSError, ValueError):
            continue  # it has just ended
        wchan = _read(folder / "task" / thread / "wchan")
        stack = _read(folder / "task" / thread / "stack").splitlines()
        place = (f"state {fields[0]}, wchan {wchan or '0'}", *stack)
        places.setdefault(place, []).append(f"{thread} ({name})")
    for (where, *stack), threads in places.items():
        more = len(threads) - NAMED_THREADS
        named = ", ".join(threads[:NAMED_THREADS]) + (f" and {more} more" if more > 0 else "")
        yield f"  {where}: {named}"
        yield from (f"    {line}" for line in stack)


def command_line(pid: int, proc: Path = PROC) -> str:
    words = (proc / str(pid) / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    return " ".join(word.decode(errors="replace") for word in words)


def pid_inside(pid: int, proc: Path = PROC) -> int:
    """Its number in the container (proc(5), NSpid)."""
    for line in (proc / str(pid) / "status").read_text(errors="replace").splitlines():
        if line.startswith("NSpid:"):
            return int(line.split()[-1])
    return pid


def _stat(folder: Path) -> tuple[str, list[str]]:
    """Name, and the fields from the state on. A name may hold anything, blanks and ")" too."""
    text = (folder / "stat").read_text(errors="replace")
    head, _, rest = text.rpartition(")")
    fields = rest.split()
    if len(fields) < 22:
        raise ValueError(f"{folder}/stat is not understood: {text!r}")
    return head.partition("(")[2], fields


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError as error:
        return f"({error.strerror})"
