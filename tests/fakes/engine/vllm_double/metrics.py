# SPDX-License-Identifier: MulanPSL-2.0
"""The text of /metrics: in the counters, out Prometheus text with vLLM's names. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

ROOM_FOR = 64  # requests, in a KV cache whose use is only a guess here
FINISH_REASONS = ("stop", "length", "abort", "error")


@dataclass(frozen=True, slots=True)
class Counters:
    running: int
    waiting: int
    prompt_tokens: int
    generation_tokens: int
    finished: Mapping[str, int]
    first_tokens: int
    first_token_wait_s: float


def render_metrics(counters: Counters, model_name: str) -> str:
    labels = f'engine="0",model_name="{_escape(model_name)}"'
    return "".join(f"{line}\n" for line in _lines(counters, labels))


def _lines(counters: Counters, labels: str) -> Iterator[str]:
    yield from _metric(
        "num_requests_running",
        "gauge",
        "Number of requests in model execution batches.",
        {labels: counters.running},
    )
    yield from _metric(
        "num_requests_waiting",
        "gauge",
        "Number of requests waiting to be processed.",
        {labels: counters.waiting},
    )
    yield from _metric(
        "prompt_tokens_total",
        "counter",
        "Number of prefill tokens processed.",
        {labels: counters.prompt_tokens},
    )
    yield from _metric(
        "generation_tokens_total",
        "counter",
        "Number of generation tokens processed.",
        {labels: counters.generation_tokens},
    )
    yield from _metric(
        "request_success_total",
        "counter",
        "Count of successfully processed requests.",
        {
            f'{labels},finished_reason="{reason}"': counters.finished.get(reason, 0)
            for reason in FINISH_REASONS
        },
    )
    yield from _metric(
        "kv_cache_usage_perc",
        "gauge",
        "KV-cache usage. 1 means 100 percent usage.",
        {labels: min(1.0, counters.running / ROOM_FOR)},
    )
    yield from _first_tokens(counters, labels)


def _first_tokens(counters: Counters, labels: str) -> Iterator[str]:
    """A histogram, of which one bucket does."""
    name = "vllm:time_to_first_token_seconds"
    yield f"# HELP {name} Histogram of time to first token in seconds."
    yield f"# TYPE {name} histogram"
    yield f'{name}_bucket{{{labels},le="+Inf"}} {float(counters.first_tokens)}'
    yield f"{name}_count{{{labels}}} {float(counters.first_tokens)}"
    yield f"{name}_sum{{{labels}}} {counters.first_token_wait_s}"


def _metric(name: str, kind: str, text: str, samples: Mapping[str, float]) -> Iterator[str]:
    yield f"# HELP vllm:{name} {text}"
    yield f"# TYPE vllm:{name} {kind}"
    for labels, value in samples.items():
        yield f"vllm:{name}{{{labels}}} {float(value)}"


def _escape(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
