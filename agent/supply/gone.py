# SPDX-License-Identifier: MulanPSL-2.0
"""How long an address of a hub has said that a revision is not there, while others stay silent.

    INCOMING/.NAME@gone    when that began, and how often it was so since

huggingface.co cannot be reached from everywhere, and is one of the addresses that are asked: to
wait for it for ever would leave a model damaged for ever. Its mirror alone is believed after hours
only, since a site's own mirror may lack what the hub has, and lines are down for hours.
"""

import time
from pathlib import Path

from agent.host.atomic import write_atomically
from agent.supply.disk import writing

LONG_S = 6 * 3600.0
TRIES = 12  # a clock that is set right jumps by years
BROKEN_OFF_S = 86400.0  # so long nobody has asked: what was before counts no more


def note_of(staging: Path) -> Path:
    return staging.with_name(f".{staging.name}@gone")


def has_been_for_long(staging: Path) -> bool:
    """To be called once with each try that finds it so. Raises AgentError when the folder above
    `staging` cannot be written to."""
    note, now = note_of(staging), time.time()
    with writing(f"write {note}"):
        began, tries = _read(note, now)
        write_atomically(note, f"{began} {tries + 1}\n")
    return now - began >= LONG_S and tries + 1 >= TRIES


def forget(staging: Path) -> None:
    with writing(f"remove {note_of(staging)}"):
        note_of(staging).unlink(missing_ok=True)


def _read(note: Path, now: float) -> tuple[float, int]:
    """What is damaged, of long ago or of the future begins now. Raises OSError."""
    try:
        text, last = note.read_text(encoding="utf-8", errors="replace"), note.stat().st_mtime
        began, tries = text.split()
        if 0 <= now - last < BROKEN_OFF_S and float(began) <= now:
            return float(began), int(tries)
    except (FileNotFoundError, ValueError):
        pass
    return now, 0
