# SPDX-License-Identifier: MulanPSL-2.0
"""The first line of the status: whether all is well, and what is not. Pure."""

from collections.abc import Iterator

from agent.model import DriverState, Phase
from agent.status.page import Row, Tone
from agent.status.snapshot import InstanceView, Snapshot

SPARE_PROBLEMS = 3  # so many are named


def serves_well(view: InstanceView) -> bool:
    return view.phase is Phase.SERVING and view.trouble is None


def verdict(snapshot: Snapshot) -> Row:
    wished = [view for view in snapshot.instances if view.wished]
    wrong = [*_wrong(snapshot), *(_of_instance(one) for one in wished if _is_wrong(one))]
    begins = [f"{one.name} {_beginning(one)}" for one in wished if _is_beginning(one)]
    worries = [*begins, *_worries(snapshot)]
    serving = ", ".join(view.name for view in wished if serves_well(view))
    also = f"; {serving} serves" if serving and "," not in serving else ""
    also = f"; {serving} serve" if "," in serving else also
    if wrong:
        return Row("TROUBLE: ", _join([*wrong, *worries]) + also, Tone.TROUBLE)
    if begins:
        return Row("not yet: ", _join(worries) + also, Tone.WORRY)
    if worries:
        label = "serving, but: " if wished else "idle, but: "
        return Row(label, _join(worries), Tone.WORRY)
    if not wished:
        text = "no model is to serve here; start one with: systemctl enable --now deepseek@NAME"
        return Row("idle: ", text)
    return Row("all well: ", also.removeprefix("; "), Tone.WELL)


def _join(parts: list[str]) -> str:
    more = len(parts) - SPARE_PROBLEMS
    return "; ".join(parts[:SPARE_PROBLEMS]) + (f"; {more} more" if more > 0 else "")


def _wrong(snapshot: Snapshot) -> Iterator[str]:
    """What a person has to mend, of the host and its configuration."""
    if snapshot.config_problem is not None:
        yield "the configuration cannot be used"
    elif snapshot.broken:
        yield f"{_count(len(snapshot.broken), 'profile')} cannot be used"
    if snapshot.faults_problem:
        yield "files about fault codes cannot be used"
    if snapshot.systemd_problem is not None:
        yield "systemd does not answer, what follows may be old"


def _is_beginning(view: InstanceView) -> bool:
    """On its way, and nothing has failed."""
    on_its_way = (Phase.FETCHING, Phase.STARTING, Phase.LOADING, Phase.STOPPING)
    return view.phase in on_its_way and view.failure is None and view.failures == 0


def _is_wrong(view: InstanceView) -> bool:
    return not serves_well(view) and not _is_beginning(view)


def _beginning(view: InstanceView) -> str:
    match view.phase:
        case Phase.FETCHING:
            return "is being fetched"
        case Phase.STOPPING:
            return "is being stopped"
        case _:
            return "is being started"


def _of_instance(view: InstanceView) -> str:
    if view.trouble is not None:
        return f"{view.name} serves badly"
    match view.phase:
        case Phase.HELD:
            return f"{view.name} does not serve, and waits for somebody"
        case Phase.WAITING:
            return f"{view.name} waits, and does not serve"
        case Phase.IDLE:
            return f"{view.name} does not serve"
        case _:
            return f"{view.name} does not serve, and is tried anew"


def _worries(snapshot: Snapshot) -> Iterator[str]:
    """Serving goes on, and somebody should know."""
    for view in snapshot.instances:
        if view.wished and view.degraded:
            yield f"{view.name} has fewer NPUs than it should"
        if view.update is not None and view.update.trial is not None:
            yield f"an update of {view.name} is on trial"
    if snapshot.host_suspect:
        yield "the host is suspected"
    aside = [npu for npu in snapshot.npus if npu.quarantine is not None]
    gone = [npu for npu in snapshot.npus if not npu.device_present and npu.quarantine is None]
    if aside:
        yield f"{_count(len(aside), 'NPU')} set aside"
    if gone:
        yield f"{_count(len(gone), 'NPU')} gone"
    if any(disk.low for disk in snapshot.disks):
        yield "a disk is too full"
    if snapshot.inventory.driver is not DriverState.READY:
        yield f"NPU driver {snapshot.inventory.driver}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("s" if number > 1 else "")
