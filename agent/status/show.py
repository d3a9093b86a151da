# SPDX-License-Identifier: MulanPSL-2.0
"""A snapshot as text for a person who is worried. Pure."""

from collections.abc import Iterator

from agent.errors import Failure
from agent.model import Phase
from agent.status.npus import table
from agent.status.snapshot import InstanceView, Snapshot
from agent.status.text import duration

EVENTS_SHOWN = 8


def show(snapshot: Snapshot, now: float) -> str:
    """`now`: seconds since the epoch."""
    return "\n".join(_lines(snapshot, now))


def _lines(snapshot: Snapshot, now: float) -> Iterator[str]:
    since = duration(now - snapshot.started_at)
    yield f"deepseek-agent {snapshot.version}, mode {snapshot.mode}, running for {since}"
    if snapshot.config_problem is not None:
        yield from _failure(snapshot.config_problem, "configuration not in force: ")
    yield from (f"profile not usable: {line}" for line in snapshot.broken)
    yield from (f"fault codes not in force: {line}" for line in snapshot.faults_problem)
    if snapshot.systemd_problem is not None:
        yield from _failure(snapshot.systemd_problem, "units not seen: ")
    yield ""
    for instance in snapshot.instances:
        yield from _instance(instance, now)
    yield ""
    yield from _npus(snapshot, now)
    if snapshot.events:
        yield ""
        yield "latest events"
        for event in snapshot.events[-EVENTS_SHOWN:]:
            who = f"{event.instance} " if event.instance else ""
            who += f"NPU {event.npu} " if event.npu is not None else ""
            text = f": {event.message}" if event.message else ""
            yield f"  {duration(now - event.at):>12} ago  {who}{event.kind}{text}"


def _instance(view: InstanceView, now: float) -> Iterator[str]:
    mark = {True: "●", False: "○"}[view.phase is Phase.SERVING]
    if not view.wished and view.phase is Phase.IDLE:
        yield f"{mark} {view.name:<8} not started (systemctl enable --now deepseek@{view.name})"
        if view.failure is not None:
            yield from (f"    {line}" for line in _failure(view.failure, "last      "))
        return
    age = f" for {duration(now - view.since)}" if view.phase is Phase.SERVING else ""
    yield f"{mark} {view.name:<8} {view.status}{age}"
    npus = ", ".join(str(npu) for npu in view.npus) or "none"
    yield f"    model     {view.served_name} at {view.endpoint}/v1"
    yield f"    NPUs      {npus}"
    if view.degraded:
        yield f"    degraded  {view.degraded}"
        yield f"              back on all that are well: deepseekctl replan {view.name}"
    place = f", from {view.unit_file}" if view.unit_file else ""
    yield f"    unit      {view.unit}{place}"
    if view.failure is not None:
        yield from (f"    {line}" for line in _failure(view.failure, "reason    "))
    if view.failures:
        yield f"    failures  {view.failures} in a row"
    if view.restarts:
        yield f"    restarts  {view.restarts} after a failure"
    if view.restart_pending:
        yield "    note      its configuration has changed since it was started"
        yield f"              in force with: deepseekctl restart {view.name}"


def _failure(failure: Failure, title: str) -> Iterator[str]:
    yield f"{title}{failure.message} [{failure.code}]"
    if failure.hint:
        yield f"{'hint':<{len(title)}}{failure.hint}"


def _npus(snapshot: Snapshot, now: float) -> Iterator[str]:
    inventory = snapshot.inventory
    version = f" {inventory.driver_version}" if inventory.driver_version else ""
    detail = f": {inventory.detail}" if inventory.detail else ""
    yield f"NPU driver{version}: {inventory.driver}{detail}"
    if snapshot.host_suspect:
        yield f"  the host is suspected: {snapshot.host_suspect}; nothing is done about NPUs"
    yield from (f"  {line}" for line in table(snapshot.npus, now) if snapshot.npus)
