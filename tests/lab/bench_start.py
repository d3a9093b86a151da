# SPDX-License-Identifier: MulanPSL-2.0
"""From `systemctl start` to the first answer, beside a unit written by hand."""

import statistics

from . import product
from .bench_scene import BY_HAND, first_answer, write_by_hand
from .bench_table import Table, runs
from .host import LabHost
from .product import FRONT

RUNS = 7
NOTE = (
    "Seconds from `systemctl start` to the first answer of a chat. By hand: the same container, in "
    "a quadlet, or as `podman generate systemd` wrote it where there is none; it is loaded before "
    "the clock starts. Ours plans, looks at NPUs, Podman and the model, and renders meanwhile."
)


def measure_start(host: LabHost) -> Table:
    write_by_hand(host)
    product.start(host)  # the agent itself is up, as on a host that runs for a year
    product.start(host, "stop")
    times: dict[str, list[float]] = {BY_HAND: [], FRONT: []}
    for _ in range(RUNS):
        for unit, took in times.items():
            took.append(first_answer(host, unit))
            host.run(["systemctl", "stop", unit], timeout_s=120)
    difference = statistics.median(times[FRONT]) - statistics.median(times[BY_HAND])
    return Table(
        "Start",
        NOTE,
        ("", "median", "all runs"),
        (
            ("by hand", *runs(times[BY_HAND])),
            ("deepseek-agent", *runs(times[FRONT])),
            ("difference", f"{difference:+.2f}", ""),
        ),
    )
