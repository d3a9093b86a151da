# SPDX-License-Identifier: MulanPSL-2.0
"""`make bench`: what the agent costs and how fast it is, beside what a person would do without it.

    python -m tests.lab.bench [--flavour modern] [--parts start,recovery,...] [--write]

Each pair is measured in turn on the same booted host. Numbers are shown, not judged; with `--write`
they go into docs/performance.md, each table as soon as it is there.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from . import product
from .bench_growth import measure_instances, measure_npus
from .bench_idle import measure_idle
from .bench_page import read_page
from .bench_peers import measure_peers
from .bench_recovery import measure_recovery
from .bench_start import measure_start
from .bench_table import Table, machine
from .host import LabHost
from .rootfs import Flavour

PAGE = Path(__file__).resolve().parents[2] / "docs/performance.md"
PARTS: Mapping[str, Callable[[LabHost], Table]] = {
    "start": measure_start,
    "recovery": measure_recovery,
    "idle": measure_idle,
    "instances": measure_instances,
    "npus": measure_npus,
    "peers": measure_peers,
}


def measure(flavour: Flavour, part: str) -> Table:
    """On a host of its own: nothing is left of what was measured before."""
    with product.supplied_host(flavour, f"bench-{part}") as host:
        product.install(host)
        return PARTS[part](host)


def write(flavour: Flavour, table: Table, measured: str) -> None:
    page = read_page(PAGE.read_text(encoding="utf-8") if PAGE.exists() else "")
    page.put(flavour, table, measured)
    PAGE.write_text(page.render(), encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.lab.bench", description=__doc__)
    parser.add_argument("--flavour", type=Flavour, choices=list(Flavour))
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--write", action="store_true", help="into docs/performance.md")
    wanted = parser.parse_args()
    measured = f"{datetime.now(UTC).date()}, {machine()}."
    for flavour in [wanted.flavour] if wanted.flavour else Flavour:
        for part in wanted.parts.split(","):
            table = measure(flavour, part)
            print(f"{flavour.value}\n{table.markdown}", flush=True)
            if wanted.write:
                write(flavour, table, measured)
    return 0


if __name__ == "__main__":
    sys.exit(main())
