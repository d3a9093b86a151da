# SPDX-License-Identifier: MulanPSL-2.0
"""From the death of an engine to the next answer, beside systemd's own restart."""

import statistics
import time

from . import product
from .bench_scene import (
    BY_HAND,
    HAND_CONTAINER,
    HEALTHY_RESET_S,
    first_answer,
    kill_to_answer,
    take_each_death_as_the_first,
    write_by_hand,
)
from .bench_table import Table, runs
from .host import LabHost
from .product import CONTAINER, FRONT

RUNS = 7
NOTE = (
    "Seconds from SIGKILL of all that is in the container to the next answer. By hand: "
    "`Restart=always`, `RestartSec=0`. Ours looks, before it starts again, whether anything of the "
    "old engine is left, and keeps evidence of why it died."
)


def measure_recovery(host: LabHost) -> Table:
    write_by_hand(host)
    take_each_death_as_the_first(host)
    first_answer(host, BY_HAND)
    by_hand = [_once(host, HAND_CONTAINER) for _ in range(RUNS)]
    host.run(["systemctl", "stop", BY_HAND], timeout_s=120)
    first_answer(host, FRONT)
    ours = [_once(host, CONTAINER) for _ in range(RUNS)]
    ratio = statistics.median(ours) / statistics.median(by_hand)
    return Table(
        "Recovery",
        NOTE,
        ("", "median", "all runs"),
        (
            ("systemd, by hand", *runs(by_hand)),
            ("deepseek-agent", *runs(ours)),
            ("ratio", f"{ratio:.2f}", ""),
        ),
    )


def _once(host: LabHost, container: str) -> float:
    time.sleep(HEALTHY_RESET_S + 5)
    took = kill_to_answer(host, container)
    assert product.ask(host) is not None
    return took
