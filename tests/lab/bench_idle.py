# SPDX-License-Identifier: MulanPSL-2.0
"""What our processes use while a model serves and nobody asks."""

import time

from . import product
from .bench_scene import OURS, Cost, pids_of, watch_idle
from .bench_table import Table
from .host import LabHost

IDLE_S = 600
SETTLE_S = 30
NOTE = (
    f"One model serves, 8 NPUs, {IDLE_S // 60} minutes. PSS at their end; processor time of all "
    "of a unit's processes, in percent of one core. New processes and threads: those that they "
    "began, as the kernel tells. (The double of the engine begins a thread for each request: that "
    "one is not ours.)"
)


def measure_idle(host: LabHost) -> Table:
    product.start(host)
    time.sleep(SETTLE_S)
    idle = watch_idle(host, {unit: pids_of(host, unit) for unit in OURS}, IDLE_S)
    costs = idle.costs.values()
    together = Cost(sum(one.pss_mib for one in costs), sum(one.cpu_percent for one in costs))
    rows = [
        (name, f"{cost.pss_mib:.1f}", f"{cost.cpu_percent:.3f}")
        for name, cost in (*idle.costs.items(), ("all three", together))
    ]
    rows.append(("new processes a minute", "", f"{idle.forks_a_minute:.1f}"))
    rows.append(("new threads a minute", "", f"{idle.threads_a_minute:.1f}"))
    return Table("Idle", NOTE, ("", "PSS, MiB", "CPU, %"), tuple(rows))
