# SPDX-License-Identifier: MulanPSL-2.0
"""Text in the cells of a terminal, of which a Chinese character has two. Pure."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

# A line may be broken after each wide character, but not before a mark that ends something.
PIECES = re.compile(r"\s+|[（《【]*[\u2e80-\uffef][，。；：、！？）】》％]*|[^\s\u2e80-\uffef]+")


def width(text: str) -> int:
    """In cells."""
    return len(text) if text.isascii() else sum(map(_cells, text))


def _cells(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    # Ambiguous ones, as "●" and "°", have one: so do terminals that are not told otherwise.
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def fill(text: str, cells: int, *, right: bool = False) -> str:
    """With blanks up to that many cells; `right`: the text stands at the right."""
    blanks = " " * (cells - width(text))
    return blanks + text if right else text + blanks


def columns(rows: Iterable[Sequence[str]], right: Iterable[int] = ()) -> list[str]:
    """A line for each row; `right`: columns of numbers."""
    table = list(rows)
    widths = [max(map(width, column)) for column in zip(*table, strict=True)]
    numbers = set(right)
    return [
        "  ".join(
            fill(cell, widths[column], right=column in numbers) for column, cell in enumerate(row)
        ).rstrip()
        for row in table
    ]


def wrap(text: str, cells: int) -> list[str]:
    """Addresses and commands stay whole, also where they are too long: they are copied."""
    lines, line = [], ""
    for piece in PIECES.findall(text):
        if line.strip() and width(line + piece.rstrip()) > cells:
            lines.append(line.rstrip())
            line = ""
        line += piece if line or not piece.isspace() else ""
    return [*lines, line.rstrip()] if line.strip() or not lines else lines
