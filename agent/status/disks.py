# SPDX-License-Identifier: MulanPSL-2.0
"""Disks that are too full, and what was pruned, as text. Pure."""

from collections.abc import Iterator

from agent.cells import fill
from agent.disks import PruneReport
from agent.language import tr, translate, word
from agent.status.snapshot import Snapshot
from agent.wording import gib, size

PRUNE = "deepseekctl prune"


def say_disks(snapshot: Snapshot) -> Iterator[str]:
    """Those that are too full, and what can be done about it."""
    low = [disk for disk in snapshot.disks if disk.low]
    for disk in low:
        yield tr(
            "disk {path}: {free} GiB free of {size}, below {mark}",
            path=disk.path,
            free=gib(disk.free_bytes),
            size=gib(disk.size_bytes),
            mark=gib(disk.low_below_bytes),
        )
    if low and snapshot.prunable_bytes:
        unused = size(snapshot.prunable_bytes)
        yield tr("  {unused} that nobody uses go with: {command}", unused=unused, command=PRUNE)
    elif low:
        yield tr("  nothing of the agent's can go; see: df -h, podman system df")


def show_pruned(report: PruneReport) -> str:
    return "\n".join(_pruned(report))


def _pruned(report: PruneReport) -> Iterator[str]:
    for one in report.removed:
        kind = fill(word(one.kind), 9)
        yield f"{kind} {size(one.size_bytes):>9}  {one.name}: {translate(one.why)}"
    for failure in report.failures:
        yield f"{fill(tr('left'), 9)} {'':>9}  {translate(failure.message)} [{failure.code}]"
    total = size(sum(one.size_bytes for one in report.removed))
    if not report.removed:
        yield tr("nothing to prune: all that is there is used, or not the agent's")
    elif report.dry_run:
        yield tr("{total} would be free; to remove it: {command}", total=total, command=PRUNE)
    else:
        yield tr("{total} are free now", total=total)
