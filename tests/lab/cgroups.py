# SPDX-License-Identifier: MulanPSL-2.0
"""A control group of its own for each lab host, below the caller's, in every mounted hierarchy.

Without it two hosts, and the machine, would share one tree: the root of a new cgroup namespace is
the group that a process is in. It also finds whatever a dead host has left running.
"""

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from .process import LabError

# What systemd and Podman in a host want of v2.
CONTROLLERS = {"cpu", "cpuset", "io", "memory", "pids"}
# Joins the groups named before "--", then becomes the command after it. 0 is the writer itself.
# A group of a v1 controller may be gone: when no unit wants the controller any more, systemd
# removes what is empty below its root.
JOIN = """
join() {
    for _ in 1 2 3 4 5; do
        [ -d "$1" ] || mkdir "$1"
        echo 0 > "$1/cgroup.procs" && return
    done 2> /dev/null
    echo 0 > "$1/cgroup.procs"
}
while [ "$1" != -- ]; do
    join "$1" || exit 125
    shift
done
shift
exec "$@"
"""


def read_groups(pid: int | str) -> dict[str, str]:
    """Hierarchy ("memory", "name=systemd", "" for v2) -> the group of the process in it."""
    groups = {}
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        groups[controllers] = path
    return groups


def find_mounts() -> dict[str, tuple[Path, str]]:
    """Hierarchy -> (mount point, which group is at its top)."""
    found: dict[str, tuple[Path, str]] = {}
    wanted = read_groups("self")
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        root, point = left.split()[3:5]
        kind, _, options = right.split()[:3]
        if kind == "cgroup2":
            found.setdefault("", (Path(point), root))
        elif kind == "cgroup":
            for hierarchy in wanted:
                if hierarchy and set(hierarchy.split(",")) <= set(options.split(",")):
                    found.setdefault(hierarchy, (Path(point), root))
    return found


def has_v1_controllers() -> bool:
    """A host can have on v1 only what the machine has not bound to v2."""
    bound = {name for hierarchy in find_mounts() for name in hierarchy.split(",")}
    return {"devices", "memory", "pids"} <= bound


def find_directory(hierarchy: str, group: str) -> Path | None:
    mount = find_mounts().get(hierarchy)
    if mount is None:
        return None
    point, top = mount
    inside = group if top == "/" else group.removeprefix(top)
    return point / inside.lstrip("/")


def list_directories(groups: dict[str, str]) -> list[Path]:
    found = [find_directory(hierarchy, group) for hierarchy, group in groups.items()]
    return [directory for directory in found if directory is not None]


def create_groups(name: str) -> list[Path]:
    """One new group in each hierarchy; those of a dead host of the same name are emptied first."""
    own = read_groups("self")
    made = []
    for parent in list_directories(own):
        group = parent / name
        remove_group(group)
        try:
            group.mkdir()
            prepare_group(parent, group)
        except OSError as error:
            raise LabError(f"cannot make a control group in {parent}: {error}") from error
        made.append(group)
    return made


def prepare_group(parent: Path, group: Path) -> None:
    for item in ("cpuset.cpus", "cpuset.mems"):  # empty in a new v1 group: nothing may enter it
        if (group / item).exists() and not (group / item).read_text().strip():
            with contextlib.suppress(OSError):
                (group / item).write_text((parent / item).read_text())
    if (parent / "cgroup.subtree_control").exists():
        offered = (parent / "cgroup.controllers").read_text().split()
        for controller in CONTROLLERS & set(offered):
            with contextlib.suppress(OSError):  # refused where the caller's own group is not empty
                (parent / "cgroup.subtree_control").write_text(f"+{controller}")


def shell_groups(leader: int) -> list[Path]:
    """Groups inside a booted host for what is run in it from outside, as a login shell has."""
    joined = []
    for directory in list_directories(read_groups(leader)):
        group = directory
        if directory.name == "init.scope":
            group = directory.with_name("lab.shell")
            group.mkdir(exist_ok=True)
            with contextlib.suppress(OSError):  # v2 has no such file; or it is gone: see JOIN
                # Not told after each command that ends (release_agent.py).
                (group / "notify_on_release").write_text("0")
        joined.append(group)
    return joined


def joining(groups: Sequence[Path], argv: Sequence[str]) -> list[str]:
    """The command that runs argv inside these groups."""
    return ["/bin/sh", "-c", JOIN, "lab", *map(str, groups), "--", *argv]


def list_processes(group: Path) -> set[int]:
    found: set[int] = set()
    for folder, _, _ in os.walk(group):
        with contextlib.suppress(OSError):
            found |= {int(pid) for pid in Path(folder, "cgroup.procs").read_text().split()}
    return found - {0}


def remove_group(group: Path, timeout_s: float = 15) -> None:
    """Kills all that is in the group and below it, and removes it. Nothing there: nothing done."""
    deadline = time.monotonic() + timeout_s
    while group.is_dir():
        for pid in list_processes(group):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for folder, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)
        if time.monotonic() > deadline:
            raise LabError(f"cannot empty {group}: {sorted(list_processes(group))} are left")
        if group.is_dir():
            time.sleep(0.05)
