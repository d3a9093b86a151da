# SPDX-License-Identifier: MulanPSL-2.0
"""Words of a command line -> options, and help in the language of whoever asks for it."""

import argparse
import os
from collections.abc import Sequence

from agent.cells import wrap
from agent.language import Language, choose_language, speak, spoken, tr
from agent.terminal import write_anything


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """In the language of whoever asks, from here on; what is for machines is in English always."""
    speak(choose_language(os.environ))
    if spoken() is not Language.ENGLISH:
        write_anything()
        vars(argparse)["_"] = tr  # its own words; gettext would want files, and a place for them
        translate_help(parser)
    options = parser.parse_args(arguments)
    if getattr(options, "json", False):
        speak(Language.ENGLISH)
    return options


def translate_help(parser: argparse.ArgumentParser) -> None:
    """All that it says of itself, and of its verbs."""
    parser.formatter_class = _Help
    parser.description = parser.description and tr(parser.description)
    for group in parser._action_groups:  # argparse named them when the parser was made
        group.title = group.title and tr(group.title)
    for action in parser._actions:
        if action.help and action.help != argparse.SUPPRESS:
            action.help = tr(action.help)
        if isinstance(action, argparse._SubParsersAction):
            for shown in action._choices_actions:
                shown.help = shown.help and tr(shown.help)
            for below in action.choices.values():
                translate_help(below)


class _Help(argparse.HelpFormatter):
    """Chinese has no blanks to break a line at, and is twice as wide."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return wrap(text, width)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(indent + line for line in wrap(text, width))
