# SPDX-License-Identifier: MulanPSL-2.0
"""The NPUs as text: a line each, and below it what is wrong with it. Pure."""

from collections.abc import Iterable, Iterator

from agent.status.snapshot import FaultView, NpusAnswer, NpuView, QuarantineView
from agent.wording import duration

HEAD = ("NPU", "product", "health", "temp", "HBM", "power", "AI core", "memory", "used by")
RIGHT = (0, 3, 4, 5, 6, 7)  # columns of numbers


def show_npus(answer: NpusAnswer, now: float) -> str:
    """`now`: seconds since the epoch."""
    return "\n".join(_lines(answer, now))


def _lines(answer: NpusAnswer, now: float) -> Iterator[str]:
    version = f" {answer.driver_version}" if answer.driver_version else ""
    detail = f": {answer.detail}" if answer.detail else ""
    source = f", by {answer.source}" if answer.source else ""
    yield f"NPU driver{version}: {answer.driver}{source}{detail}"
    if answer.host_suspect:
        yield f"the host is suspected: {answer.host_suspect}; nothing is done about NPUs"
        yield "    once it is well: deepseekctl quarantine clear host"
    if answer.npus:
        yield ""
        yield from table(answer.npus, now)


def table(npus: Iterable[NpuView], now: float) -> Iterator[str]:
    """A head, a line for each, and notes."""
    views = list(npus)
    rows = [HEAD, *(_row(view) for view in views)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    yield _join(HEAD, widths)
    for view, row in zip(views, rows[1:], strict=True):
        yield _join(row, widths)
        yield from (f"       {note}" for note in _notes(view, now))


def _join(row: tuple[str, ...], widths: list[int]) -> str:
    cells = (
        cell.rjust(width) if column in RIGHT else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join(cells).rstrip()


def _row(view: NpuView) -> tuple[str, ...]:
    readings = view.readings
    memory = f"{view.memory_used_mib}/{view.memory_mib} MiB" if view.memory_mib else "-"
    return (
        str(view.logic_id),
        view.product or "-",
        view.health if view.device_present else "gone",
        _unit(readings.temperature_c, "°C"),
        _unit(readings.hbm_temperature_c, "°C"),
        _unit(readings.power_w, "W"),
        _unit(readings.utilization_percent, "%"),
        memory,
        view.instance or _processes(view) or "free",
    )


def _unit(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:g} {unit}"


def _processes(view: NpuView) -> str:
    """Whoever is on a chip that no instance has."""
    first = [f"{one.name or 'process'} ({one.pid})" for one in view.processes[:2]]
    more = len(view.processes) - len(first)
    return ", ".join([*first, *([f"{more} more"] if more else [])])


def _notes(view: NpuView, now: float) -> Iterator[str]:
    if not view.device_present and view.device:
        yield f"{view.device} does not exist"
    if view.reason:
        yield f"unknown: {view.reason}"
    if view.quarantine is not None:
        yield _aside(view.quarantine, now)
    elif view.unfit:
        yield f"not used: {view.unfit}"
    if view.resets:
        yield f"reset {view.resets} times since it was last well"
    for fault in view.faults:
        yield from _fault(fault, now)


def _aside(quarantine: QuarantineView, now: float) -> str:
    age = duration(now - quarantine.since)
    words = f"set aside by {quarantine.by} {age} ago: {quarantine.reason}"
    if quarantine.release_at is not None:
        return f"{words}; used again in {duration(quarantine.release_at - now)}"
    if quarantine.release_after_s is not None:
        return f"{words}; used again {duration(quarantine.release_after_s)} after its fault"
    return f"{words}; until: deepseekctl quarantine clear"


def _fault(fault: FaultView, now: float) -> Iterator[str]:
    name = f" {fault.name_en}" if fault.name_en else ""
    age = duration(now - fault.since)
    how = "happened" if fault.one_off else "since"
    gone = "" if fault.present else ", not seen now"
    said = f" - {fault.text}" if fault.text else ""
    yield f"{fault.code}{name} ({fault.level}, {fault.severity}), {how} {age}{gone}{said}"
    if fault.do_en and fault.counts:
        yield f"         {fault.do_en}"
