# SPDX-License-Identifier: MulanPSL-2.0
"""A snapshot as text for a person who is worried: first whether all is well. Pure."""

from collections.abc import Iterator
from itertools import chain

from agent.cells import fill, width
from agent.certificate import EXPIRES_SOON_S
from agent.errors import Failure
from agent.language import meaning, tr, translate, word
from agent.model import HOLDING, NO_PROGRESS, Phase, StartProgress
from agent.status.disks import say_disks
from agent.status.events import say
from agent.status.npus import suspected, table
from agent.status.page import PLAIN, Look, Row, Tone, lay_out
from agent.status.snapshot import InstanceView, Snapshot
from agent.status.text import headline, say_fetch
from agent.status.verdict import START, serves_well, start_again, verdict
from agent.wording import bar, duration, say_supply

EVENTS_SHOWN = 8
MARGIN = " " * 4
LABEL = 10  # of an instance's rows
PROMPT_LINES = 2
AGE = 12  # "23 h 59 min"


def show(snapshot: Snapshot, now: float, look: Look = PLAIN) -> str:
    """`now`: seconds since the epoch. Where the first line scrolls away, it comes again."""
    page = lay_out(_rows(snapshot, now), look)
    if look.height is not None and page.count("\n") + PROMPT_LINES >= look.height:
        page += "\n\n" + lay_out([verdict(snapshot)], look)
    return page


def _rows(snapshot: Snapshot, now: float) -> Iterator[Row]:
    yield verdict(snapshot)
    if snapshot.config_problem is not None:
        yield from _failure(snapshot.config_problem, tr("configuration not in force: "))
    yield from (Row(tr("profile not usable: "), one, Tone.TROUBLE) for one in snapshot.broken)
    for problem in snapshot.faults_problem:
        yield Row(tr("fault codes not in force: "), problem, Tone.TROUBLE)
    if snapshot.systemd_problem is not None:
        yield from _failure(snapshot.systemd_problem, tr("units not seen: "))
    yield from (Row("", line, Tone.WORRY, whole=True) for line in say_disks(snapshot))
    yield Row("", "")
    quiet = [view for view in snapshot.instances if _has_nothing_to_tell(view, now)]
    shown = [view for view in snapshot.instances if view not in quiet or len(quiet) == 1]
    for name in snapshot.without_profile:
        yield from _without_profile(name)
    for view in sorted(shown, key=lambda one: not (one.wished or one.refused)):
        yield from _instance(view, now)
    if len(quiet) > 1:
        names = ", ".join(view.name for view in quiet)
        yield Row("○ ", tr("not started: {names} ({command})", names=names, command=START))
    yield Row("", "")
    yield from _npus(snapshot, now)
    if snapshot.events:
        yield Row("", "")
        yield Row("", tr("latest events"))
        for event in snapshot.events[-EVENTS_SHOWN:]:
            age = fill(duration(now - event.at), AGE, right=True)
            yield Row(tr("  {age} ago  ", age=age), say(event))
    yield Row("", "")
    yield Row("", _about_agent(snapshot, now))


def _about_agent(snapshot: Snapshot, now: float) -> str:
    return tr(
        "deepseek-agent {version}, mode {mode}, running for {age}",
        version=snapshot.version,
        mode=word(snapshot.mode),
        age=duration(now - snapshot.started_at),
    )


def _has_nothing_to_tell(view: InstanceView, now: float) -> bool:
    idle = view.phase is Phase.IDLE and not view.wished and view.failure is None
    return idle and not view.refused and not any(chain(_fetch(view), _update(view, now)))


def _instance(view: InstanceView, now: float) -> Iterator[Row]:
    well = serves_well(view)
    label = f"{'●' if well else '○'} {view.name:<8} "
    if view.refused:
        yield from _refused(view, label)
        return
    if not view.wished and view.phase is Phase.IDLE:
        command = f"systemctl enable --now deepseek@{view.name}"
        yield Row(label, tr("not started ({command})", command=command))
        yield from _fetch(view)
        yield from _update(view, now)
        if view.failure is not None:
            yield from _failure(view.failure, _label(tr("last")), Tone.WORRY)
        return
    yield Row(label, _headline(view, now), _tone(view))
    # What is wrong, and what to do about it, before what it is.
    if view.failure is not None:
        tone = Tone.WORRY if well else Tone.TROUBLE
        yield from _failure(view.failure, _label(tr("reason")), tone)
    if view.trouble is not None:
        yield from _failure(view.trouble, _label(tr("trouble")))
    if view.degraded:
        yield _row(tr("degraded"), translate(view.degraded), Tone.WORRY)
        command = f"deepseekctl replan {view.name}"
        yield _row("", tr("back on all that are well: {command}", command=command))
    if view.uncounted is not None:
        yield from _failure(view.uncounted, _label(tr("note")), Tone.WORRY)
    yield from _fetch(view)
    yield from _update(view, now)
    if view.start is not None:
        left = duration(view.start.gives_up_at - now)
        yield _row(tr("start"), tr("tried anew in {left}, or later while it moves on", left=left))
    yield from _history(view)
    yield from _certificate(view, now)
    yield from _what_it_is(view)


def _without_profile(name: str) -> Iterator[Row]:
    yield Row(f"○ {name:<8} ", tr("is to serve, and has no profile"), Tone.TROUBLE)
    profile = f"/etc/deepseek-agent/models.d/{name}.toml"
    start, end = f"systemctl start deepseek@{name}", f"systemctl disable --now deepseek@{name}"
    yield _row(tr("hint"), tr("write {file}, then: {command}", file=profile, command=start))
    yield _row("", tr("or, if it is not to serve: {command}", command=end))


def _refused(view: InstanceView, label: str) -> Iterator[Row]:
    text = tr("refused; when it is mended: {command}", command=start_again(view))
    yield Row(label, text, Tone.TROUBLE)
    if view.failure is not None:
        yield from _failure(view.failure, _label(tr("reason")))
    else:
        # An agent that is new does not know; attach has told systemd.
        command = f"systemctl status deepseek@{view.name}"
        yield _row(tr("reason"), tr("see: {command}", command=command))


def _headline(view: InstanceView, now: float) -> str:
    """Without the reason, which stands below with what to do."""
    start = view.start
    return headline(
        view.phase,
        now - view.since,
        wait_s=0.0 if view.next_try_at is None else view.next_try_at - now,
        progress=NO_PROGRESS
        if start is None
        else StartProgress(start.step, start.percent, start.done, start.total),
        fetch=None if view.fetch is None else view.fetch.progress,
    )


def _tone(view: InstanceView) -> Tone:
    if serves_well(view):
        return Tone.WELL
    waits = view.phase in (Phase.FETCHING, Phase.STARTING, Phase.LOADING, Phase.STOPPING)
    return Tone.WORRY if waits and view.failure is None else Tone.TROUBLE


def _history(view: InstanceView) -> Iterator[Row]:
    if view.failures and view.phase is not Phase.SERVING:
        yield _row(tr("failures"), tr("{count} in a row", count=view.failures), Tone.WORRY)
    if view.restarts:
        yield _row(tr("restarts"), tr("{count} after a failure", count=view.restarts))
    if view.restart_pending:
        words = tr("its configuration, API key or certificate has changed since it was started")
        yield _row(tr("note"), words, Tone.WORRY)
        command = f"deepseekctl restart {view.name}"
        yield _row("", tr("in force with: {command}", command=command))


def _certificate(view: InstanceView, now: float) -> Iterator[Row]:
    end = view.certificate_expires_at
    if end is None or end - now >= EXPIRES_SOON_S:
        return
    if end > now:
        text = tr("clients will refuse its certificate in {left}", left=duration(end - now))
    else:
        text = tr("clients refuse its certificate: its time is over")
    yield _row(tr("note"), text, Tone.WORRY)


def _what_it_is(view: InstanceView) -> Iterator[Row]:
    url = f"{view.endpoint}/v1"
    yield _row(tr("model"), tr("{model} at {url}", model=view.served_name, url=url))
    if view.phase in HOLDING and view.npus:
        yield _row(tr("runs on"), f"NPU {', '.join(map(str, view.npus))}")
    place = tr(", from {file}", file=view.unit_file) if view.unit_file else ""
    yield _row(tr("unit"), f"{view.unit}{place}")


def _row(label: str, text: str, tone: Tone = Tone.PLAIN) -> Row:
    return Row(_label(label), text, tone)


def _label(text: str) -> str:
    return MARGIN + fill(text, LABEL)


def _fetch(view: InstanceView) -> Iterator[Row]:
    if view.fetch is None:
        return
    if view.phase is not Phase.FETCHING:  # which says the same
        yield _row(tr("supply"), say_fetch(view.fetch.progress))
    if view.fetch.progress is not None and (drawn := bar(view.fetch.progress)):
        yield _row("", drawn)


def _update(view: InstanceView, now: float) -> Iterator[Row]:
    update = view.update
    if update is None:
        return
    if update.trial is not None:
        what = say_supply(update.trial)
        if update.trial_until is None:
            text = tr("{what} is on trial until it has answered for 10 min", what=what)
        else:
            left = duration(max(0.0, update.trial_until - now))
            text = tr("{what} is on trial for another {left}", what=what, left=left)
        yield _row(tr("update"), text, Tone.WORRY)
        command = f"deepseekctl rollback {view.name}"
        yield _row("", tr("back to the former one: {command}", command=command))
    elif update.fetching:
        yield _row(tr("update"), tr("is being fetched; what runs goes on"))
    if update.undone is not None:
        what, age = say_supply(update.undone.supply), duration(now - update.undone.at)
        yield _row(tr("update"), tr("{what} was undone {age} ago", what=what, age=age), Tone.WORRY)
        yield from _failure(update.undone.failure, _label(""))


def _failure(failure: Failure, label: str, tone: Tone = Tone.TROUBLE) -> Iterator[Row]:
    blank = " " * width(label)
    message = f"{translate(failure.message)} [{failure.code}]"
    meant = meaning(failure.code)
    yield Row(label, meant or message, tone)
    if meant:
        yield Row(blank, message)
    if failure.hint:
        margin = label[: len(label) - len(label.lstrip())] if label.strip() else MARGIN
        yield Row(fill(margin + tr("hint"), width(label)), translate(failure.hint))


def _npus(snapshot: Snapshot, now: float) -> Iterator[Row]:
    inventory = snapshot.inventory
    version = f" {inventory.driver_version}" if inventory.driver_version else ""
    detail = f": {translate(inventory.detail)}" if inventory.detail else ""
    state = f"{word(inventory.driver)}{detail}"
    yield Row("", tr("NPU driver{version}: {state}", version=version, state=state))
    if snapshot.host_suspect:
        yield suspected(snapshot.host_suspect, "  ")
    if snapshot.npus:
        yield from table(snapshot.npus, now, "  ")
