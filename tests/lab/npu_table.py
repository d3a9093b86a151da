# SPDX-License-Identifier: MulanPSL-2.0
"""`python -m tests.lab.npu_table modern|legacy`: what each kind of NPU fault comes to, with times.

Three instances serve; the faults are those of npu_cases.py. `--only A,B` takes the cases that have
one of these words in their names, `--faults N` measures event to decision over so many faults (100;
0: not). Exit status 1 when a case, or a goal, was missed; what the agent told of such a case goes
to standard error.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence

from tests.fakes.dcmi.control import MINOR

from . import product
from .npu_cases import CASES
from .npu_run import Run, run_case, seconds
from .npu_scene import Scene
from .process import LabError
from .rootfs import Flavour

DECISION_GOAL_S = 0.2
DECISION_LIMIT_S = 5.0
UNTOLD = ("npus", "npu-fault-over")  # what was done is to be seen
WIDTHS = (57, 8, 8, 8, 8, 12, 8)
HEAD = ("what happens", "detected", "decided", "stopping", "answers", "NPUs", "", "what was done")


def row(run: Run) -> str:
    """Seconds since the injection: noticed; the agent's event that the instance is stopped; when
    systemd began to stop it; first answer of the next engine, of which "always" is the old one."""
    name = run.case.name_of
    before, after = run.before.get(name), run.after.get(name)
    npus = [",".join(map(str, one.npus)) if one else "?" for one in (before, after)]
    moved = "" if npus[0] == npus[1] and not run.case.free else f"->{npus[1]}"
    where = f"{run.npu} (free)" if run.case.free else f"{npus[0]}{moved}"
    kinds = [(kind, count) for kind, count in run.kinds().items() if kind not in UNTOLD]
    done = ", ".join(kind if count == 1 else f"{count} x {kind}" for kind, count in kinds)
    cells = (
        run.case.name,
        seconds(run.detected_s),
        seconds(run.stop_told_s),
        seconds(run.stopped_s),
        "always" if run.stopped_s is None and run.ended_s is None else seconds(run.answered_s),
        where,
        "MISSED" if run.problems else "good",
    )
    return "".join(f"{cell:<{width}} " for cell, width in zip(cells, WIDTHS, strict=True)) + done


def head() -> str:
    return (
        "".join(f"{cell:<{width}} " for cell, width in zip(HEAD, WIDTHS, strict=False)) + HEAD[-1]
    )


def measure_decisions(scene: Scene, count: int) -> list[float]:
    """Seconds from a fault on an NPU that nobody uses to the agent's event, each of another code:
    one that comes again and again is not told every time."""
    npu, libdcmi, found = scene.free_npu(), scene.libdcmi, []
    for number in range(count):
        code = f"DEAF{number:04X}"
        at = time.time()
        libdcmi.raise_fault(npu, 0, code, MINOR, "made by the lab")
        found.append(_told_at(scene, code, "npu-fault", at) - at)
        libdcmi.clear_fault(npu, 0, code)
        _told_at(scene, code, "npu-fault-over", at)
    return found


def _told_at(scene: Scene, code: str, kind: str, since: float) -> float:
    deadline = time.monotonic() + DECISION_LIMIT_S
    while True:
        for event in scene.events(since):
            if event.kind == kind and code in event.message:
                return event.at
        if time.monotonic() > deadline:
            raise LabError(f"no {kind} of {code} within {DECISION_LIMIT_S} s\n{scene.tell()}")


def show_decisions(times: Sequence[float]) -> bool:
    """Whether the goal was met."""
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    good = cuts[98] <= DECISION_GOAL_S
    shown = f"P50 {cuts[49]:.3f} s, P99 {cuts[98]:.3f} s, slowest {max(times):.3f} s"
    print(f"event to decision over {len(times)} faults: {shown}  {'good' if good else 'MISSED'}")
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("flavour", type=Flavour, choices=list(Flavour))
    parser.add_argument("--only", default="", help="words in the names of cases, with commas")
    parser.add_argument("--faults", type=int, default=100, help="for event to decision")
    options = parser.parse_args()
    words = options.only.lower().split(",")
    chosen = [case for case in CASES if any(word in case.name.lower() for word in words)]
    missed = 0
    with product.supplied_host(options.flavour, f"npus-{options.flavour}") as host:
        product.install(host)
        scene = Scene(host)
        scene.prepare()
        print(f"{options.flavour}: seconds since it happened\n{head()}", flush=True)
        for case in chosen:
            run = run_case(scene, case)
            print(row(run), flush=True)
            for problem in run.problems:
                print(f"      {problem}", flush=True)
            if run.account:
                print(run.account, file=sys.stderr, flush=True)
            missed += bool(run.problems)
        print(f"{len(chosen)} cases, {missed} missed", flush=True)
        if options.faults:
            missed += not show_decisions(measure_decisions(scene, options.faults))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
