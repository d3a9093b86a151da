# SPDX-License-Identifier: MulanPSL-2.0
"""Flags of `vllm serve` among a profile's own arguments: those it may not set, and those that have
to be known. Pure.

vLLM's parser is Python's argparse: it takes the beginning of a flag for the flag where no other
one begins so, and "_" for "-"; and of a flag that comes twice the last one counts, which is the
profile's.
"""

import re
from collections.abc import Sequence
from itertools import takewhile

# Whoever starts the engine and asks whether it works has to know them too: flag -> the shortest
# beginning that is taken for it, and the key. What is shorter may begin others, too; then vLLM
# refuses it itself.
OWN = {
    "--host": ("--hos", "listen"),
    "--port": ("--por", "port"),
    "--tensor-parallel-size": ("--tensor", "npus"),
    "-tp": ("-t", "npus"),
    "--ssl-certfile": ("--ssl-certf", "tls_certificate"),
    "--ssl-keyfile": ("--ssl-k", "tls_key"),
}
API_KEY, API_KEY_LEAST = "--api-key", "--api"
SOCKET = "--uds"
NAMES, NAMES_LEAST = "--served-model-name", "--ser"
LENGTH, LENGTH_LEAST = "--max-model-len", "--max-mo"
BATCH, BATCH_LEAST = "--max-num-batched-tokens", "--max-num-b"
EAGER, EAGER_LEAST = "--enforce-eager", "--enf"
NO_EAGER, NO_EAGER_LEAST = "--no-enforce-eager", "--no-enf"
# vLLM reads 64k as 64,000 and 64K as 65,536 (human_readable_int, vllm/engine/arg_utils.py).
NUMBER = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,9}))?([kmgKMG]?)")
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "K": 2**10, "M": 2**20, "G": 2**30}
# "auto" is as much as fits, up to what the model was made for (human_readable_int_or_auto, there).
WHAT_FITS = ("-1", "auto")
WHAT_FITS_TOKENS = 131_072  # what the DeepSeek-R1 distillates were made for


def means(argument: str, flag: str, least: str) -> bool:
    """Whether it is `flag`, or its beginning from `least` on, maybe with a value behind "="."""
    name = argument.partition("=")[0].replace("_", "-")
    return len(name) >= len(least) and flag.startswith(name)


def find_own(argument: str) -> str:
    """Which flag of the agent's own it is; empty when it is none."""
    return next((flag for flag, (least, _) in OWN.items() if means(argument, flag, least)), "")


def served_names(arguments: Sequence[str]) -> tuple[str, ...]:
    """The names that a request may use, as they say; empty when they do not."""
    return _values(arguments, NAMES, NAMES_LEAST)


def longest_prompt(arguments: Sequence[str]) -> int:
    """How many tokens it may have, as they say; 0 when they do not."""
    said = "".join(_values(arguments, LENGTH, LENGTH_LEAST)[:1])
    return WHAT_FITS_TOKENS if said.lower() in WHAT_FITS else _read_number(said)


def batched_tokens(arguments: Sequence[str]) -> int:
    """How many tokens one step of the engine may read, as they say; 0 when they do not."""
    return _read_number("".join(_values(arguments, BATCH, BATCH_LEAST)[:1]))


def is_eager(arguments: Sequence[str], otherwise: bool) -> bool:
    """Whether the engine compiles nothing; `otherwise` when they do not say. argparse lets neither
    flag have a value."""
    eager = otherwise
    for argument in arguments:
        if means(argument, EAGER, EAGER_LEAST):
            eager = True
        elif means(argument, NO_EAGER, NO_EAGER_LEAST):
            eager = False
    return eager


def _values(arguments: Sequence[str], flag: str, least: str) -> tuple[str, ...]:
    """What the last `flag` has: behind its "=", or up to the next flag."""
    values: tuple[str, ...] = ()
    for index, argument in enumerate(arguments):
        if means(argument, flag, least):
            _, behind, value = argument.partition("=")
            following = takewhile(_is_value, arguments[index + 1 :])
            values = (value,) if behind else tuple(following)
    return values


def _is_value(argument: str) -> bool:
    return not argument.startswith("-") or argument in WHAT_FITS


def _read_number(text: str) -> int:
    """0 for what is none: vLLM refuses it."""
    found = NUMBER.fullmatch(text)
    if found is None:
        return 0
    whole, part, unit = found.groups("0")
    return int(float(f"{whole}.{part}") * UNITS[unit])
