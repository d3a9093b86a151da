# SPDX-License-Identifier: MulanPSL-2.0
"""The agent's notes, and the folder of evidence: root's alone, the newest ten of each instance, and
100 MiB of all together."""

import os
import re
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from agent.disks import EVIDENCE_KEPT, EVIDENCE_LIMIT_BYTES, evidence_order
from agent.json_text import load_json
from agent.model import INSTANCE_NAME

RUN = Path("/run/deepseek-agent")
FOLDER = Path("/var/lib/deepseek-agent/evidence")
KEPT = EVIDENCE_KEPT
# Metrics of vLLM are some 100 KiB.
NOTES_LIMIT_BYTES = 8 * 1024 * 1024
TIMESTAMP = "[0-9]{8}T[0-9]{6}Z"
_ANYBODYS = re.compile(rf"{INSTANCE_NAME}-({TIMESTAMP})\.txt")


@dataclass(frozen=True, slots=True)
class Notes:
    """What the agent hands over; each may be empty."""

    file: str = ""
    reason: str = ""
    container_id: str = ""
    metrics: str = ""
    npus: str = ""


def read_notes(instance: str, run: Path = RUN) -> Notes:
    """Notes that are not there, or make no sense, are no reason to gather nothing."""
    try:
        with open(run / "evidence" / f"{instance}.json", "rb") as stream:
            told = load_json(stream.read(NOTES_LIMIT_BYTES))
    except (OSError, ValueError) as error:
        return Notes(reason=f"(no notes of the agent: {error})")
    fields = told if isinstance(told, dict) else {}
    return Notes(**{name: _text(fields.get(name)) for name in Notes.__dataclass_fields__})


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def api_key(instance: str, run: Path = RUN) -> str:
    """The value in the env file that the engine was started with; empty when it has none."""
    try:
        text = (run / "env" / f"{instance}.env").read_text(errors="replace")
    except OSError:
        return ""
    return text.strip().partition("=")[2]


def file_name(instance: str, wanted: str) -> str:
    """`wanted` when it is one of the instance's, and nothing else: it becomes part of a path."""
    if _pattern(instance).fullmatch(wanted):
        return wanted
    return f"{instance}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.txt"


def save(folder: Path, name: str, text: str, *, durably: bool) -> None:
    """Whole or not at all, 0600. Not durable is quick, and safe from all but a power cut."""
    temporary = folder / f".{name}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(temporary, flags, 0o600), "w", encoding="utf-8") as stream:
        stream.write(text)
        if durably:
            stream.flush()
            os.fsync(stream.fileno())
    os.replace(temporary, folder / name)


def make_room(folder: Path, instance: str, written: str = "", kept: int = KEPT) -> None:
    """Removes what is older than the newest `kept`, and what was never finished. `written`: just
    now; it is the newest, whatever the clock has done since it got its name."""
    pattern = _pattern(instance)
    # Empty: a power cut while it was gathered.
    there = [one for one in os.listdir(folder) if one == written or _has_text(folder / one)]
    names = _by_age((name for name in there if pattern.fullmatch(name)), written)
    unfinished = [
        name
        for name in os.listdir(folder)
        if pattern.fullmatch(name.removeprefix(".").removesuffix(".new")) and name not in names
    ]
    for name in (*names[: max(0, len(names) - kept)], *unfinished):
        with suppress(OSError):
            os.unlink(folder / name)
    _limit_sum(folder, written)


def _limit_sum(folder: Path, written: str) -> None:
    """Of all instances together the oldest go; the newest file stays whatever its size."""
    sum_bytes = 0
    for number, name in enumerate(reversed(_by_age(os.listdir(folder), written))):
        with suppress(OSError):
            sum_bytes += os.lstat(folder / name).st_size
            if number and sum_bytes > EVIDENCE_LIMIT_BYTES:
                os.unlink(folder / name)


def _has_text(file: Path) -> bool:
    with suppress(OSError):
        return os.lstat(file).st_size > 0
    return False


def _by_age(names: Iterable[str], written: str) -> list[str]:
    """Those of evidence, the oldest first."""
    now = time.time()
    there = [
        (name == written, evidence_order(found[1], now), name)
        for name in names
        if (found := _ANYBODYS.fullmatch(name))
    ]
    return [name for _, _, name in sorted(there)]


def _pattern(instance: str) -> re.Pattern[str]:
    return re.compile(rf"{re.escape(instance)}-{TIMESTAMP}\.txt")
