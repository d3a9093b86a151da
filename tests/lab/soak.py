# SPDX-License-Identifier: MulanPSL-2.0
"""`python -m tests.lab.soak modern|legacy [--minutes 30] [--seed N]`: a host that serves under
load, with watchers, while one random fault follows the other.

In the first two thirds the agent's own process is spared, so that what it holds can be compared:
descriptors, threads, memory. After each fault all is well again, and all that was told is explained
by it. Exit status 1 when something was not.
"""

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from . import product
from .bench_scene import pids_of, use_of
from .fault_scene import descriptors, wait_well
from .faults import find_payloads, main_pid, read_status
from .host import LabHost
from .process import LabError
from .rootfs import Flavour
from .serving_scene import CLIENT, CLIENT_PLACE, EngineKind, ServingScene
from .soak_faults import AGENT, FAULTS, SoakFault

CLIENTS, WATCHERS = 4, 8
PAUSE_S = (2.0, 20.0)
WELL_S = 180.0
SPARED = 2 / 3  # of the time
# What may be more at the end than at first: a connection that is just being answered, a buffer.
MORE_DESCRIPTORS, MORE_THREADS, MORE_MIB = 3, 1, 4.0
# So many failures in a row are many for a host: it would wait for minutes at last.
SETTINGS = ("/etc/deepseek-agent/agent.toml.d/soak.toml", "[limits]\nbackoff_max_s = 10\n")
WATCH = "curl -sN --unix-socket /run/deepseek-agent/agent.sock http://a/v1/watch > /dev/null"


@dataclass(frozen=True, slots=True)
class Held:
    """What a process holds in a quiet moment."""

    pid: int
    descriptors: int
    threads: int
    pss_mib: float


@dataclass
class Soak:
    """What has happened so far."""

    host: LabHost
    done: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    told: Counter[str] = field(default_factory=Counter)
    last_event: int = 0

    def suffer(self, fault: SoakFault) -> None:
        """The fault, and until all is well."""
        self.done[fault.name] += 1
        try:
            fault.run(self.host)
            wait_well(self.host, WELL_S)
            if (living := len(find_payloads(self.host))) != 1:
                self.problems.append(f"{fault.name}: {living} engines")
        except (LabError, AssertionError) as error:
            self.problems.append(f"{fault.name}: {str(error).splitlines()[0]}")
        self.explain(fault)

    def explain(self, fault: SoakFault) -> None:
        """What has been told since the last time."""
        events = [one for one in _events(self.host) if one["id"] > self.last_event]
        for one in events:
            self.told[str(one["kind"])] += 1
            if one["kind"] not in fault.explains:
                what = f"{one['kind']}: {one['message']}"
                self.problems.append(f"not explained by {fault.name}: {what}")
        self.last_event = max((int(one["id"]) for one in events), default=self.last_event)


def hold(host: LabHost, unit: str) -> Held:
    pid = main_pid(host, unit)
    threads = len(host.run(["ls", f"/proc/{pid}/task"]).stdout.split())
    return Held(pid, descriptors(host, pid), threads, use_of(host, pids_of(host, unit)).pss_mib)


def compare(name: str, first: Held, last: Held) -> Iterator[str]:
    """What has grown."""
    if last.pid != first.pid:
        yield f"{name} is another process"
    if last.descriptors > first.descriptors + MORE_DESCRIPTORS:
        yield f"{name}: {first.descriptors} descriptors, then {last.descriptors}"
    if last.threads > first.threads + MORE_THREADS:
        yield f"{name}: {first.threads} threads, then {last.threads}"
    if last.pss_mib > first.pss_mib + MORE_MIB:
        yield f"{name}: {first.pss_mib:.1f} MiB, then {last.pss_mib:.1f}"


def run(host: LabHost, minutes: float, chance: random.Random) -> Soak:
    """Prints a line for each fault."""
    soak = Soak(host, last_event=max((int(one["id"]) for one in _events(host)), default=0))
    _phase(soak, minutes * SPARED, chance, [one for one in FAULTS if one.spares_agent])
    _phase(soak, minutes * (1 - SPARED), chance, FAULTS)
    return soak


def _phase(soak: Soak, minutes: float, chance: random.Random, faults: Sequence[SoakFault]) -> None:
    for fault in faults:  # each once before it is measured: what it needs is loaded then
        soak.suffer(fault)
    spared = all(fault.spares_agent for fault in faults)
    first = hold(soak.host, AGENT)
    end = time.monotonic() + minutes * 60
    while time.monotonic() < end:
        time.sleep(chance.uniform(*PAUSE_S))
        fault = chance.choice(faults)
        began = time.monotonic()
        soak.suffer(fault)
        held = hold(soak.host, AGENT)
        took = time.monotonic() - began
        print(
            f"{fault.name} | well after {took:.1f} s | {held.descriptors} descriptors, "
            f"{held.threads} threads, {held.pss_mib:.1f} MiB",
            flush=True,
        )
    if spared:
        time.sleep(PAUSE_S[1])
        last = hold(soak.host, AGENT)
        print(f"agentd at first: {first}\nagentd at last: {last}", flush=True)
        soak.problems += compare("agentd", first, last)


def _events(host: LabHost) -> list[dict[str, Any]]:
    return list(read_status(host).snapshot.get("events", []))


@contextmanager
def watched(host: LabHost) -> Iterator[None]:
    """By clients of the socket that come again when the agent has gone."""
    loop = f"for n in $(seq {WATCHERS}); do (while :; do {WATCH}; sleep 1; done) & done; wait"
    command = ["systemd-run", "--quiet", "--unit=soak-watchers", "sh", "-c", loop]
    host.run(command)
    try:
        yield
    finally:
        host.run(["systemctl", "stop", "soak-watchers"], check=False)


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.lab.soak", description=__doc__)
    parser.add_argument("flavour", type=Flavour, choices=list(Flavour))
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6)
    wanted = parser.parse_args()
    chance = random.Random(wanted.seed)  # noqa: S311 - moments, no secrets
    print(f"{wanted.flavour}, {wanted.minutes:g} minutes, seed {wanted.seed}")
    with product.supplied_host(wanted.flavour, f"soak-{wanted.flavour}") as host:
        product.install(host)
        host.write(*SETTINGS)
        product.start(host, "enable", "--now")
        scene = ServingScene(host, EngineKind.DOUBLE)
        host.write(CLIENT_PLACE, CLIENT.read_text())
        with scene.load(CLIENTS, max_tokens=20), watched(host):
            soak = run(host, wanted.minutes, chance)
    for name, times in sorted(soak.done.items()):
        print(f"{name}: {times} times")
    print("events: " + ", ".join(f"{kind} {times}" for kind, times in sorted(soak.told.items())))
    for problem in soak.problems:
        print(f"PROBLEM: {problem}")
    print(f"{soak.done.total()} faults, {len(soak.problems)} problems")
    return 1 if soak.problems else 0


if __name__ == "__main__":
    sys.exit(main())
