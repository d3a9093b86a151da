# SPDX-License-Identifier: MulanPSL-2.0
"""What is in a bundle, what was taken out and what is missing, in words. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from agent.language import tr, translate
from agent.wording import size

STAYS = (
    "What stays in it, and may be more than you want to send: names of this host, of its users and",
    "files, IP addresses and ports, serial numbers, models and their settings, who listens.",
)
REMOVED = (
    "Removed, as far as it was recognized: API keys, tokens, passwords, private keys, what stands",
    "in auth files and in variables whose names are not known to be harmless, comments in",
    "settings; and lines that may hold what people asked a model or what it answered.",
)
NOT_ROOT = "missing:  what only root may see; run it as root for all of it"
LOOK = "A program has done that, and may have missed something: look into it before you send it."


@dataclass(frozen=True, slots=True)
class Entry:
    """One file. `problem` says why it is not there, or not whole; `taken`: it is there."""

    name: str
    about: str
    taken: bool
    size_bytes: int = 0
    secrets: int = 0
    lines: int = 0
    problem: str = ""


def write_manifest(title: str, entries: Sequence[Entry]) -> str:
    rows = [_row(entry) for entry in entries]
    missing = [f"  {entry.name}: {entry.problem}" for entry in entries if entry.problem]
    parts = [title, "", *REMOVED, "", *STAYS, "", LOOK, "", "Files:", *rows]
    if missing:
        parts += ["", "Missing or not whole:", *missing]
    return "\n".join(parts) + "\n"


def summary(entries: Sequence[Entry]) -> list[str]:
    """For the terminal."""
    taken = [entry for entry in entries if entry.taken]
    folders = sorted({entry.name.partition("/")[0] for entry in taken})
    secrets, lines = sum(one.secrets for one in taken), sum(one.lines for one in taken)
    found = [
        tr("inside:   {count} files: {folders}", count=len(taken), folders=", ".join(folders)),
        tr(
            "removed:  {secrets} values that are secrets or may be, {lines} lines with prompts",
            secrets=secrets,
            lines=lines,
        ),
    ]
    missing = [f"{entry.name} ({translate(entry.problem)})" for entry in entries if entry.problem]
    if missing:
        more = tr(" and {count} more", count=len(missing) - 6) if len(missing) > 6 else ""
        names = "; ".join(missing[:6])
        found += [tr("missing:  {names}{more}; all of it in MANIFEST.txt", names=names, more=more)]
    return found


def _row(entry: Entry) -> str:
    if not entry.taken:
        return f"  {'-':>9}  {entry.name}  {entry.about} (not there)"
    gone = [f"{entry.secrets} values removed"] if entry.secrets else []
    gone += [f"{entry.lines} lines removed"] if entry.lines else []
    said = f" ({', '.join(gone)})" if gone else ""
    return f"  {size(entry.size_bytes):>9}  {entry.name}  {entry.about}{said}"
