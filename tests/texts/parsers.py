# SPDX-License-Identifier: MulanPSL-2.0
"""All of deepseekctl as one parser: verbs that are processes of their own have theirs elsewhere."""

import argparse
import importlib
from collections.abc import Iterator

from agent import cli

IMAGE_MODULE = "agent.image_build"


def whole_parser() -> argparse.ArgumentParser:
    parser = cli._parser()
    verbs = verbs_of(parser)
    assert verbs is not None
    others = {verb: module for verb, (module, _) in cli.OTHERS.items()}
    for verb, module in {**others, cli.IMAGE: IMAGE_MODULE}.items():
        verbs.choices[verb] = _parser_of(module, verb)
    return parser


def verbs_of(
    parser: argparse.ArgumentParser,
) -> "argparse._SubParsersAction[argparse.ArgumentParser] | None":
    found = (one for one in parser._actions if isinstance(one, argparse._SubParsersAction))
    return next(found, None)


def leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Those that take no further verb, in the order of their help."""
    verbs = verbs_of(parser)
    if verbs is None:
        yield parser
        return
    for one in verbs.choices.values():
        yield from leaves(one)


def help_of(parser: argparse.ArgumentParser) -> dict[str, str]:
    """Verb -> its line."""
    verbs = verbs_of(parser)
    assert verbs is not None
    return {one.dest: one.help or "" for one in verbs._choices_actions}


def _parser_of(module: str, verb: str) -> argparse.ArgumentParser:
    """`_parser()` of a module, or of a package's __main__: for its verb alone, or for several."""
    found = importlib.import_module(module)
    if hasattr(found, "__path__"):
        found = importlib.import_module(f"{module}.__main__")
    parser: argparse.ArgumentParser = found._parser()
    verbs = verbs_of(parser)
    return verbs.choices[verb] if verbs is not None and verb in verbs.choices else parser
