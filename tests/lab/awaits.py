# SPDX-License-Identifier: MulanPSL-2.0
"""`python -m tests.lab.awaits modern|legacy`: agentd dies by SIGKILL at every await of a start.

The awaits are not listed by hand: a start is watched (awaits_inside.py), and each point at which a
task of the agent waited, as the stack of its lines, is one case. After each the next agent serves,
with one container, one front unit, at most two starts of the engine, and a stop leaves nothing.
Exit status 1 when that did not hold.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import product
from .faults import find_payloads
from .host import LabHost
from .kill_case import not_serving
from .kill_host import CLEAN_LIMIT_S, Strike, not_clean, prepare, reset, wait_until_none
from .process import LabError
from .product import FRONT
from .rootfs import Flavour

INSIDE = Path(__file__).with_name("awaits_inside.py")
PROGRAM = "/usr/local/lib/deepseek-lab/agentd"
DROP_IN = "/etc/systemd/system/deepseek-agent.service.d/lab-awaits.conf"
FOLDER = "/run/deepseek-agent/lab-awaits"
RECORD, KILL = f"{FOLDER}/record", f"{FOLDER}/kill"
# What a task does first may be another one from start to start.
RECORDED_STARTS = 3
REACHED_LIMIT_S = 20.0
SERVING_LIMIT_S = 60.0
# Not sooner, as another one may still come: a start that is over when the new agent comes is one.
STARTS_ALLOWED = 2


@dataclass(frozen=True, slots=True)
class Result:
    """`seconds`: from the kill to serving; None when the point was not reached."""

    point: str
    seconds: float | None
    starts: int
    problems: Sequence[str]

    def __str__(self) -> str:
        took = (
            "not reached"
            if self.seconds is None
            else f"{self.seconds:4.1f} s, {self.starts} starts"
        )
        return f"{'FAILED' if self.problems else 'good':<6} {took:<18} {self.point}"


def install(host: LabHost) -> None:
    """agentd is watched from now on."""
    host.write(PROGRAM, INSIDE.read_text())
    start = f"[Service]\nExecStart=\nExecStart=/usr/bin/python3 -ISB {PROGRAM}\n"
    host.write(DROP_IN, start)
    host.run(["mkdir", "-p", FOLDER])
    host.run(["systemctl", "daemon-reload"])
    prepare(host)


def record(host: LabHost) -> list[str]:
    """The points of a start, in the order in which they were first seen."""
    points: dict[str, None] = {}
    for _ in range(RECORDED_STARTS):
        reset(host)  # what has been recorded is known by the process
        host.run(["sh", "-c", f": > {RECORD}"])
        product.start(host)
        product.wait_serving(host)
        points |= dict.fromkeys(host.read(RECORD).splitlines())
        host.run(["rm", RECORD])
        product.start(host, "stop")
    return list(points)


def run_case(host: LabHost, point: str) -> Result:
    """Leaves the host clean, whatever came of it."""
    cursor = read_cursor(host)
    host.run(["sh", "-c", f'printf %s "$1" > {KILL}.new && mv {KILL}.new {KILL}', "sh", point])
    product.start(host, "start", "--no-block")
    killed_at = wait_killed(host)
    if killed_at is None:
        host.run(["rm", "-f", KILL])
    result = check(host, point, killed_at, cursor)
    if result.problems:
        print(product.describe(host))
        reset(host)
    return result


def check(host: LabHost, point: str, killed_at: float | None, cursor: str) -> Result:
    strike = Strike(cursor, 0, "", {"agentd": "agentd"}, killed_at or 0, 0)
    seen, problems = wait_until_none(
        host, cursor, lambda seen: not_serving(host, seen, strike), SERVING_LIMIT_S
    )
    took = None if killed_at is None else time.monotonic() - killed_at
    if len(living := find_payloads(host)) != 1:
        problems.append(f"{len(living)} containers live")
    if product.start(host, "stop").returncode != 0:
        problems.append("it cannot be stopped")
    seen, left = wait_until_none(host, cursor, not_clean, CLEAN_LIMIT_S)
    problems += [f"left behind: {one}" for one in left]
    if seen.engine_starts > STARTS_ALLOWED:
        problems.append(f"{seen.engine_starts} starts of the engine")
    if seen.front_starts != 1:
        problems.append(f"{seen.front_starts} starts of {FRONT}")
    return Result(point, took, seen.engine_starts, problems)


def wait_killed(host: LabHost) -> float | None:
    """When the point was reached; None when it was not and never will be."""
    deadline = time.monotonic() + REACHED_LIMIT_S
    script = f"while test -e {KILL}; do sleep 0.02; done"
    try:
        host.run(["sh", "-c", script], timeout_s=deadline - time.monotonic())
    except LabError:
        return None
    return time.monotonic()


def read_cursor(host: LabHost) -> str:
    host.run(["journalctl", "--sync"])
    shown = host.run(["journalctl", "--lines=1", "--output=json"]).stdout
    return str(json.loads(shown)["__CURSOR"])


def run(host: LabHost, points: Sequence[str]) -> Iterator[Result]:
    """Prints a line for each."""
    for number, point in enumerate(points, 1):
        result = run_case(host, point)
        print(f"{number:>3}/{len(points)} {result}", flush=True)
        for problem in result.problems:
            print(f"        {problem}", flush=True)
        yield result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("flavour", type=Flavour, choices=list(Flavour))
    parser.add_argument("--every", type=int, default=1, help="only each so-manyth point")
    options = parser.parse_args()
    with product.supplied_host(options.flavour, f"awaits-{options.flavour}") as host:
        product.install(host)
        install(host)
        points = record(host)
        print(f"{options.flavour}: {len(points)} points at which a start waits", flush=True)
        results = list(run(host, points[:: options.every]))
    reached = [one.seconds for one in results if one.seconds is not None]
    failed = sum(bool(one.problems) for one in results)
    slowest = f", slowest {max(reached):.1f} s" if reached else ""
    print(f"{len(results)} points, {len(reached)} reached, {failed} failed{slowest}")
    return 1 if failed or not reached else 0


if __name__ == "__main__":
    sys.exit(main())
