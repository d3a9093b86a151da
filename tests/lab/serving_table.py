# SPDX-License-Identifier: MulanPSL-2.0
"""`python -m tests.lab.serving_table modern|legacy`: what comes of an engine that dies or hangs.

A real vLLM serves (`--engine double`: the double), a double beside it must not notice anything; the
faults are those of serving_cases.py. `--only A,B` takes the cases that have one of these words in
their names, `--times N` does each N times. Exit status 1 when a case missed what has to hold, 3
when the wheels of vLLM cannot be had; what the agent told of a case goes to standard error.
"""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from . import product, vllm_host
from .npu_run import seconds
from .rootfs import Flavour
from .serving_cases import CASES
from .serving_run import UNTOLD, Run, run_case
from .serving_scene import EngineKind, ServingScene
from .vllm_env import NOT_HAD, VllmNotHad

WIDTHS = (43, 8, 8, 8, 8, 9, 8)
HEAD = ("what happens", "detected", "stopping", "all gone", "answers", "evidence", "", "events")


@contextmanager
def serving_scene(flavour: Flavour, kind: EngineKind) -> Iterator[ServingScene]:
    """Raises VllmNotHad."""
    name = f"serving-{kind}-{flavour}"
    is_real = kind is EngineKind.VLLM
    make = vllm_host.vllm_host if is_real else product.supplied_host
    with make(flavour, name) as host:
        if not is_real:
            product.install(host)
        scene = ServingScene(host, kind)
        scene.prepare()
        yield scene


def row(run: Run) -> str:
    kinds: dict[str, int] = {}
    for event in run.events:
        if event.kind not in UNTOLD:
            kinds[event.kind] = kinds.get(event.kind, 0) + 1
    size = run.evidence_bytes
    cells = (
        run.case.name,
        seconds(run.detected_s),
        seconds(run.stopping_s),
        seconds(run.gone_s),
        seconds(run.answered_s),
        "-" if size is None else f"{size / 1024:.0f} KiB",
        "MISSED" if run.problems else "good",
    )
    if run.not_run:
        return f"{run.case.name:<{WIDTHS[0]}} NOT RUN: {run.not_run}"
    told = ", ".join(kind if count == 1 else f"{count} x {kind}" for kind, count in kinds.items())
    return "".join(f"{cell:<{width}} " for cell, width in zip(cells, WIDTHS, strict=True)) + told


def head() -> str:
    cells = zip(HEAD, WIDTHS, strict=False)
    return "".join(f"{cell:<{width}} " for cell, width in cells) + HEAD[-1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("flavour", type=Flavour, choices=list(Flavour))
    parser.add_argument("--engine", type=EngineKind, choices=list(EngineKind), default="vllm")
    parser.add_argument("--only", default="", help="words in the names of cases, with commas")
    parser.add_argument("--times", type=int, default=1, help="each case so often")
    options = parser.parse_args()
    words = options.only.lower().split(",")
    chosen = [case for case in CASES if any(word in case.name.lower() for word in words)]
    missed = not_run = 0
    try:
        with serving_scene(options.flavour, options.engine) as scene:
            print(
                f"{options.flavour}, {options.engine}: seconds since it happened\n{head()}",
                flush=True,
            )
            for case in chosen * options.times:
                run = run_case(scene, case)
                print(row(run), flush=True)
                for problem in run.problems:
                    print(f"      {problem}", flush=True)
                if run.account:
                    print(run.account, file=sys.stderr, flush=True)
                missed += bool(run.problems)
                not_run += bool(run.not_run)
    except VllmNotHad as error:
        print(f"vLLM: NOT RUN: {error}", file=sys.stderr)
        return NOT_HAD
    print(f"{len(chosen) * options.times} cases, {missed} missed, {not_run} not run", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
