# SPDX-License-Identifier: MulanPSL-2.0
"""A snapshot as text for a person who is worried: first whether all is well. Pure."""

from collections.abc import Iterator

from agent.errors import Failure
from agent.model import Phase
from agent.status.disks import say_disks
from agent.status.events import say
from agent.status.npus import table
from agent.status.page import PLAIN, Look, Row, Tone, lay_out
from agent.status.snapshot import InstanceView, NpuView, Snapshot
from agent.status.text import say_fetch
from agent.status.verdict import serves_well, verdict
from agent.wording import bar, duration, say_supply

EVENTS_SHOWN = 8
NOTE_MARGIN = " " * 7  # of `npus.table`
MARGIN = " " * 4
LABEL = 10  # of an instance's rows


def show(snapshot: Snapshot, now: float, look: Look = PLAIN) -> str:
    """`now`: seconds since the epoch."""
    return lay_out(_rows(snapshot, now), look)


def _rows(snapshot: Snapshot, now: float) -> Iterator[Row]:
    yield verdict(snapshot)
    if snapshot.config_problem is not None:
        yield from _failure(snapshot.config_problem, "configuration not in force: ")
    yield from (Row("profile not usable: ", one, Tone.TROUBLE) for one in snapshot.broken)
    for problem in snapshot.faults_problem:
        yield Row("fault codes not in force: ", problem, Tone.TROUBLE)
    if snapshot.systemd_problem is not None:
        yield from _failure(snapshot.systemd_problem, "units not seen: ")
    yield from (Row("", line, Tone.WORRY, whole=True) for line in say_disks(snapshot))
    yield Row("", "")
    for instance in sorted(snapshot.instances, key=lambda one: not one.wished):
        yield from _instance(instance, now)
    yield Row("", "")
    yield from _npus(snapshot, now)
    if snapshot.events:
        yield Row("", "")
        yield Row("", "latest events")
        for event in snapshot.events[-EVENTS_SHOWN:]:
            yield Row(f"  {duration(now - event.at):>12} ago  ", say(event))
    yield Row("", "")
    since = duration(now - snapshot.started_at)
    yield Row("", f"deepseek-agent {snapshot.version}, mode {snapshot.mode}, running for {since}")


def _instance(view: InstanceView, now: float) -> Iterator[Row]:
    well = serves_well(view)
    label = f"{'●' if well else '○'} {view.name:<8} "
    if not view.wished and view.phase is Phase.IDLE:
        yield Row(label, f"not started (systemctl enable --now deepseek@{view.name})")
        yield from _fetch(view)
        yield from _update(view, now)
        if view.failure is not None:
            yield from _failure(view.failure, _label("last"), Tone.WORRY)
        return
    age = f" for {duration(now - view.since)}" if view.phase is Phase.SERVING else ""
    yield Row(label, f"{_headline(view)}{age}", _tone(view))
    # What is wrong, and what to do about it, before what it is.
    if view.failure is not None:
        tone = Tone.WORRY if well else Tone.TROUBLE
        yield from _failure(view.failure, _label("reason"), tone)
    if view.trouble is not None:
        yield from _failure(view.trouble, _label("trouble"))
    if view.degraded:
        yield _row("degraded", view.degraded, Tone.WORRY)
        yield _row("", f"back on all that are well: deepseekctl replan {view.name}")
    yield from _fetch(view)
    yield from _update(view, now)
    if view.start is not None:
        left = duration(view.start.gives_up_at - now)
        yield _row("start", f"tried anew in {left}, or later while it moves on")
    yield from _history(view)
    yield from _what_it_is(view)


def _headline(view: InstanceView) -> str:
    """Without the reason, which stands below with what to do."""
    if view.failure is None or view.phase is Phase.SERVING:
        return view.status
    message = view.failure.message
    return view.status.replace(f"; last: {message}", "").replace(f": {message}", "")


def _tone(view: InstanceView) -> Tone:
    if serves_well(view):
        return Tone.WELL
    waits = view.phase in (Phase.FETCHING, Phase.STARTING, Phase.LOADING, Phase.STOPPING)
    return Tone.WORRY if waits and view.failure is None else Tone.TROUBLE


def _history(view: InstanceView) -> Iterator[Row]:
    if view.failures:
        yield _row("failures", f"{view.failures} in a row", Tone.WORRY)
    if view.restarts:
        yield _row("restarts", f"{view.restarts} after a failure")
    if view.restart_pending:
        yield _row("note", "its configuration has changed since it was started", Tone.WORRY)
        yield _row("", f"in force with: deepseekctl restart {view.name}")


def _what_it_is(view: InstanceView) -> Iterator[Row]:
    yield _row("model", f"{view.served_name} at {view.endpoint}/v1")
    yield _row("NPUs", ", ".join(str(npu) for npu in view.npus) or "none")
    place = f", from {view.unit_file}" if view.unit_file else ""
    yield _row("unit", f"{view.unit}{place}")


def _row(label: str, text: str, tone: Tone = Tone.PLAIN) -> Row:
    return Row(_label(label), text, tone)


def _label(word: str) -> str:
    return f"{MARGIN}{word:<{LABEL}}"


def _fetch(view: InstanceView) -> Iterator[Row]:
    if view.fetch is None:
        return
    if view.phase is not Phase.FETCHING:  # which says the same
        yield _row("supply", say_fetch(view.fetch.progress))
    if view.fetch.progress is not None and (drawn := bar(view.fetch.progress)):
        yield _row("", drawn)


def _update(view: InstanceView, now: float) -> Iterator[Row]:
    update = view.update
    if update is None:
        return
    if update.trial is not None:
        left = "until it has answered for 10 min"
        if update.trial_until is not None:
            left = f"for another {duration(max(0.0, update.trial_until - now))}"
        yield _row("update", f"{say_supply(update.trial)} is on trial {left}", Tone.WORRY)
        yield _row("", f"back to the former one: deepseekctl rollback {view.name}")
    elif update.fetching:
        yield _row("update", "is being fetched; what runs goes on")
    if update.undone is not None:
        age = duration(now - update.undone.at)
        text = f"{say_supply(update.undone.supply)} was undone {age} ago"
        yield _row("update", text, Tone.WORRY)
        yield from _failure(update.undone.failure, _label(""))


def _failure(failure: Failure, label: str, tone: Tone = Tone.TROUBLE) -> Iterator[Row]:
    yield Row(label, f"{failure.message} [{failure.code}]", tone)
    if failure.hint:
        margin = label[: len(label) - len(label.lstrip())] if label.strip() else MARGIN
        yield Row(f"{f'{margin}hint':<{len(label)}}", failure.hint)


def _npus(snapshot: Snapshot, now: float) -> Iterator[Row]:
    inventory = snapshot.inventory
    version = f" {inventory.driver_version}" if inventory.driver_version else ""
    detail = f": {inventory.detail}" if inventory.detail else ""
    yield Row("", f"NPU driver{version}: {inventory.driver}{detail}")
    if snapshot.host_suspect:
        text = f"the host is suspected: {snapshot.host_suspect}; nothing is done about NPUs"
        yield Row("  ", text, Tone.WORRY, whole=True)
    if snapshot.npus:
        yield from _table(snapshot.npus, now)


def _table(npus: tuple[NpuView, ...], now: float) -> Iterator[Row]:
    """Its notes stand further to the right than its lines."""
    for line in table(npus, now):
        if line.startswith(NOTE_MARGIN):
            text = line.lstrip()
            yield Row(f"  {line[: -len(text)]}", text, Tone.WORRY, whole=True)
        else:
            yield Row("", f"  {line}", fixed=True)
