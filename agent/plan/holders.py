# SPDX-License-Identifier: MulanPSL-2.0
"""Who holds which NPU: other instances, other containers, other processes. Pure."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agent.errors import Code
from agent.facts import ContainerFacts, Facts, ProcessFacts
from agent.model import DEVICE_PREFIX, Npu, NpuProcess, container_name, is_filled

# Every payload of ours is below this slice (units/deepseek.slice), whatever the renderer.
OUR_SLICE = "/deepseek.slice/"
CONTAINER_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Holder:
    """Why an NPU is not free. The code tells what may come of waiting: a leftover is an engine of
    ours whose container is gone already, or memory that it has left: it ends by itself, or hangs
    in the driver."""

    who: str
    code: Code = Code.NPU_TOO_FEW
    does: str = "holds it"

    @property
    def why(self) -> str:
        return f"{self.who} {self.does}"


def find_holders(instance: str, facts: Facts) -> dict[int, Holder]:
    """Logic id -> who holds it, other than `instance` itself."""
    found: dict[int, Holder] = {}
    for neighbor in facts.neighbors:
        if neighbor.name != instance:
            _add(found, neighbor.npus, Holder(f"deepseek@{neighbor.name}"))
    for container in facts.podman.containers:
        if container.running and container.name != container_name(instance):
            _add(found, npus_of(container), Holder(f"container {container.name}"))
    alive = {process.pid: process for process in facts.processes}
    for npu in facts.inventory.npus:
        for process in npu.processes:
            holder = _judge(process, alive, instance, facts)
            if holder is not None:
                _add(found, (npu.logic_id,), holder)
        if (left := _find_left_memory(npu, alive, instance, facts)) is not None:
            _add(found, (npu.logic_id,), left)
    return found


def npus_of(container: ContainerFacts) -> tuple[int, ...]:
    """Logic ids of the NPUs that a container was given."""
    numbers = (device.removeprefix(DEVICE_PREFIX) for device in container.devices)
    return tuple(int(number) for number in numbers if number.isdecimal())


def _add(found: dict[int, Holder], npus: Iterable[int], holder: Holder) -> None:
    for npu in npus:
        found.setdefault(npu, holder)


def _judge(
    process: NpuProcess, alive: Mapping[int, ProcessFacts], instance: str, facts: Facts
) -> Holder | None:
    """None for one that does not live any more (what it may have left: `_find_left_memory`), and
    for the instance's own."""
    seen = alive.get(process.pid)
    if seen is None:
        return None
    words = _name(process)
    ids = set(CONTAINER_ID.findall(seen.cgroup))
    for container in facts.podman.containers:
        if container.container_id in ids:
            own = container.name == container_name(instance)
            return None if own else Holder(f"container {container.name}, {words}")
    if OUR_SLICE not in seen.cgroup:
        return Holder(words, Code.NPU_BUSY)
    if not facts.podman_seen:
        return None  # it cannot be told whose it is, and may well be the instance's own
    return Holder(f"{words} of an engine that is being stopped", Code.NPU_LEFTOVER)


def _find_left_memory(
    npu: Npu, alive: Mapping[int, ProcessFacts], instance: str, facts: Facts
) -> Holder | None:
    """Of an NPU that nobody is known to use, and of which no engine could have enough: what one
    that has ended left in the driver, or what only the driver knows of.

    An NPU that the instance's own container has is its own, also where the driver does not list the
    processes of containers.
    """
    filled = is_filled(npu.memory_used_mib, npu.memory_mib)
    if not (filled and npu.processes_told and facts.podman_seen):
        return None
    own = (one for one in facts.podman.containers if one.name == container_name(instance))
    if any(process.pid in alive for process in npu.processes) or any(
        container.running and npu.logic_id in npus_of(container) for container in own
    ):
        return None
    amount = f"{npu.memory_used_mib / 1024:.0f} of {npu.memory_mib / 1024:.0f} GiB"
    whose = "that no process is known to hold"
    if npu.processes:
        whose = f"of {', '.join(map(_name, npu.processes))} that ended and did not give it back"
    return Holder(f"memory {whose} ({amount})", Code.NPU_LEFTOVER, "is in use")


def _name(process: NpuProcess) -> str:
    return f"process {process.pid}" + (f" ({process.name})" if process.name else "")
