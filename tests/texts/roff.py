# SPDX-License-Identifier: MulanPSL-2.0
"""Markdown, as much of it as manual pages need -> man(7). What is not understood is refused. Pure.

Build hosts have no tool for it that all of openEuler has.
"""

import re
from collections.abc import Iterator

_TITLE = re.compile(r"# (?P<name>[\w.-]+)\((?P<section>\d)\) -- (?P<about>.+)")
_REFUSED = re.compile(r"\||<|\d+\. |> |#{4,}|!\[")


def to_roff(text: str) -> str:
    title, *blocks = re.split(r"\n{2,}", text.strip())
    found = _TITLE.fullmatch(title)
    if found is None:
        raise ValueError(f"this is no title: {title!r}")
    name, about = found["name"], _inline(found["about"])
    lines = [
        '.\\" SPDX-License-Identifier: MulanPSL-2.0',
        '.\\" Made by `make texts`; do not edit.',
        f'.TH "{name.upper()}" "{found["section"]}" "" "deepseek-agent" ""',
        ".nh",
        ".ad l",
        ".SH NAME",
        f"{_escape(name)} \\- {about}",
    ]
    for block in _whole(blocks):
        lines += _block(block)
    return "\n".join(lines) + "\n"


def _whole(blocks: list[str]) -> Iterator[str]:
    """Code with empty lines in it is one block."""
    held: list[str] = []
    for block in blocks:
        held.append(block)
        joined = "\n\n".join(held)
        if joined.count("```") % 2 == 0:
            yield joined
            held = []
    if held:
        raise ValueError(f"this code has no end: {held[0]!r}")


def _block(block: str) -> Iterator[str]:
    first, *rest = block.split("\n")
    if first.startswith("```"):
        yield from (".PP", ".RS 4", ".EX", *map(_escape, rest[:-1]), ".EE", ".RE")
    elif first.startswith("### "):
        yield f'.SS "{_inline(first[4:])}"'
        yield from _block("\n".join(rest)) if rest else ()
    elif first.startswith("## "):
        yield f'.SH "{_inline(first[3:])}"'
        yield from _block("\n".join(rest)) if rest else ()
    elif first.startswith("* "):
        for item in re.split(r"\n(?=\* )", block):
            yield from (".IP \\(bu 2", _inline(_flow(item[2:])))
    elif rest and any(line.startswith(": ") for line in rest):
        yield from _definition(block)
    elif _REFUSED.match(first):
        raise ValueError(f"this is not understood: {first!r}")
    else:
        yield from (".PP", _inline(_flow(block)))


def _definition(block: str) -> Iterator[str]:
    """Terms, a line each, and ": " with what they are."""
    terms, _, text = block.partition("\n: ")
    first, *others = terms.split("\n")
    yield from (".TP", _inline(first))
    for term in others:
        yield from (".TQ", _inline(term))
    yield _inline(_flow(text))


def _flow(text: str) -> str:
    return " ".join(line.strip() for line in text.split("\n"))


def _inline(text: str) -> str:
    """`code` and **strong** are bold, *words* and links italic, as man-pages(7) has them."""
    parts = re.split(r"(`[^`]+`|\*\*[^*]+\*\*|\*[^*\s][^*]*\*|\[[^\]]+\]\([^)]+\))", text)
    return _guard("".join(map(_part, parts)))


def _part(part: str) -> str:
    if part.startswith("`") and part.endswith("`") and len(part) > 2:
        return f"\\fB{_characters(part[1:-1])}\\fR"
    if part.startswith("**"):
        return f"\\fB{_characters(part[2:-2])}\\fR"
    if part.startswith("*") and len(part) > 2:
        return f"\\fI{_characters(part[1:-1])}\\fR"
    if part.startswith("[") and part.endswith(")") and "](" in part:
        return f"\\fI{_characters(part[1 : part.index(']')])}\\fR"
    return _characters(part)


def _escape(line: str) -> str:
    return _guard(_characters(line))


def _characters(text: str) -> str:
    """A hyphen as typed: commands are copied. And no quote that ends an argument of a macro."""
    return text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")


def _guard(line: str) -> str:
    return f"\\&{line}" if line.startswith((".", "'")) else line
