# SPDX-License-Identifier: MulanPSL-2.0
"""What is known of a host beyond the process that started it: one JSON file in its folder."""

import contextlib
import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .process import read_start_time
from .rootfs import Flavour

STATE_FILE = "state.json"
# Ends the host when the process that started it ends, in whatever way: its end of the pipe closes.
GUARD = """
cat > /dev/null
kill -KILL "$1" 2> /dev/null
shift
sleep 1
find "$@" -depth -type d -exec rmdir {} + 2> /dev/null
"""


@dataclass(frozen=True, slots=True)
class Running:
    """The launcher (parent of systemd-nspawn), and the host's control groups."""

    pid: int
    started: int
    groups: tuple[Path, ...]

    def is_alive(self) -> bool:
        return read_start_time(self.pid) == self.started


@dataclass(frozen=True, slots=True)
class State:
    flavour: Flavour
    running: Running | None
    # Folders of the machine that the host sees read-only, under another name: (here, inside).
    binds: tuple[tuple[str, str], ...] = ()


def read_state(folder: Path) -> State | None:
    """None when there is no host in this folder."""
    try:
        stored = json.loads((folder / STATE_FILE).read_text())
    except OSError:
        return None
    running = None
    if stored["pid"] is not None:
        groups = tuple(Path(group) for group in stored["groups"])
        running = Running(stored["pid"], stored["started"], groups)
    binds = tuple((here, inside) for here, inside in stored.get("binds", ()))
    return State(Flavour(stored["flavour"]), running, binds)


def write_state(folder: Path, state: State) -> None:
    running = state.running
    stored = {
        "flavour": state.flavour,
        "pid": running.pid if running else None,
        "started": running.started if running else None,
        "groups": [str(group) for group in running.groups] if running else [],
        "binds": state.binds,
    }
    part = folder / f"{STATE_FILE}.part"
    part.write_text(json.dumps(stored, indent=1) + "\n")
    part.replace(folder / STATE_FILE)


def list_hosts(base_dir: Path) -> list[str]:
    return sorted(path.parent.name for path in base_dir.glob(f"*/{STATE_FILE}"))


def start_guard(pid: int, groups: Sequence[Path]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        ["/bin/sh", "-c", GUARD, "guard", str(pid), *map(str, groups)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def list_children() -> dict[int, list[int]]:
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        with contextlib.suppress(ValueError, OSError, IndexError):
            parent = int(Path("/proc", name, "stat").read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(name))
    return children


def read_namespace_pids(pid: int) -> list[int]:
    """The pid as each PID namespace sees it, the outermost first."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("NSpid:"):
                return [int(number) for number in line.split()[1:]]
    return []


def find_leader(launcher: int) -> int | None:
    """PID 1 of the host: it lives two PID namespaces below the launcher."""
    children = list_children()
    depth = len(read_namespace_pids(launcher))
    waiting = [launcher]
    while waiting:
        pid = waiting.pop()
        inner = read_namespace_pids(pid)
        if len(inner) == depth + 2 and inner[-1] == 1:
            return pid
        waiting += children.get(pid, [])
    return None
