# SPDX-License-Identifier: MulanPSL-2.0
"""The first line of the status: whether all is well, and what is not. Pure."""

from collections.abc import Iterator

from agent.language import tr, word
from agent.model import DriverState, Phase
from agent.status.page import Row, Tone
from agent.status.snapshot import InstanceView, Snapshot

SPARE_PROBLEMS = 3  # so many are named
START = "systemctl enable --now deepseek@NAME"


def serves_well(view: InstanceView) -> bool:
    return view.phase is Phase.SERVING and view.trouble is None


def is_well(snapshot: Snapshot) -> bool:
    """What the exit status of `deepseekctl status` says."""
    serving = all(serves_well(view) for view in snapshot.instances if view.wished)
    refused = any(view.refused for view in snapshot.instances)
    return serving and not refused and not any(_wrong(snapshot))


def verdict(snapshot: Snapshot) -> Row:
    wished = [view for view in snapshot.instances if view.wished]
    refused = [_refused(view) for view in snapshot.instances if view.refused]
    failed = [_of_instance(one) for one in wished if _is_wrong(one)]
    wrong = [*_wrong(snapshot), *refused, *failed]
    begins = [_beginning(one) for one in wished if _is_beginning(one)]
    worries = [*begins, *_worries(snapshot)]
    serving = _serving([view.name for view in wished if serves_well(view)])
    if wrong:
        return Row(tr("TROUBLE: "), _join([*wrong, *worries], serving), Tone.TROUBLE)
    if begins:
        return Row(tr("not yet: "), _join(worries, serving), Tone.WORRY)
    if worries:
        label = tr("serving, but: ") if wished else tr("idle, but: ")
        return Row(label, _join(worries), Tone.WORRY)
    if not wished:
        text = tr("no model is to serve here; start one with: {command}", command=START)
        return Row(tr("idle: "), text)
    return Row(tr("all well: "), serving, Tone.WELL)


def _serving(names: list[str]) -> str:
    told = ", ".join(names)
    if len(names) > 1:
        return tr("{names} serve", names=told)
    return tr("{name} serves", name=told) if names else ""


def _join(parts: list[str], also: str = "") -> str:
    left = len(parts) - SPARE_PROBLEMS
    more = [tr("{count} more", count=left)] if left > 0 else []
    return tr("; ").join([*parts[:SPARE_PROBLEMS], *more, *([also] if also else [])])


def _wrong(snapshot: Snapshot) -> Iterator[str]:
    """What a person has to mend, of the host and its configuration."""
    if snapshot.config_problem is not None:
        yield tr("the configuration cannot be used")
    elif len(snapshot.broken) == 1:
        yield tr("1 profile cannot be used")
    elif snapshot.broken:
        yield tr("{count} profiles cannot be used", count=len(snapshot.broken))
    for name in snapshot.without_profile:
        yield tr("{name} is to serve, and has no profile", name=name)
    if snapshot.faults_problem:
        yield tr("files about fault codes cannot be used")
    if snapshot.systemd_problem is not None:
        yield tr("systemd does not answer, what follows may be old")


def _is_beginning(view: InstanceView) -> bool:
    """On its way, and nothing has failed."""
    on_its_way = (Phase.FETCHING, Phase.STARTING, Phase.LOADING, Phase.STOPPING)
    return view.phase in on_its_way and view.failure is None and view.failures == 0


def _is_wrong(view: InstanceView) -> bool:
    return not serves_well(view) and not _is_beginning(view)


def _beginning(view: InstanceView) -> str:
    match view.phase:
        case Phase.FETCHING:
            return tr("{name} is being fetched", name=view.name)
        case Phase.STOPPING:
            return tr("{name} is being stopped", name=view.name)
        case _:
            return tr("{name} is being started", name=view.name)


def start_again(view: InstanceView) -> str:
    """What a person has to do for one that was refused, once it is mended."""
    return f"systemctl start deepseek@{view.name}"


def _refused(view: InstanceView) -> str:
    return tr(
        "{name} was refused, and waits for: {command}", name=view.name, command=start_again(view)
    )


def _of_instance(view: InstanceView) -> str:
    if view.trouble is not None:
        return tr("{name} serves badly", name=view.name)
    match view.phase:
        case Phase.HELD:
            return tr("{name} does not serve, and waits for somebody", name=view.name)
        case Phase.WAITING:
            return tr("{name} waits, and does not serve", name=view.name)
        case Phase.IDLE:
            return tr("{name} does not serve", name=view.name)
        case _:
            return tr("{name} does not serve, and is tried anew", name=view.name)


def _worries(snapshot: Snapshot) -> Iterator[str]:
    """Serving goes on, and somebody should know."""
    for view in snapshot.instances:
        if view.wished and view.degraded:
            yield tr("{name} has fewer NPUs than it should", name=view.name)
        if view.update is not None and view.update.trial is not None:
            yield tr("an update of {name} is on trial", name=view.name)
        if not (view.wished or view.refused) and view.failure is not None:
            yield tr("{name} failed, and nobody wishes it any more", name=view.name)
    if snapshot.host_suspect:
        yield tr("the host is suspected")
    aside = [npu for npu in snapshot.npus if npu.quarantine is not None]
    gone = [npu for npu in snapshot.npus if not npu.device_present and npu.quarantine is None]
    if len(aside) == 1:
        yield tr("1 NPU set aside")
    elif aside:
        yield tr("{count} NPUs set aside", count=len(aside))
    if len(gone) == 1:
        yield tr("1 NPU gone")
    elif gone:
        yield tr("{count} NPUs gone", count=len(gone))
    if any(disk.low for disk in snapshot.disks):
        yield tr("a disk is too full")
    if snapshot.inventory.driver is not DriverState.READY:
        yield tr("NPU driver {state}", state=word(snapshot.inventory.driver))
