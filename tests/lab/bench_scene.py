# SPDX-License-Identifier: MulanPSL-2.0
"""What the benchmarks compare with, and what a unit's processes use."""

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from . import product
from .births import births
from .host import LabHost
from .images import ENGINE_IMAGE
from .models import MODEL_8B, MODELS_DIRECTORY
from .process import LabError
from .product import FRONT
from .rootfs import Flavour
from .sandbox_table import CGROUP
from .state import read_namespace_pids

# The least that is allowed: each death is the first one, without a wait before the next start.
HEALTHY_RESET_S = 10
SETTINGS = "/etc/deepseek-agent/agent.toml.d/bench.toml"
OURS = ("deepseek-agent.service", "deepseek-npud.service", FRONT)
BY_HAND = "by-hand.service"
HAND_CONTAINER = "by-hand"
# What a careful person would write for the same image, model and engine, and systemd's restart.
QUADLET = f"""[Container]
Image={ENGINE_IMAGE}
ContainerName={HAND_CONTAINER}
AddDevice=/dev/davinci0
AddDevice=/dev/davinci_manager
AddDevice=/dev/devmm_svm
AddDevice=/dev/hisi_hdc
Volume={MODELS_DIRECTORY}/{MODEL_8B}:/model:ro
PublishPort=127.0.0.1:2023:8000
PodmanArgs=--init
Exec=vllm serve /model --served-model-name=deepseek-r1:8b --port=8000 --dtype=float16
{{container}}
[Service]
Restart=always
RestartSec=0
"""
# The same for a Podman without quadlets, as its own `podman generate systemd` has it.
UNIT = f"""[Service]
Type=notify
NotifyAccess=all
Restart=always
RestartSec=0
Environment=PODMAN_SYSTEMD_UNIT=%n
ExecStartPre=-/bin/rm -f %t/%n.ctr-id
ExecStart=/usr/bin/podman run --cidfile=%t/%n.ctr-id --cgroups=no-conmon --rm -d \\
    --sdnotify=conmon --replace --init --name={HAND_CONTAINER} --device=/dev/davinci0 \\
    --device=/dev/davinci_manager --device=/dev/devmm_svm --device=/dev/hisi_hdc \\
    --volume={MODELS_DIRECTORY}/{MODEL_8B}:/model:ro \\
    --publish=127.0.0.1:2023:8000 {{container}} {ENGINE_IMAGE} \\
    vllm serve /model --served-model-name=deepseek-r1:8b --port=8000 --dtype=float16
ExecStop=/usr/bin/podman stop --ignore --cidfile=%t/%n.ctr-id
ExecStopPost=/usr/bin/podman rm -f --ignore --cidfile=%t/%n.ctr-id
"""


@dataclass(frozen=True, slots=True)
class Usage:
    """Of some processes together."""

    pss_mib: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Cost:
    """Of some processes together, over a while; memory at its end."""

    pss_mib: float
    cpu_percent: float


@dataclass(frozen=True, slots=True)
class Idle:
    """A while in which nobody asks. `host_forks_a_minute`: processes that anything on the host has
    begun, but for what is in containers; the others: what those that are watched have begun."""

    costs: dict[str, Cost]
    host_forks_a_minute: float
    forks_a_minute: float
    threads_a_minute: float


def write_by_hand(host: LabHost, *, quadlet: str = "", option: str = "") -> None:
    """`quadlet`: more keys of [Container]; `option`: the same for `podman run`."""
    if host.flavour is Flavour.MODERN:
        path = "/etc/containers/systemd/by-hand.container"
        host.write(path, QUADLET.format(container=quadlet))
    else:
        host.write(f"/etc/systemd/system/{BY_HAND}", UNIT.format(container=option))
    host.run(["systemctl", "daemon-reload"])


def take_each_death_as_the_first(host: LabHost) -> None:
    """As on a server where the engine has served for longer than `healthy_reset_s`."""
    host.write(SETTINGS, f"[limits]\nhealthy_reset_s = {HEALTHY_RESET_S}\n")


def pids_of(host: LabHost, unit: str) -> list[int]:
    """All processes of it."""
    group = product.show(host, unit, "ControlGroup")["ControlGroup"]
    find = ["find", f"{CGROUP[host.flavour]}{group}", "-name", "cgroup.procs"]
    return [int(word) for word in host.run([*find, "-exec", "cat", "{}", "+"]).stdout.split()]


def use_of(host: LabHost, pids: Sequence[int]) -> Usage:
    """Their memory, and the processor time that they have used so far."""
    pss = cpu = 0.0
    for pid in pids:
        # Empty for a child of the agent's that has ended meanwhile.
        rollup = host.run(["cat", f"/proc/{pid}/smaps_rollup"], check=False).stdout
        for line in rollup.splitlines():
            if line.startswith("Pss:"):
                pss += int(line.split()[1]) / 1024
        times = ["sh", "-c", f"cat /proc/{pid}/task/*/schedstat"]
        lines = host.run(times, check=False).stdout.splitlines()
        cpu += sum(int(line.split()[0]) for line in lines) / 1e9
    return Usage(pss, cpu)


def machine_pids(host: LabHost) -> dict[int, int]:
    """What the host's processes are outside of it, by what they are in it; none in containers."""
    space = os.readlink(f"/proc/{host.leader()}/ns/pid")
    found: dict[int, int] = {}
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{name}/ns/pid") == space:
                found[read_namespace_pids(int(name))[-1]] = int(name)
    return found


def watch_idle(host: LabHost, pids: Mapping[str, Sequence[int]], seconds: float) -> Idle:
    """What each group of processes costs while the host is left alone. Raises LabError when one of
    them is not there."""
    machine = machine_pids(host)
    watched = [pid for group in pids.values() for pid in group]
    if missing := [pid for pid in watched if pid not in machine]:
        raise LabError(f"cannot find the processes {missing} of {host.name}")
    before = {name: use_of(host, group) for name, group in pids.items()}
    began = time.monotonic()
    with births(machine[pid] for pid in watched) as born, births(machine.values()) as of_host:
        time.sleep(seconds)
    after = {name: use_of(host, group) for name, group in pids.items()}
    took = time.monotonic() - began
    costs = {
        name: Cost(use.pss_mib, (use.cpu_s - before[name].cpu_s) / took * 100)
        for name, use in after.items()
    }
    each = (of_host.processes, born.processes, born.threads)
    return Idle(costs, *(count / took * 60 for count in each))


def first_answer(host: LabHost, unit: str) -> float:
    """Seconds from `systemctl start`."""
    began = time.monotonic()
    host.run(["systemctl", "start", "--no-block", unit])
    product.ask_until_answered(host)
    return time.monotonic() - began


def kill_to_answer(host: LabHost, container: str) -> float:
    """Seconds from the SIGKILL of all that is in a container to the next answer."""
    began = time.monotonic()
    host.run(["podman", "kill", "--signal=KILL", container])
    product.ask_until_answered(host, limit_s=120)
    return time.monotonic() - began
