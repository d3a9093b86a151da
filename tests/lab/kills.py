# SPDX-License-Identifier: MulanPSL-2.0
"""The kill matrix: each process that takes part in serving dies by SIGKILL, alone and in pairs, at
moments of a start, of serving and of a stop; what was wished then has to hold by itself.

`python3 -m tests.lab.kills modern|legacy` runs all of it; with `--moments N` at so many moments,
with `--victims a,b` only the sets of those, with `--part 2/4` the second quarter of what remains.
Exit status 1 when a case failed.
"""

import argparse
import contextlib
import itertools
import sys
from collections.abc import Iterator, Sequence

from . import product
from .host import LabHost
from .kill_case import Case, Result, run_case
from .kill_host import Phase, prepare
from .rootfs import Flavour

VICTIMS = ("agentd", "attach", "npud", "conmon", "engine")
JOURNAL_LINES = 70
# Milliseconds after READY, `systemctl stop`, `systemctl start`; -300: the stop comes 300 ms after
# the kill, when what died is not back yet. On an idle machine attach is gone 10 ms after a stop,
# the engine after 100, its container after 250; in a start the container is made between 300 and
# 500, and the engine answers at 1800.
MOMENTS = {
    Phase.STEADY: (0, 100, 500, 1200, 2500),
    Phase.STOP: (-300, 0, 4, 40, 100, 250),
    Phase.START: (20, 150, 300, 420, 500, 580, 700, 1000, 1500, 2200),
}
IDLE_START_S = 1.8


def cases(victims: Sequence[str] = VICTIMS, moments: int | None = None) -> Iterator[Case]:
    """Each victim and each pair, at all moments or at so many of them, evenly spread."""
    every = [(phase, at) for phase, list_of in MOMENTS.items() for at in list_of]
    number = min(moments or len(every), len(every))
    last = max(number - 1, 1)
    chosen = [every[round(index * (len(every) - 1) / last)] for index in range(number)]
    sets = itertools.chain(itertools.combinations(victims, 1), itertools.combinations(victims, 2))
    for together, (phase, at) in itertools.product(sets, chosen):
        yield Case(together, phase, at)


def cut_part(chosen: Sequence[Case], part: str) -> Sequence[Case]:
    """The second quarter for "2/4"."""
    which, of = (int(number) for number in part.split("/"))
    return chosen[len(chosen) * (which - 1) // of : len(chosen) * which // of]


def run_matrix(host: LabHost, chosen: Sequence[Case]) -> Iterator[Result]:
    """Prints a line for each case as it ends. An interrupt ends it early."""
    prepare(host)
    pace = 1.0
    with contextlib.suppress(KeyboardInterrupt):
        for number, case in enumerate(chosen, 1):
            result = run_case(host, case, pace)
            if result.strike and case.phase is not Phase.START:
                pace = max(1.0, result.strike.start_s / IDLE_START_S)
            print(f"{number:>4}  {result}", flush=True)
            for problem in result.problems:
                print(f"      {problem}", flush=True)
            yield result


def summarize(results: Sequence[Result]) -> Iterator[str]:
    """A line for each set of victims: good of all, and the slowest, of each phase."""
    yield f"{'':<16}" + "".join(f"{phase:<24}" for phase in Phase)
    for victims in dict.fromkeys(result.case.victims for result in results):
        cells = (
            cell(
                [one for one in results if one.case.victims == victims and one.case.phase is phase]
            )
            for phase in Phase
        )
        yield f"{'+'.join(victims):<16}" + "".join(f"{text:<24}" for text in cells)


def cell(results: Sequence[Result]) -> str:
    if not results:
        return "-"
    good = [result.seconds for result in results if not result.problems]
    slowest = f", slowest {max(good):.1f} s" if good else ""
    return f"{len(good)}/{len(results)}{slowest}"


def explain(result: Result) -> Iterator[str]:
    yield f"--- {result.case.name}: {'; '.join(result.problems)}"
    yield from result.journal.splitlines()[-JOURNAL_LINES:]


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.lab.kills", description=__doc__)
    parser.add_argument("flavour", type=Flavour, choices=list(Flavour))
    parser.add_argument("--moments", type=int, help="of each set of victims; default: all 21")
    parser.add_argument("--victims", default=",".join(VICTIMS), help="alone and in pairs")
    parser.add_argument("--part", default="1/1", help="all takes an hour on a busy machine")
    wanted = parser.parse_args(arguments)
    chosen = cut_part(list(cases(wanted.victims.split(","), wanted.moments)), wanted.part)
    with product.supplied_host(wanted.flavour, f"kills-{wanted.flavour}") as host:
        product.install(host)
        results = list(run_matrix(host, chosen))
    failures = [result for result in results if result.problems]
    lines = [*summarize(results), f"{len(results)} cases, {len(failures)} failed"]
    print("\n".join([*lines, *(line for one in failures for line in explain(one))]))
    return 1 if failures or len(results) < len(chosen) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
