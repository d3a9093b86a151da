# SPDX-License-Identifier: MulanPSL-2.0
"""The text of /metrics: in the counters, out Prometheus text with vLLM's names. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

FINISH_REASONS = ("stop", "length", "abort", "error")


@dataclass(frozen=True, slots=True)
class Counters:
    running: int
    waiting: int
    prompt_tokens: int
    generation_tokens: int
    finished: Mapping[str, int]


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


def _metric(name: str, kind: str, text: str, samples: Mapping[str, int]) -> Iterator[str]:
    yield f"# HELP vllm:{name} {text}"
    yield f"# TYPE vllm:{name} {kind}"
    for labels, value in samples.items():
        yield f"vllm:{name}{{{labels}}} {float(value)}"


def _escape(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
