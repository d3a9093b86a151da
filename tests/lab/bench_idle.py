# SPDX-License-Identifier: MulanPSL-2.0
"""What our processes use while a model serves and nobody asks."""

import time
from collections.abc import Iterable

from . import product
from .bench_scene import OURS, Usage, newest_pid, pids_of, use_of
from .bench_table import Table
from .host import LabHost

IDLE_S = 600
SETTLE_S = 30
NOTE = (
    f"One model serves, 8 NPUs, {IDLE_S // 60} minutes. PSS at their end; processor time of all "
    "of a unit's processes, in percent of one core. New processes: all of the host, threads too, "
    "whoever has started them, without those that looked."
)


def measure_idle(host: LabHost) -> Table:
    product.start(host)
    time.sleep(SETTLE_S)
    pids = {unit: pids_of(host, unit) for unit in OURS}
    looks = _cost_of_a_look(host)
    before = {unit: use_of(host, pids[unit]) for unit in OURS}
    newest = newest_pid(host)
    began = time.monotonic()
    time.sleep(IDLE_S)
    came = newest_pid(host) - newest - looks
    after = {unit: use_of(host, pids[unit]) for unit in OURS}
    seconds = time.monotonic() - began
    rows = [_row(unit, before[unit], after[unit], seconds) for unit in OURS]
    before_all, after_all = (_together(uses.values()) for uses in (before, after))
    rows.append(_row("all three", before_all, after_all, seconds))
    rows.append(("new processes a minute", "", f"{max(0, came) / seconds * 60:.1f}"))
    return Table("Idle", NOTE, ("", "PSS, MiB", "CPU, %"), tuple(rows))


def _cost_of_a_look(host: LabHost) -> int:
    """How many processes it takes to ask for the newest one."""
    return -newest_pid(host) + newest_pid(host)


def _together(uses: Iterable[Usage]) -> Usage:
    listed = list(uses)
    return Usage(sum(one.pss_mib for one in listed), sum(one.cpu_s for one in listed))


def _row(name: str, before: Usage, after: Usage, seconds: float) -> tuple[str, str, str]:
    cpu = (after.cpu_s - before.cpu_s) / seconds * 100
    return (name, f"{after.pss_mib:.1f}", f"{cpu:.3f}")
