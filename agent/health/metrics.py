# SPDX-License-Identifier: MulanPSL-2.0
"""What the engine's /metrics say of its work: Prometheus text in, a few numbers out. Pure.

Names: vLLM's own (vllm/v1/metrics/loggers.py; measured with 0.32.0, facts: serving-health). An
engine of several cores has a line for each; they are added up.
"""

import math
import re
from dataclasses import dataclass

from agent.model import EngineWork

# A label's value may hold anything, also braces and blanks: the number is what stands last.
LINE = re.compile(
    rb"^vllm:(num_requests_running|num_requests_waiting|prompt_tokens_total"
    rb"|generation_tokens_total|request_success_total|num_preemptions_total|kv_cache_usage_perc"
    rb"|time_to_first_token_seconds_(?:count|sum))"
    rb"(?:\{.*\})? (\S+)$",
    re.MULTILINE,
)
# Without these it is not known how it works; the others may be missing.
NEEDED = (
    b"num_requests_running",
    b"num_requests_waiting",
    b"prompt_tokens_total",
    b"generation_tokens_total",
)

# Of vLLM 0.18: some 20 histograms of at most 40 buckets, for each engine of a host.
BLOCKS_LIMIT = 256
BLOCK_LIMIT_BYTES = 64 * 1024
ENDS = (b"_count", b"_sum")
NAME = re.compile(rb"[a-zA-Z_:][a-zA-Z0-9_:]*")
# What is shown of one that does not work.
COUNTERS = re.compile(rb"^vllm:\w+(?:\{.*\})? \S+$", re.MULTILINE)
COUNTERS_LIMIT_BYTES = 64 * 1024
LARGEST = 2.0**53  # what counts has no more; some of these can be added up


@dataclass(frozen=True, slots=True)
class Work:
    """What it has done, and what it has to do."""

    tokens: float  # prompt and generation, since its start
    requests: float  # running and waiting


def without_buckets(body: bytes) -> bytes:
    """Of an engine's 100 KiB some 10. To look at each line would cost, every 2 s and for each
    engine, as much as all else that the agent does; but the buckets of a histogram stand together,
    before its `_count` and `_sum` (prometheus_client, `Histogram.collect`)."""
    kept: list[bytes] = []
    begin = search = 0
    for _ in range(BLOCKS_LIMIT):
        if (found := body.find(b"_bucket{", search)) < 0:
            return b"".join((*kept, body[begin:]))
        line = body.rfind(b"\n", begin, found) + 1 or begin
        name = body[line:found]
        if not NAME.fullmatch(name):  # a comment, or somebody's label
            search = found + 1
            continue
        found_ends = (_find_near(body, b"\n" + name + word, found) for word in ENDS)
        if (end := min((one for one in found_ends if one >= 0), default=-1)) < 0:
            break
        kept.append(body[begin:line])
        begin = search = end + 1
    return b"".join((*kept, _line_by_line(body[begin:])))


def _find_near(body: bytes, what: bytes, since: int) -> int:
    return body.find(what, since, since + BLOCK_LIMIT_BYTES)


def _line_by_line(body: bytes) -> bytes:
    """It is none of vLLM's: whatever it is, it may cost no more than it is long."""
    names = ((one, one.partition(b"{")[0]) for one in body.split(b"\n"))
    left = (one for one, name in names if b"#" in name or not name.endswith(b"_bucket"))
    return b"\n".join(left)


def pick_counters(body: bytes) -> str:
    """All that it counts, one in a line; `body` without buckets."""
    return b"\n".join(COUNTERS.findall(body))[:COUNTERS_LIMIT_BYTES].decode(errors="replace")


def missing(body: bytes) -> tuple[str, ...]:
    """Of what `read_work` needs."""
    told = _read_numbers(body)
    return tuple(f"vllm:{name.decode()}" for name in NEEDED if not told.get(name))


def read_work(body: bytes) -> EngineWork | None:
    """None when it does not say: other text, or a number that is none. `body`: also without
    buckets."""
    told = _read_numbers(body)
    needed = [told.get(name) for name in NEEDED]
    if not all(needed):
        return None
    running, waiting, prompt, generation = (int(sum(numbers or ())) for numbers in needed)
    return EngineWork(
        running,
        waiting,
        prompt,
        generation,
        _sum(told.get(b"request_success_total")),
        _sum(told.get(b"num_preemptions_total")),
        max(told.get(b"kv_cache_usage_perc") or (), default=None),
        _sum(told.get(b"time_to_first_token_seconds_count")),
        sum(waits) if (waits := told.get(b"time_to_first_token_seconds_sum")) else None,
    )


def to_compare(work: EngineWork) -> Work:
    """The part by which it is seen whether it still works."""
    tokens = work.prompt_tokens + work.generation_tokens
    return Work(float(tokens), float(work.requests_running + work.requests_waiting))


def _read_numbers(body: bytes) -> dict[bytes, list[float]]:
    """By name, one of each core; none at all where one of them is none."""
    told: dict[bytes, list[float]] = {}
    odd: set[bytes] = set()
    for name, text in LINE.findall(body):
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        told.setdefault(name, []).append(number)
        if not abs(number) <= LARGEST:  # nor is NaN
            odd.add(name)
    return {name: numbers for name, numbers in told.items() if name not in odd}


def _sum(numbers: list[float] | None) -> int | None:
    return int(sum(numbers)) if numbers else None
