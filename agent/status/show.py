# SPDX-License-Identifier: MulanPSL-2.0
"""A snapshot as text for a person who is worried. Pure."""

from collections.abc import Iterator

from agent.errors import Failure
from agent.model import DriverState, Inventory, Phase
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
    if snapshot.systemd_problem is not None:
        yield from _failure(snapshot.systemd_problem, "units not seen: ")
    yield ""
    for instance in snapshot.instances:
        yield from _instance(instance, now)
    yield ""
    yield from _npus(snapshot.inventory, snapshot.instances)
    if snapshot.events:
        yield ""
        yield "latest events"
        for event in snapshot.events[-EVENTS_SHOWN:]:
            who = f"{event.instance} " if event.instance else ""
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


def _npus(inventory: Inventory, instances: tuple[InstanceView, ...]) -> Iterator[str]:
    version = f" {inventory.driver_version}" if inventory.driver_version else ""
    detail = f": {inventory.detail}" if inventory.detail else ""
    yield f"NPU driver{version}: {inventory.driver}{detail}"
    if inventory.driver is DriverState.READY or inventory.npus:
        holders = {npu: one.name for one in instances for npu in one.npus}
        for npu in inventory.npus:
            there = "" if npu.device_present else "  device node missing"
            memory = f"{npu.memory_used_mib}/{npu.memory_mib} MiB"
            used = holders.get(npu.logic_id, "free")
            yield (
                f"  {npu.logic_id:>3}  {npu.product:<12} {npu.health:<8} {memory:>18}  "
                f"{used}{there}"
            )
