# SPDX-License-Identifier: MulanPSL-2.0
"""A file of settings in which every key stands commented out with its default, as parts: what the
manual page and docs/configuration.md are made of. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_KEY = re.compile(r"#(?P<key>[a-z_0-9]+) = (?P<value>.+)")
_TABLE = re.compile(r"\[(?P<name>[a-z.]+)\]")
_EXAMPLE = "#   "


@dataclass(frozen=True, slots=True)
class Table:
    """`[name]`, and what is said of it."""

    name: str
    words: str


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys that are explained together, with their defaults as they are written."""

    defaults: tuple[tuple[str, str], ...]
    words: str


@dataclass(frozen=True, slots=True)
class Words:
    """What is said of no key."""

    words: str


@dataclass(frozen=True, slots=True)
class Example:
    """To be copied as it is."""

    lines: tuple[str, ...]


Part = Table | Keys | Words | Example


def read_parts(toml: str) -> Iterator[Part]:
    """In the order of the file. ValueError for a line that is none of it, and for a key of which
    nothing is said."""
    body = toml.partition("\n\n")[2]  # the head is about the file
    for block in body.split("\n\n"):
        yield from _block(block.strip().split("\n"))


def _block(lines: list[str]) -> Iterator[Part]:
    words: list[str] = []
    example: list[str] = []
    defaults: list[tuple[str, str]] = []
    for line in lines:
        table, key = _TABLE.fullmatch(line), _KEY.fullmatch(line)
        if key is None and defaults:
            yield _keys(defaults, words)
            defaults, words = [], []
        if table is not None:
            yield Table(table["name"], " ".join(words))
            words = []
        elif key is not None:
            defaults.append((key["key"], key["value"]))
        elif line.startswith(_EXAMPLE):
            example.append(line.removeprefix(_EXAMPLE))
        elif line.startswith("# "):
            words.append(line.removeprefix("# "))
        else:
            raise ValueError(f"this is not understood: {line!r}")
    if defaults:
        yield _keys(defaults, words)
    elif words:
        yield Words(" ".join(words))
    if example:
        yield Example(tuple(example))


def _keys(defaults: list[tuple[str, str]], words: list[str]) -> Keys:
    if not words:
        raise ValueError(f"nothing is said of {defaults[0][0]}")
    return Keys(tuple(defaults), " ".join(words))
