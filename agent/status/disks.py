# SPDX-License-Identifier: MulanPSL-2.0
"""Disks that are too full, and what was pruned, as text. Pure."""

from collections.abc import Iterator

from agent.disks import PruneReport
from agent.status.snapshot import Snapshot
from agent.wording import gib, size


def say_disks(snapshot: Snapshot) -> Iterator[str]:
    """Those that are too full, and what can be done about it."""
    low = [disk for disk in snapshot.disks if disk.low]
    for disk in low:
        room = f"{gib(disk.free_bytes)} GiB free of {gib(disk.size_bytes)}"
        yield f"disk {disk.path}: {room}, below {gib(disk.low_below_bytes)}"
    if low and snapshot.prunable_bytes:
        yield f"  {size(snapshot.prunable_bytes)} that nobody uses go with: deepseekctl prune"
    elif low:
        yield "  nothing of the agent's can go; see: df -h, podman system df"


def show_pruned(report: PruneReport) -> str:
    return "\n".join(_pruned(report))


def _pruned(report: PruneReport) -> Iterator[str]:
    for one in report.removed:
        yield f"{one.kind:<9} {size(one.size_bytes):>9}  {one.name}: {one.why}"
    for failure in report.failures:
        yield f"{'left':<9} {'':>9}  {failure.message} [{failure.code}]"
    total = size(sum(one.size_bytes for one in report.removed))
    if not report.removed:
        yield "nothing to prune: all that is there is used, or not the agent's"
    elif report.dry_run:
        yield f"{total} would be free; to remove it: deepseekctl prune"
    else:
        yield f"{total} are free now"
