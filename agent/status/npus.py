# SPDX-License-Identifier: MulanPSL-2.0
"""The NPUs as text: a line each, and below it what is wrong with it. Pure."""

from collections.abc import Iterable, Iterator

from agent.cells import columns
from agent.language import Language, spoken, tr, translate, word
from agent.status.page import PLAIN, Look, Row, Tone, lay_out
from agent.status.snapshot import FaultView, NpusAnswer, NpuView, QuarantineView
from agent.wording import duration

HEAD = ("NPU", "product", "health", "temp", "HBM", "power", "AI core", "memory", "used by")
RIGHT = (0, 3, 4, 5, 6, 7)  # columns of numbers
NOTE_MARGIN = " " * 7


def show_npus(answer: NpusAnswer, now: float, look: Look = PLAIN) -> str:
    """`now`: seconds since the epoch."""
    return lay_out(_rows(answer, now), look)


def _rows(answer: NpusAnswer, now: float) -> Iterator[Row]:
    version = f" {answer.driver_version}" if answer.driver_version else ""
    detail = f": {answer.detail}" if answer.detail else ""
    source = tr(", by {source}", source=answer.source) if answer.source else ""
    state = f"{word(answer.driver)}{source}{detail}"
    yield Row("", tr("NPU driver{version}: {state}", version=version, state=state))
    if answer.host_suspect:
        yield suspected(answer.host_suspect)
        yield Row("    ", tr("once it is well: {command}", command=TRUST), Tone.WORRY)
    if answer.npus:
        yield Row("", "")
        yield from table(answer.npus, now)


TRUST = "deepseekctl quarantine clear host"


def suspected(why: str, margin: str = "") -> Row:
    text = tr("the host is suspected: {why}; nothing is done about NPUs", why=translate(why))
    return Row(margin, text, Tone.WORRY, whole=True)


def table(npus: Iterable[NpuView], now: float, margin: str = "") -> Iterator[Row]:
    """A head, a line for each, and notes."""
    views = list(npus)
    head, *lines = columns([tuple(map(tr, HEAD)), *map(_row, views)], RIGHT)
    yield Row(margin, head, fixed=True)
    for view, line in zip(views, lines, strict=True):
        yield Row(margin, line, fixed=True)
        for note in _notes(view, now):
            text = note.lstrip()
            blanks = margin + NOTE_MARGIN + " " * (len(note) - len(text))
            yield Row(blanks, text, Tone.WORRY, whole=True)


def _row(view: NpuView) -> tuple[str, ...]:
    readings = view.readings
    memory = f"{view.memory_used_mib}/{view.memory_mib} MiB" if view.memory_mib else "-"
    return (
        str(view.logic_id),
        view.product or "-",
        word(view.health) if view.device_present else tr("gone"),
        with_unit(readings.temperature_c, "°C"),
        with_unit(readings.hbm_temperature_c, "°C"),
        with_unit(readings.power_w, "W"),
        with_unit(readings.utilization_percent, "%"),
        memory,
        say_user(view),
    )


def with_unit(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:g} {unit}"


def say_user(view: NpuView) -> str:
    """An instance, or whoever is on a chip that no instance has."""
    if view.instance:
        return view.instance
    first = [f"{one.name or tr('process')} ({one.pid})" for one in view.processes[:2]]
    more = len(view.processes) - len(first)
    rest = [tr("{count} more", count=more)] if more else []
    return ", ".join([*first, *rest]) or (tr("nobody") if view.unfit else tr("free"))


def _notes(view: NpuView, now: float) -> Iterator[str]:
    if not view.device_present and view.device:
        yield tr("{device} does not exist", device=view.device)
    if view.reason:
        yield tr("unknown: {why}", why=translate(view.reason))
    if view.quarantine is not None:
        yield _aside(view, view.quarantine, now)
    elif view.unfit:
        yield tr("not used: {why}", why=translate(view.unfit))
    if view.resets:
        yield tr("reset {count} times since it was last well", count=view.resets)
    for fault in view.faults:
        yield from _fault(fault, now)


def _aside(view: NpuView, quarantine: QuarantineView, now: float) -> str:
    """Its reason is left out where it stands below as a fault."""
    words = tr(
        "set aside by {who} {age} ago",
        who=quarantine.by,
        age=duration(now - quarantine.since),
    )
    if not any(fault.code == quarantine.code for fault in view.faults):
        words += tr(": ") + translate(quarantine.reason)
    if quarantine.release_at is not None:
        left = duration(quarantine.release_at - now)
        return tr("{aside}; used again in {left}", aside=words, left=left)
    if quarantine.release_after_s is not None:
        after = duration(quarantine.release_after_s)
        return tr("{aside}; used again {after} after its fault", aside=words, after=after)
    command = f"deepseekctl quarantine clear {view.logic_id}"
    return tr("{aside}; until: {command}", aside=words, command=command)


def _fault(fault: FaultView, now: float) -> Iterator[str]:
    chinese = spoken() is Language.CHINESE
    name, advice = (fault.name_zh, fault.do_zh) if chinese else (fault.name_en, fault.do_en)
    about = f"{fault.code} {name}".strip()
    age = duration(now - fault.since)
    when = tr("happened {age} ago", age=age) if fault.one_off else tr("for {age}", age=age)
    gone = "" if fault.present else tr(", not seen now")
    said = f" - {fault.text}" if fault.text else ""
    yield f"{about} ({fault.level}, {word(fault.severity)}), {when}{gone}{said}"
    if advice and fault.counts:
        yield f"         {advice}"
