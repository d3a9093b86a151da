# SPDX-License-Identifier: MulanPSL-2.0
"""From the death of an engine to the next answer, beside systemd's own restart."""

import statistics
import time

from . import product
from .bench_scene import BY_HAND, HAND_CONTAINER, first_answer, kill_to_answer, write_by_hand
from .bench_table import Table, runs
from .host import LabHost
from .product import CONTAINER, FRONT

RUNS = 7
# The least that is allowed: each death is the first one, without a wait before the next start.
SETTINGS = "/etc/deepseek-agent/agent.toml.d/bench.toml"
HEALTHY_RESET_S = 10
NOTE = (
    "Seconds from SIGKILL of all that is in the container to the next answer. By hand: "
    "`Restart=always`, `RestartSec=0`. Ours looks, before it starts again, whether anything of the "
    "old engine is left, and keeps evidence of why it died."
)


def measure_recovery(host: LabHost) -> Table:
    write_by_hand(host)
    host.write(SETTINGS, f"[limits]\nhealthy_reset_s = {HEALTHY_RESET_S}\n")
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
