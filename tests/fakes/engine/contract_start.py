# SPDX-License-Identifier: MulanPSL-2.0
"""What a vLLM server says and does before it serves: the lines of a start that goes well, and the
command lines that it refuses. Seen on vLLM 0.32 (its build for CPUs); the double has to do so, too.
"""

import re
from dataclasses import dataclass

# Of a start that goes well, in this order; those that stand together come in any: the bar and the
# log have ways of their own (seen both ways). What stands before them on the line, another version
# may say otherwise.
START_LINES = (
    (r"Starting to load model",),
    (r"Loading safetensors checkpoint shards: +0% Completed \| 0/\d+ ",),
    (
        r"Loading safetensors checkpoint shards: 100% Completed \| (\d+)/\1 ",
        r"Loading weights took \d+\.\d+ seconds",
    ),
    (r"Starting vLLM .*server.* on http://\S+:\d+",),
    (r"INFO: +Started server process \[\d+\]",),
    (r"INFO: +Application startup complete\.",),
)


@dataclass(frozen=True, slots=True)
class StartFailure:
    """A command line that ends before it loads, with this status and these words."""

    flag: str
    status: int
    words: str


START_FAILURES = (
    StartFailure("--no-such-flag", 2, "error: unrecognized arguments: --no-such-flag"),
    StartFailure("--dtype=float15", 2, "error: argument --dtype: invalid choice: 'float15'"),
    StartFailure(
        "--max-model-len=9999999",
        1,
        "User-specified max_model_len (9999999) is greater than the derived max_model_len",
    ),
)


def missing_start_lines(log: str) -> list[str]:
    """Patterns that no line has after the lines of those before."""
    missing, at = [], 0
    for together in START_LINES:
        found = [re.compile(pattern).search(log, at) for pattern in together]
        missing += [pattern for pattern, one in zip(together, found, strict=True) if one is None]
        at = max([at, *(one.end() for one in found if one is not None)])
    return missing
