# SPDX-License-Identifier: MulanPSL-2.0
"""`python -m tests.lab.cycles modern|legacy`: 200 starts and stops of deepseek@8b; nothing grows.

A server runs for a year, and what is lost with each start adds up. Counted while the instance is
stopped and Podman's service has gone, so that what is left belongs to no engine. Before the first
count a few cycles warm up: caches, folders and firewall chains that come once and stay.

A count may not be higher at the end than before. Memory moves by pages, so it has some slack; and
it is compared with what it was after 100 cycles: the agent keeps its latest 200 events, which the
first 40 fill, and after 80 its heap has the size it keeps.
"""

import argparse
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from . import product
from .host import LabHost
from .process import LabError
from .rootfs import Flavour

WARM_UP = 3
SAMPLE_EVERY = 20
SETTLED_AFTER = 100
SETTLE_LIMIT_S = 30
SETTLE_EVERY_S = 0.5
LOAD_S = 0.1
MEMORY = "KiB"
SLACK_KIB = 256
# Of few cycles: two arenas of pymalloc, 1 MiB each since Python 3.10. The agent takes one more
# within its first eight cycles, and 100 KiB in the next 30 (measured).
FIRST_SLACK_KIB = 2048
# One line for each thing that is counted: its name, a colon, the number.
COUNT = r"""
say() { echo "$1: $2"; }
lines() { wc -l; }
memory_of() { awk -v field="$2:" '$1 == field { print $2 }' "/proc/$1/smaps_rollup"; }
below() { find "$1" 2> /dev/null | lines; }
for name in agent npud; do
    pid=$(systemctl show --property=MainPID --value "deepseek-$name")
    say "$name descriptors" "$(ls "/proc/$pid/fd" | lines)"
    say "$name threads" "$(ls "/proc/$pid/task" | lines)"
    say "$name PSS, KiB" "$(memory_of "$pid" Pss)"
    say "$name anonymous, KiB" "$(memory_of "$pid" Pss_Anon)"
done
say "systemd PSS, KiB" "$(memory_of 1 Pss)"
stats="org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus.Debug.Stats GetStats"
say "bus match rules" "$(busctl call $stats | sed -n 's/.*"MatchRules" u \([0-9]*\).*/\1/p')"
say "timers" "$(systemctl list-timers --all --no-legend | lines)"
say "units" "$(systemctl list-units --all --plain --no-legend | lines)"
for folder in /run/deepseek-agent /run/containers /run/systemd/system /run/systemd/transient \
    /run/systemd/generator /var/lib/deepseek-agent /var/lib/containers; do
    say "files in $folder" "$(below $folder)"
done
say "control groups" "$(find /sys/fs/cgroup -type d | lines)"
say "mounts" "$(lines < /proc/1/mountinfo)"
say "network links" "$(ip -o link | lines)"
say "network namespaces" "$(below /run/netns)"
say "nft lines" "$(nft list ruleset | lines)"
say "iptables rules" "$(iptables-save 2> /dev/null | grep -c '^-A')"
say "containers" "$(podman ps --all --quiet | lines)"
say "processes" "$(ps -e -o pid= | lines)"
say "zombies" "$(ps -e -o stat= | grep -c '^Z')"
"""

Counts = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Sample:
    after: int  # cycles
    counts: Counts


def count(host: LabHost) -> Counts:
    """Of a host at rest: two counts in a row that differ in memory alone."""
    host.run(["systemctl", "stop", "podman.service"])  # it would end by itself after 5 s
    deadline = time.monotonic() + SETTLE_LIMIT_S
    before: Counts = {}
    now = _count_once(host)
    while _without_memory(before) != _without_memory(now):
        if time.monotonic() > deadline:
            raise LabError(f"never at rest: {before}, then {now}")
        time.sleep(SETTLE_EVERY_S)
        before, now = now, _count_once(host)
    return now


def _count_once(host: LabHost) -> dict[str, int]:
    pairs = (line.rsplit(": ", 1) for line in host.run(["sh", "-c", COUNT]).stdout.splitlines())
    return {name: int(number) for name, number in pairs}


def _without_memory(counts: Counts) -> Counts:
    return {name: number for name, number in counts.items() if MEMORY not in name}


def run_cycles(host: LabHost, cycles: int) -> list[Sample]:
    """Starts and stops so often. LabError when one of them fails."""
    product.set_engine(host, load_s=LOAD_S)
    for _ in range(WARM_UP):
        run_cycle(host)
    samples = [Sample(0, count(host))]
    for number in range(1, cycles + 1):
        run_cycle(host)
        if number % SAMPLE_EVERY == 0 or number == cycles:
            samples.append(Sample(number, count(host)))
    return samples


def run_cycle(host: LabHost) -> None:
    for verb in ("start", "stop"):
        done = product.start(host, verb)
        if done.returncode != 0:
            raise LabError(f"cannot {verb}: {done.stderr}\n{product.describe(host)}")


def list_growth(samples: Sequence[Sample]) -> list[str]:
    """What is more than before, in words."""
    first, last = samples[0], samples[-1]
    settled = next((one for one in samples if one.after >= SETTLED_AFTER), None)
    in_memory = (settled, SLACK_KIB) if settled else (first, FIRST_SLACK_KIB)
    grown = []
    for name, now in last.counts.items():
        sample, slack = in_memory if MEMORY in name else (first, 0)
        before = sample.counts[name]
        if now > before + slack:
            grown.append(f"{name}: {before} before, {now} after")
    return grown


def trend(samples: Sequence[Sample], name: str) -> float | None:
    """Growth for each cycle, by least squares over the samples since it has settled; None
    when there are too few."""
    points = [(one.after, one.counts[name]) for one in samples if one.after >= SETTLED_AFTER]
    if len(points) < 3:
        return None
    middle_x = sum(x for x, _ in points) / len(points)
    middle_y = sum(y for _, y in points) / len(points)
    spread = sum((x - middle_x) ** 2 for x, _ in points)
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / spread


def show(samples: Sequence[Sample]) -> str:
    """A table: before, after, trend, and every sample."""
    lines = [
        f"{'':<34}{'before':>8}{'after':>8}{'trend':>8}   " + _row(one.after for one in samples)
    ]
    for name in samples[0].counts:
        values = [one.counts[name] for one in samples]
        slope = trend(samples, name)
        shown = "" if slope is None else f"{slope:+.2f}"
        lines.append(f"{name:<34}{values[0]:>8}{values[-1]:>8}{shown:>8}   {_row(values)}")
    return "\n".join(lines)


def _row(values: Iterable[int]) -> str:
    return "".join(f"{value:>7}" for value in values)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("flavour", type=Flavour, choices=list(Flavour))
    parser.add_argument("--cycles", type=int, default=200)
    options = parser.parse_args()
    with product.supplied_host(options.flavour, f"cycles-{options.flavour}") as host:
        product.install(host)
        began = time.monotonic()
        samples = run_cycles(host, options.cycles)
        print(f"{options.flavour}: {options.cycles} cycles in {time.monotonic() - began:.0f} s")
    print(show(samples))
    grown = list_growth(samples)
    for one in grown:
        print(f"GROWN  {one}")
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
