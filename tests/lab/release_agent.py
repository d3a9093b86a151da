# SPDX-License-Identifier: MulanPSL-2.0
"""Tells a lab host's systemd that a control group of cgroup v1 has become empty.

On a real host the kernel starts systemd's release agent for that, which the host's systemd has set
at boot. There is one agent for all of the machine, so systemd in a namespace sets none, and waits
for its timeout where the last process of a unit was no child of its own. Here the machine's agent
finds the host that the group belongs to. Where the machine has one of its own it is left alone, and
legacy hosts wait.
"""

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from .cache import cache_directory
from .cgroups import find_mounts

HIERARCHY = "name=systemd"
# The kernel runs it with the group's path as its argument, in its own namespaces: there
# /proc/PID/root leads into the host. systemd (252, src/cgroups-agent) sends the path alone.
PROGRAM = """\
#!{python} -ISB
import socket, sys

group = base = sys.argv[1]
while base:
    base = base.rpartition("/")[0]
    try:
        with open(f"{mount}{{base}}/init.scope/cgroup.procs") as stream:
            first = stream.read().split()[0]
    except (OSError, IndexError):
        continue
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.sendto(group[len(base):].encode(), f"/proc/{{first}}/root/run/systemd/cgroups-agent")
    break
"""


def tell_of_empty_groups(groups: Sequence[Path]) -> None:
    """From now on a host's systemd is told of all that is below its group among these."""
    point, _ = find_mounts().get(HIERARCHY, (Path(), ""))
    agent = point / "release_agent"
    with contextlib.suppress(OSError):  # a machine that does not let us: see above
        if not Path(agent.read_text().strip() or "/nonexistent").exists():
            agent.write_text(f"{_write_program(point)}\n")
        for group in groups:
            if group.is_relative_to(point):
                (group / "notify_on_release").write_text("1")


def _write_program(point: Path) -> Path:
    python = Path(sys.executable).resolve()  # a virtual environment may be gone by then
    path = cache_directory() / "release-agent"
    new = path.with_name(f"{path.name}.{os.getpid()}")
    new.write_text(PROGRAM.format(python=python, mount=point))
    new.chmod(0o755)
    new.replace(path)
    return path
