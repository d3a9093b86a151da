# SPDX-License-Identifier: MulanPSL-2.0
"""The processes of a container, as the machine sees them: found, stopped, killed, frozen, starved.

From the machine, so that nothing of it takes part of the host's time, and with the machine's own
control groups: a host on cgroup v2 has no controllers where the machine binds them to v1.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.fakes.engine.contract_faults import Processes, find_processes, is_alive

from .cgroups import find_directory, read_groups, remove_group
from .host import LabHost
from .process import LabError
from .state import list_children, read_namespace_pids

FREEZE_LIMIT_S = 5.0
MIB = 1024 * 1024
# Room that is left when memory gets scarce, and what is then taken too much.
ROOM_MIB, TAKEN_MIB = 64, 256
TAKE = """
taken = bytearray({mib} << 20)
for at in range(0, len(taken), 4096):
    taken[at] = 1
"""


class CannotTry(LabError):
    """This machine, or this engine, does not have what the case needs."""


@dataclass(frozen=True, slots=True)
class Victims:
    """Pids of the machine."""

    conmon: int
    first: int  # of the container
    engine: Processes

    @property
    def payload(self) -> list[int]:
        """All of the container, now."""
        return descendants(self.first)

    def pids(self, who: str) -> list[int]:
        named = {
            "api": [self.engine.api],
            "core": [self.engine.core],
            "worker": list(self.engine.workers),
            "conmon": [self.conmon],
            "container": [self.first],
            "all": self.payload,
        }
        return named[who]

    def kill(self, who: str) -> None:
        for pid in self.pids(who):
            with contextlib.suppress(ProcessLookupError):  # it went with the one before it
                os.kill(pid, signal.SIGKILL)

    def stop(self, who: str) -> None:
        for pid in self.pids(who):
            os.kill(pid, signal.SIGSTOP)

    def are_gone(self) -> bool:
        engine = self.engine
        return not any(is_alive(pid) for pid in (self.first, engine.api, *engine.computing))


def find_victims(host: LabHost, container: str) -> Victims:
    """Raises LabError while it does not run, or has no EngineCore yet."""
    inspect = ["podman", "inspect", "--format={{.State.ConmonPid}} {{.State.Pid}}", container]
    done = host.run(inspect, check=False)
    if done.returncode != 0:
        raise LabError(done.stderr.strip())
    conmon, first = (machine_pid(host, int(word)) for word in done.stdout.split())
    try:
        return Victims(conmon, first, find_processes(first))
    except AssertionError as error:
        raise LabError(f"no EngineCore in {container}: {error}") from error


def machine_pid(host: LabHost, inside: int) -> int:
    """Of a process that descends from the host's PID 1, as all do that are not entered."""
    leader = host.leader()
    depth = len(read_namespace_pids(leader)) - 1
    for pid in descendants(leader):
        if read_namespace_pids(pid)[depth:][:1] == [inside]:
            return pid
    raise LabError(f"cannot find process {inside} of {host.name}")


def descendants(root: int) -> list[int]:
    """With `root` itself."""
    children, found, waiting = list_children(), [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children.get(pid, [])
    return found


@contextmanager
def gathered(hierarchy: str, pids: list[int]) -> Iterator[Path]:
    """In a group of the machine's own, of that v1 hierarchy; back where they were at the end."""
    home = find_directory(hierarchy, read_groups(pids[0])[hierarchy])
    if home is None:
        raise LabError(f"the machine has no {hierarchy} hierarchy")
    group = home / "lab-victims"
    group.mkdir()
    try:
        for pid in pids:
            (group / "cgroup.procs").write_text(f"{pid}")
        yield group
    finally:
        for line in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                (home / "cgroup.procs").write_text(line)
        remove_group(group)


def freeze(victims: Victims, seconds: float) -> None:
    """All of the container stands still for so long."""
    with gathered("freezer", victims.payload) as group:
        state = group / "freezer.state"
        try:
            state.write_text("FROZEN")
            deadline = time.monotonic() + FREEZE_LIMIT_S
            while state.read_text().strip() != "FROZEN":
                if time.monotonic() > deadline:
                    raise LabError("cannot freeze the container")
                time.sleep(0.01)
            time.sleep(seconds)
        finally:
            state.write_text("THAWED")


def limit_memory(host: LabHost, victims: Victims) -> None:
    """The container may have hardly more than it uses. Raises CannotTry where it has no group of
    its own that could say so."""
    group = read_groups(victims.engine.core)["memory"]
    folder = find_directory("memory", group)
    if folder is None or group == read_groups(host.leader())["memory"]:
        raise CannotTry("the container has no memory controller of its own here")
    used = int((folder / "memory.usage_in_bytes").read_text())
    (folder / "memory.limit_in_bytes").write_text(f"{used + ROOM_MIB * MIB}")


def take_memory(host: LabHost, container: str) -> None:
    """More than there is: the kernel kills the largest process of the container."""
    take = (
        f"taken = bytearray({TAKEN_MIB} << 20)\nfor at in range(0, len(taken), 4096): taken[at] = 1"
    )
    host.run(["podman", "exec", container, "python3", "-c", take], check=False, timeout_s=30)
