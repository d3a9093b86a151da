# SPDX-License-Identifier: MulanPSL-2.0
"""Rows of a page -> its text, for a terminal of some width, with color or without. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from agent.cells import width as cells
from agent.cells import wrap

NARROWEST = 20  # what a text gets beside its label, however narrow the terminal is


class Tone(StrEnum):
    """How bad it is; the value is what colors it (ECMA-48, SGR)."""

    PLAIN = ""
    WELL = "32"
    WORRY = "33"
    TROUBLE = "1;31"


@dataclass(frozen=True, slots=True)
class Look:
    """What the page is for. `width` None: lines are as long as they are, as a pipe wants them;
    `height` None: nothing scrolls away."""

    width: int | None = None
    color: bool = False
    height: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A label and a text, which is wrapped beside it; the tone is the label's, or with `whole` that
    of all of it."""

    label: str
    text: str
    tone: Tone = Tone.PLAIN
    whole: bool = False
    fixed: bool = False  # it is never wrapped: a line of a table


PLAIN = Look()


def lay_out(rows: Iterable[Row], look: Look = PLAIN) -> str:
    return "\n".join(line for row in rows for line in _lines(row, look))


def _lines(row: Row, look: Look) -> Iterator[str]:
    indent = " " * cells(row.label)
    width = None if row.fixed else look.width
    for number, part in enumerate(_wrap(row.text, cells(row.label), width)):
        label = indent if number else row.label
        if row.whole:
            yield _colored(f"{label}{part}".rstrip(), row.tone, look)
        else:
            yield (label if number else _colored(label, row.tone, look)) + part


def _wrap(text: str, before: int, width: int | None) -> list[str]:
    if width is None or before + cells(text) <= width:
        return [text]
    return wrap(text, max(width - before, NARROWEST))


def _colored(text: str, tone: Tone, look: Look) -> str:
    """The margin stays as it is."""
    bare = text.strip()
    if not look.color or tone is Tone.PLAIN or not bare:
        return text
    return text.replace(bare, f"\033[{tone.value}m{bare}\033[0m", 1)
