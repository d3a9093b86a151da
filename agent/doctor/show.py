# SPDX-License-Identifier: MulanPSL-2.0
"""Findings as text for a worried person, or as JSON. Pure."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

from agent.doctor.verdict import Finding, Group, Status

SCHEMA = 1
COLORS = {
    Status.OK: "\x1b[32m",
    Status.SKIPPED: "\x1b[2m",
    Status.WARNING: "\x1b[33m",
    Status.ERROR: "\x1b[31m",
}
PLAIN = "\x1b[0m"
NO_MODEL = "no model was looked at: none is enabled; name one: deepseekctl doctor 8b"


def is_well(findings: Sequence[Finding]) -> bool:
    """Warnings do not count."""
    return all(one.verdict.status is not Status.ERROR for one in findings)


def show(findings: Sequence[Finding], *, colored: bool) -> str:
    return "\n".join(_lines(findings, colored)) + "\n"


def _lines(findings: Sequence[Finding], colored: bool) -> Iterator[str]:
    width = max((len(one.id) for one in findings), default=0)
    for title, group in groupby(findings, _title):
        yield title
        for one in group:
            yield from _about(one, width, colored)
        yield ""
    if not any(one.instance for one in findings):
        yield NO_MODEL
    yield _summary(findings, colored)


def _title(one: Finding) -> str:
    return f"{one.group} {one.instance}" if one.group is Group.MODEL else str(one.group)


def _about(one: Finding, width: int, colored: bool) -> Iterator[str]:
    verdict = one.verdict
    word = _painted(f"{verdict.status:<7}", verdict.status, colored)
    yield f"  {word}  {one.id:<{width}}  {verdict.message}"
    if verdict.hint:
        yield f"  {'':7}  {'':{width}}  -> {verdict.hint}"


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
    named = f"; to mend: {', '.join(dict.fromkeys(errors))}" if errors else ""
    return ", ".join(parts) + named


def _counted(count: int, status: Status) -> str:
    plural = "s" if status in (Status.ERROR, Status.WARNING) and count != 1 else ""
    return f"{count} {status}{plural}"


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
