# SPDX-License-Identifier: MulanPSL-2.0
"""The language of deepseekctl: English text in, the same text out, or its Chinese.

English is written where it is said, and is the key of the tables in `agent/chinese`, which are
loaded only for somebody who wants Chinese. The agent itself never asks for them: its journal, its
events and its JSON stay English (ADR 17). The one state of a process here, as a locale is.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

HOLES = re.compile(r"\{\d+\}")
COLON = ": "
ANYTHING, NO_COLON = "(.*?)", "((?:(?!: ).)*?)"


class Language(StrEnum):
    """What there is."""

    ENGLISH = "en"
    CHINESE = "zh"


@dataclass(frozen=True, slots=True)
class Tables:
    """What a language has for English text."""

    texts: Mapping[str, str]  # of deepseekctl itself; values have names
    words: Mapping[str, str]  # of states
    meanings: Mapping[str, str]  # of failure codes, kinds of events and checks, in a few words
    templates: Mapping[str, str]  # of messages that come whole; values have numbers


ENGLISH = Tables({}, {}, {}, {})
_spoken = ENGLISH


def choose_language(environment: Mapping[str, str]) -> Language:
    """By the variables that tell it to all programs, in the order of locale(7)."""
    names = ("LC_ALL", "LC_MESSAGES", "LANG")
    wanted = next((environment[name] for name in names if environment.get(name)), "").lower()
    is_chinese = re.match(r"zh(?![a-z])", wanted) is not None
    return Language.CHINESE if is_chinese else Language.ENGLISH


def speak(language: Language) -> None:
    """From now on, in this process."""
    global _spoken
    if language is Language.CHINESE:
        from agent.chinese.tables import CHINESE  # its size is for those who want it

        _spoken = CHINESE
    else:
        _spoken = ENGLISH
    _with_holes.cache_clear()


def spoken() -> Language:
    return Language.ENGLISH if _spoken is ENGLISH else Language.CHINESE


def tr(text: str, **values: object) -> str:
    """A text of deepseekctl; {names} in it stand for `values`."""
    said = _spoken.texts.get(text, text)
    return said.format(**values) if values else said


def word(state: str) -> str:
    """The word for a state; one of a newer agent stays as it is."""
    return _spoken.words.get(state, str(state))


def meaning(name: str) -> str:
    """A sentence for a failure code or a kind of event; empty in English, where its message, which
    is English always, says it all."""
    return _spoken.meanings.get(name, "")


def translate(message: str) -> str:
    """A message or hint that came whole, by the template that it was made of; else as it is."""
    templates = _spoken.templates
    if not templates or not message:
        return message
    if message in templates:
        return templates[message]
    for template in _with_holes():
        if all(part in message for part in template.parts):
            found = re.fullmatch(template.pattern, message, re.DOTALL)
            if found is not None:
                return template.said.format(*map(translate, found.groups()))
    return message


@dataclass(frozen=True, slots=True)
class _Template:
    """A message with values, and what is said for it."""

    parts: tuple[str, ...]  # between the values
    pattern: str
    said: str


@cache
def _with_holes() -> tuple[_Template, ...]:
    """The most telling first."""
    found = ((tuple(HOLES.split(key)), said) for key, said in _spoken.templates.items())
    made = [_Template(parts, _pattern(parts), said) for parts, said in found if len(parts) > 1]
    return tuple(sorted(made, key=lambda one: len("".join(one.parts)), reverse=True))


def _pattern(parts: tuple[str, ...]) -> str:
    """In "cannot use {0} {1}: {2}" the first colon of a message ends what cannot be done: else
    "cannot use a file: it is too old: see b" would fit, with "a" and "file: it is too old"."""
    first, *others = parts
    pattern = re.escape(first)
    is_failure = first.startswith("cannot ") and COLON not in first
    before_colon = is_failure and any(COLON in part for part in others)
    for part in others:
        pattern += NO_COLON if before_colon else ANYTHING
        pattern += re.escape(part)
        before_colon = before_colon and COLON not in part
    return pattern
