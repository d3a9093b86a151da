# SPDX-License-Identifier: MulanPSL-2.0
"""The manual pages: what is written by hand in docs/man, with all commands of the parsers and all
settings of etc/agent.toml in their places."""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import assert_never

from .parsers import help_of, leaves, verbs_of, whole_parser
from .roff import to_roff
from .settings import Example, Keys, Part, Table, Words, read_parts

FOLDER = "docs/man"
COMMANDS, SETTINGS = "<!-- commands -->", "<!-- settings -->"


def pages(tree: Path) -> dict[str, str]:
    """Path below the tree -> man(7)."""
    settings = (tree / "etc/agent.toml").read_text(encoding="utf-8")
    made = {COMMANDS: commands(whole_parser()), SETTINGS: settings_text(settings)}
    found = {}
    for source in sorted((tree / FOLDER).glob("*.md")):
        text = source.read_text(encoding="utf-8")
        text = re.sub(r"\A<!-- SPDX.*?-->\s*", "", text)
        for mark, words in made.items():
            text = text.replace(mark, words)
        found[f"{FOLDER}/{source.stem}"] = to_roff(text)
    return found


# --- commands ------------------------------------------------------------------------------------


def commands(parser: argparse.ArgumentParser) -> str:
    """A paragraph for each verb, with its options."""
    verbs, about = verbs_of(parser), help_of(parser)
    assert verbs is not None
    return "\n\n".join(
        text for verb, one in verbs.choices.items() for text in _command(verb, one, about[verb])
    )


def _command(verb: str, parser: argparse.ArgumentParser, about: str) -> Iterator[str]:
    below = help_of(parser) if verbs_of(parser) is not None else {}
    for leaf in leaves(parser):
        name = leaf.prog.split()[-1]
        said = below.get(name, about)
        arguments = [one for one in leaf._actions if _is_shown(one)]
        words = " ".join(_usage(one) for one in arguments)
        title = f"{verb} {name}" if name in below else verb
        yield f"### {title} {words}".rstrip()
        yield _sentence(said)
        for action in arguments:
            if text := _help(action):
                term = ", ".join(f"`{one}`" for one in action.option_strings)
                value = _value(action)
                shown = f"{term} {value}".strip() if term else value
                yield f"{shown}\n: {_sentence(text)}"


def _is_shown(action: argparse.Action) -> bool:
    return action.help != argparse.SUPPRESS and not isinstance(action, argparse._HelpAction)


def _usage(action: argparse.Action) -> str:
    value = _value(action)
    if not action.option_strings:
        return f"[{value}]" if action.nargs == "?" else value
    words = f"{action.option_strings[0]} {value}".strip()
    return words if action.required else f"[{words}]"


def _value(action: argparse.Action) -> str:
    """What stands for it."""
    if action.nargs == 0:
        return ""
    if action.choices is not None:
        return "|".join(map(str, action.choices))
    word = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    return f"{word}..." if action.nargs == "+" else word


def _help(action: argparse.Action) -> str:
    return (action.help or "") % {"default": action.default} if action.help else ""


def _sentence(text: str) -> str:
    """A line of a help as a sentence; "*" is no emphasis here."""
    words = text.replace("*", "\\*") if text.count("*") > 1 else text
    return f"{words[0].upper()}{words[1:]}." if words else ""


# --- settings ------------------------------------------------------------------------------------


def settings_text(toml: str) -> str:
    """A section for each table; the comments above a key are its text."""
    return "\n\n".join(text for part in read_parts(toml) for text in _setting(part))


def _setting(part: Part) -> Iterator[str]:
    match part:
        case Table(name, words):
            yield f"### [{name}]"
            if words:
                yield words
        case Keys(defaults, words):
            terms = "\n".join(f"`{key}` = {default}" for key, default in defaults)
            yield f"{terms}\n: {words}"
        case Words(words):
            yield words
        case Example(lines):
            yield "\n".join(("```", *lines, "```"))
        case _:
            assert_never(part)
