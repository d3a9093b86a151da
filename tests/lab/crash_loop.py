# SPDX-License-Identifier: MulanPSL-2.0
"""`python -m tests.lab.crash_loop modern|legacy`: an engine that dies at once, for `--minutes` (9).

What it costs: CPU time of the agent with its children, its journal lines, what it writes; for each
try, and what that comes to in two hours of the waits that tests/scenario/test_hours.py shows (32
tries). Then the cause goes away, and it is measured how long it takes until it serves.
Exit status 1 when that is more than 1 % of a core, or takes more than 300 s and the start itself.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass

from . import product
from .host import LabHost
from .rootfs import Flavour

TRIES_IN_2_H = 32
TWO_HOURS_S = 7200.0
CPU_LIMIT = 0.01
RECOVERY_LIMIT_S = 300.0 + 30.0
START_S = 60.0
OURS = ("deepseek-agent.service", "deepseek-npud.service", product.FRONT)


@dataclass(frozen=True, slots=True)
class Count:
    at: float
    tries: int
    cpu_s: float  # of the agent and its children
    journal_lines: int
    engine_lines: int
    evidence: int  # files


def count(host: LabHost) -> Count:
    show = ["systemctl", "show", "--property=CPUUsageNSec", "--value", "deepseek-agent"]
    cpu = host.run(show).stdout.strip()
    status = json.loads(host.run(["deepseekctl", "status", "--json"], check=False).stdout)
    view = next(one for one in status["instances"] if one["name"] == "8b")
    files = host.run(["sh", "-c", "ls /var/lib/deepseek-agent/evidence | wc -l"], check=False)
    return Count(
        time.monotonic(),
        int(view["failures"]),
        int(cpu) / 1e9 if cpu.isdecimal() else agent_cpu_s(host),
        lines(host, *OURS),
        lines(host, product.ENGINE),
        int(files.stdout or 0),
    )


def agent_cpu_s(host: LabHost) -> float:
    """Of the agent and the children that it has waited for, where systemd does not account it."""
    pid = host.run(["systemctl", "show", "--property=MainPID", "--value", "deepseek-agent"]).stdout
    stat = host.run(["cat", f"/proc/{pid.strip()}/stat"]).stdout.rpartition(")")[2].split()
    return sum(int(ticks) for ticks in stat[11:15]) / 100


def lines(host: LabHost, *units: str) -> int:
    wanted = [f"--unit={unit}" for unit in units]
    done = host.run(["journalctl", "--quiet", "--no-pager", "--output=cat", *wanted], timeout_s=60)
    return done.stdout.count("\n")


def crash(host: LabHost, minutes: float) -> tuple[Count, Count]:
    before = count(host)
    product.set_engine(host, crash_after_s=0, crash_after_requests=-1)
    time.sleep(minutes * 60)
    return before, count(host)


def recover(host: LabHost) -> float:
    """Seconds until it serves."""
    product.set_engine(host)
    began = time.monotonic()
    return product.ask_until_answered(host, RECOVERY_LIMIT_S + START_S) or time.monotonic() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("flavour", type=Flavour, choices=list(Flavour))
    parser.add_argument("--minutes", type=float, default=9.0)
    options = parser.parse_args()
    with product.supplied_host(options.flavour, f"crash-{options.flavour}") as host:
        product.install(host)
        if product.start(host, "enable", "--now").returncode != 0:
            print("it does not serve at all", file=sys.stderr)
            return 1
        before, after = crash(host, options.minutes)
        recovery_s = recover(host)
    tries = max(after.tries, 1)
    cpu_s = (after.cpu_s - before.cpu_s) / tries
    share = cpu_s * TRIES_IN_2_H / TWO_HOURS_S
    seconds = after.at - before.at
    print(f"{options.flavour}: {after.tries} tries in {seconds:.0f} s")
    print(f"  CPU of the agent with its children: {cpu_s:.2f} s a try, {share:.2%} in two hours")
    ours = (after.journal_lines - before.journal_lines) / tries
    print(f"  journal: {ours:.1f} lines of ours a try, {after.engine_lines} of engine and Podman")
    print(f"  evidence: {after.evidence} files")
    print(f"  serves {recovery_s:.1f} s after the cause has gone away")
    return 0 if share <= CPU_LIMIT and recovery_s <= RECOVERY_LIMIT_S else 1


if __name__ == "__main__":
    sys.exit(main())
