# SPDX-License-Identifier: MulanPSL-2.0
"""Flags of `vllm serve` among a profile's own arguments: those it may not set, and one that has to
be known. Pure.

vLLM's parser is Python's argparse: it takes the beginning of a flag for the flag where no other
one begins so, and "_" for "-"; and of a flag that comes twice the last one counts, which is the
profile's.
"""

import re
from collections.abc import Sequence
from itertools import pairwise

# Whoever starts the engine and asks whether it works has to know them too: flag -> key.
OWN = {
    "--host": "listen",
    "--port": "port",
    "--tensor-parallel-size": "npus",
    "-tp": "npus",
    "--ssl-certfile": "tls_certificate",
    "--ssl-keyfile": "tls_key",
    "--served-model-name": "served_name",
    "--max-model-len": "vllm.max_model_len",
    "--enforce-eager": "vllm.enforce_eager",
    "--no-enforce-eager": "vllm.enforce_eager",
}
API_KEY = "--api-key"
API_KEY_LEAST = "--api"  # what is shorter begins --allowed-origins and others, too
SOCKET = "--uds"
REFRESH = "--enable-ssl-refresh"
BATCH = "--max-num-batched-tokens"
BATCH_LEAST = "--max-num-b"
# vLLM reads 64k as 64,000 and 64K as 65,536 (human_readable_int, vllm/engine/arg_utils.py).
NUMBER = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,9}))?([kmgKMG]?)")
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "K": 2**10, "M": 2**20, "G": 2**30}


def means(argument: str, flag: str, least: str = "") -> bool:
    """Whether it is `flag`, maybe with its value behind "=". What is shorter than `least` is not:
    by default also what begins several flags, which vLLM refuses itself."""
    name = _name(argument)
    return bool(name.strip("-")) and len(name) >= len(least) and flag.startswith(name)


def find_own(argument: str) -> str:
    """Which flag of the agent's own it is; empty when it is none."""
    exact = _name(argument)
    if exact in OWN:
        return exact
    return next((flag for flag in OWN if means(argument, flag)), "")


def batched_tokens(arguments: Sequence[str]) -> int:
    """How many tokens one step of the engine may read, as they say; 0 when they do not."""
    said = 0
    for argument, following in pairwise((*arguments, "")):
        if means(argument, BATCH, BATCH_LEAST):
            _, behind, value = argument.partition("=")
            said = _read_number(value if behind else following)
    return said


def _name(argument: str) -> str:
    return argument.partition("=")[0].replace("_", "-")


def _read_number(text: str) -> int:
    """0 for what is none: vLLM refuses it."""
    found = NUMBER.fullmatch(text)
    if found is None:
        return 0
    whole, part, unit = found.groups("0")
    return int(float(f"{whole}.{part}") * UNITS[unit])
