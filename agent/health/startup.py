# SPDX-License-Identifier: MulanPSL-2.0
"""Reads from the engine's log how far a start has come. Pure: a line in, a `StartProgress` out.

The words are those of vLLM 0.8 to 0.32 and vllm-ascend, as seen in a real one for CPUs and in logs
that people have shown. They are no interface: a line that nobody knows is no news, never trouble.
"""

import re

from agent.model import StartProgress, Step

ORDER = tuple(Step)

# A bar of tqdm: " 45% Completed | 5/11 [" (weights), " 45%|####   | 5/11 [" (graphs).
_BAR = re.compile(r"(?P<percent>\d{1,3})%[^0-9\r\n]{1,120}(?P<done>\d{1,7})/(?P<total>\d{1,7}) ?\[")

# The first that fits is taken. No backtracking over more than a few characters in any of them.
_SIGNS: tuple[tuple[Step, re.Pattern[str]], ...] = (
    (
        Step.LISTENING,
        re.compile(
            r"Started server process|Waiting for application startup"
            r"|Application startup complete|Uvicorn running on"
        ),
    ),
    (Step.WEIGHTS, re.compile(r"Loading (?:\w+ ){1,3}shards:")),
    (Step.WEIGHTS, re.compile(r"Starting to load model|Loading model from scratch")),
    (Step.WEIGHTS, re.compile(r"Loading (?:model )?weights took|Model loading took")),
    (
        Step.CAPTURING,
        re.compile(
            r"Capturing (?:\w+ ){0,2}graphs?\b|Capturing the model for"
            r"|Graph capturing (?:finished|takes)|init engine \(profile, create kv cache"
        ),
    ),
    (
        Step.MEMORY,
        re.compile(
            r"Memory profiling takes|Available KV cache memory|Available memory: \d"
            r"|\wPU KV cache size|Maximum concurrency for|# \wPU blocks|# cuda blocks"
            r"|Profiling (?:\w+ ){0,2}graph memory"
        ),
    ),
    (
        Step.COMPILING,
        re.compile(
            r"Dynamo bytecode transform|Compiling a graph for|torch\.compile (?:takes|took)"
            r"|torch_compile_cache|Directly load (?:the|AOT) compil|Warming up model for"
        ),
    ),
    (
        Step.ENGINE,
        re.compile(
            r"vLLM API server version|non-default args:|Initializing an? (?:V\d )?LLM engine"
            r"|Automatically detected platform|Platform plugin \w+ is activated"
            r"|Resolved architecture"
        ),
    ),
)
# What is told when all of it is there: no bar may have been seen.
_WEIGHTS_DONE = re.compile(r"Loading (?:model )?weights took|Model loading took")


def read_line(line: str) -> StartProgress | None:
    """What `line` tells; None when that is nothing."""
    for step, sign in _SIGNS:
        if sign.search(line):
            return _within(step, line)
    return None


def advance(so_far: StartProgress, line: str) -> StartProgress:
    """With `line` read. A step is never gone back to: several processes write this log."""
    read = read_line(line)
    if read is None or ORDER.index(read.step) < ORDER.index(so_far.step):
        return so_far
    if read.step is so_far.step and read.percent is None:
        return so_far
    return read


def is_as_far(progress: StartProgress, other: StartProgress) -> bool:
    """Whether `progress` is not behind `other`."""
    ours, theirs = (
        (ORDER.index(one.step), -1 if one.percent is None else one.percent)
        for one in (progress, other)
    )
    return ours >= theirs


def _within(step: Step, line: str) -> StartProgress:
    bar = _BAR.search(line)
    if bar is not None:
        done, total = int(bar["done"]), int(bar["total"])
        return StartProgress(step, min(int(bar["percent"]), 100), done, total)
    if step is Step.WEIGHTS and _WEIGHTS_DONE.search(line):
        return StartProgress(step, 100)
    return StartProgress(step)
