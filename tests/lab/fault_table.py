# SPDX-License-Identifier: MulanPSL-2.0
"""`python -m tests.lab.fault_table modern|legacy`: what is around the agent breaks, one thing after
the other, on a host that serves; for each one line: what must hold, and whether it held.

After every fault the same must hold: all is well by itself, one engine runs, a stop leaves nothing.
`--only "run full,..."` runs those whose names have these words. Exit status 1 when one did not
hold.
"""

import argparse
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass

from . import product
from .fault_clock import CLOCK_FAULTS
from .fault_engine import ENGINE_FAULTS
from .fault_limits import LIMIT_FAULTS
from .fault_peers import PEER_FAULTS
from .fault_room import ROOM_FAULTS
from .fault_scene import Fault, names, one_line, wait_well
from .faults import find_payloads, start_fresh, stop_leaves_nothing
from .host import LabHost
from .kill_host import prepare, reset
from .process import LabError
from .rootfs import Flavour

FAULTS: Sequence[Fault] = (
    *ROOM_FAULTS,
    *PEER_FAULTS,
    *LIMIT_FAULTS,
    *CLOCK_FAULTS,
    *ENGINE_FAULTS,
)
STOP_S = 60.0


@dataclass(frozen=True, slots=True)
class Row:
    """`problem` is empty when it held; `seen` is what was measured."""

    fault: Fault
    seconds: float
    seen: str = ""
    problem: str = ""

    def __str__(self) -> str:
        word = f"DID NOT HOLD: {self.problem}" if self.problem else f"held: {self.seen}"
        return f"{self.fault.name} | {self.fault.holds} | {word} ({self.seconds:.0f} s)"


def run_fault(host: LabHost, fault: Fault) -> Row:
    """Never raises for what the product does; leaves the host in a clean state."""
    began = time.monotonic()
    try:
        container = start_fresh(host)
        seen = fault.run(host, container)
        back_s = wait_well(host)
        assert len(find_payloads(host)) == 1
        stop_leaves_nothing(host, STOP_S)
        return Row(fault, time.monotonic() - began, f"{seen}; well after {back_s:.1f} s")
    except (AssertionError, LabError) as error:
        traceback.print_exception(error)
        reset(host)
        return Row(fault, time.monotonic() - began, problem=one_line(error))


def pick(words: str) -> list[Fault]:
    """Those whose name has one of the words; all without words."""
    wanted = [word.strip() for word in words.split(",") if word.strip()]
    return [one for one in FAULTS if not wanted or any(word in one.name for word in wanted)]


def run(host: LabHost, faults: Sequence[Fault]) -> list[Row]:
    """Prints a line for each."""
    prepare(host)
    assert product.start(host, "enable").returncode == 0
    rows = []
    for fault in faults:
        rows.append(run_fault(host, fault))
        print(rows[-1], flush=True)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("flavour", type=Flavour, choices=list(Flavour))
    parser.add_argument("--only", default="", help="words of names of faults, with commas")
    options = parser.parse_args()
    faults = pick(options.only)
    if not faults:
        parser.error(f"no such fault; there are: {', '.join(names(FAULTS))}")
    with product.supplied_host(options.flavour, f"faults-{options.flavour}") as host:
        product.install(host)
        print(f"{options.flavour}: fault | what must hold | what was seen", flush=True)
        rows = run(host, faults)
    missed = sum(bool(row.problem) for row in rows)
    print(f"{len(rows)} faults, {missed} did not hold")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
