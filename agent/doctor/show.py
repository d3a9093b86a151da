# SPDX-License-Identifier: MulanPSL-2.0
"""Findings as text for a worried person, or as JSON. Pure."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

from agent.cells import fill, width, wrap
from agent.doctor.verdict import Finding, Group, Status
from agent.language import meaning, tr, translate, word

SCHEMA = 1
COLORS = {
    Status.OK: "\x1b[32m",
    Status.SKIPPED: "\x1b[2m",
    Status.WARNING: "\x1b[33m",
    Status.ERROR: "\x1b[31m",
}
PLAIN = "\x1b[0m"
STATUS_CELLS = 7  # "skipped"
ARROW = "-> "
NARROWEST = 30  # cells that a message gets, however narrow the terminal is
NO_MODEL = "no model was looked at: none is enabled; name one: deepseekctl doctor 8b"


def is_well(findings: Sequence[Finding]) -> bool:
    """Warnings do not count."""
    return all(one.verdict.status is not Status.ERROR for one in findings)


def show(findings: Sequence[Finding], *, colored: bool, wide: int | None = None) -> str:
    """`wide`: cells of the terminal; None: lines are as long as they are, as a pipe wants them."""
    return "\n".join(_lines(findings, colored, wide)) + "\n"


def _lines(findings: Sequence[Finding], colored: bool, wide: int | None) -> Iterator[str]:
    cells = max((width(_name(one.id)) for one in findings), default=0)
    for title, group in groupby(findings, _title):
        yield title
        for one in group:
            yield from _about(one, cells, colored, wide)
        yield ""
    if not any(one.instance for one in findings):
        yield tr(NO_MODEL)
    yield _summary(findings, colored)


def _title(one: Finding) -> str:
    group = word(one.group)
    return f"{group} {one.instance}" if one.group is Group.MODEL else group


def _about(one: Finding, cells: int, colored: bool, wide: int | None) -> Iterator[str]:
    verdict = one.verdict
    margin = STATUS_CELLS + cells + 6
    status = _painted(fill(word(verdict.status), STATUS_CELLS), verdict.status, colored)
    message, *more = _wrapped(translate(verdict.message), margin, wide)
    yield f"  {status}  {fill(_name(one.id), cells)}  {message}"
    yield from (f"{'':{margin}}{line}" for line in more)
    if verdict.hint:
        first, *more = _wrapped(translate(verdict.hint), margin + len(ARROW), wide)
        yield f"{'':{margin}}{ARROW}{first}"
        yield from (f"{'':{margin + len(ARROW)}}{line}" for line in more)


def _wrapped(text: str, margin: int, wide: int | None) -> list[str]:
    return [text] if wide is None else wrap(text, max(wide - margin, NARROWEST))


def _name(check: str) -> str:
    """Its id, which monitoring and docs/doctor.md know; in Chinese with its title."""
    title = meaning(f"check {check}")
    return f"{check} {title}" if title else check


def _painted(text: str, status: Status, colored: bool) -> str:
    return f"{COLORS[status]}{text}{PLAIN}" if colored else text


def _summary(findings: Sequence[Finding], colored: bool) -> str:
    """The worst first; and the names of what is to be mended."""
    counts = Counter(one.verdict.status for one in findings)
    parts = [
        _painted(_counted(counts[status], status), status, colored and counts[status] > 0)
        for status in (Status.ERROR, Status.WARNING, Status.OK, Status.SKIPPED)
        if counts[status] or status is Status.ERROR
    ]
    errors = [one.id for one in findings if one.verdict.status is Status.ERROR]
    named = tr("; to mend: {checks}", checks=", ".join(dict.fromkeys(errors))) if errors else ""
    return ", ".join(parts) + named


def _counted(count: int, status: Status) -> str:
    if count != 1 and status is Status.ERROR:
        return tr("{count} errors", count=count)
    if count != 1 and status is Status.WARNING:
        return tr("{count} warnings", count=count)
    return f"{count} {word(status)}"


def to_json(findings: Sequence[Finding], version: str) -> str:
    rows = [
        {
            "id": one.id,
            "instance": one.instance,
            "status": str(one.verdict.status),
            "message": one.verdict.message,
            "hint": one.verdict.hint,
        }
        for one in findings
    ]
    counts = Counter(row["status"] for row in rows)
    told = {str(status): counts[str(status)] for status in Status}
    answer = {"schema": SCHEMA, "version": version, "counts": told, "checks": rows}
    return json.dumps(answer, ensure_ascii=False, indent=2) + "\n"
