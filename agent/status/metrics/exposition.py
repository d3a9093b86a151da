# SPDX-License-Identifier: MulanPSL-2.0
"""Prometheus' text format 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats)."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

PREFIX = "deepseek_agent_"

Seen = TypeVar("Seen")


class Kind(StrEnum):
    """What a number is."""

    GAUGE = "gauge"
    COUNTER = "counter"  # only grows, but for a new beginning


@dataclass(frozen=True, slots=True)
class Sample:
    """One number."""

    value: float
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Family(Generic[Seen]):
    """All numbers of one name, which goes without the prefix; `read` finds them in what is seen.
    What is not known has no sample: a 0 would be an answer."""

    name: str
    kind: Kind
    summary: str
    read: Callable[[Seen], Iterable[Sample]]


def sample(value: float | None, **labels: object) -> Iterator[Sample]:
    """None when there is no number."""
    if value is not None and math.isfinite(value):
        yield Sample(value, {name: str(label) for name, label in labels.items()})


def one_of(words: Iterable[str], true: str, label: str, **labels: object) -> Iterator[Sample]:
    """A series for each of `words`: 1 for the one that is true, 0 for the others."""
    for word in words:
        yield from sample(word == true, **labels, **{label: word})


def expose(family: Family[Seen], samples: Iterable[Sample]) -> Iterator[str]:
    """Its lines; none when there is no sample."""
    name = PREFIX + family.name
    head = [f"# HELP {name} {_escape(family.summary)}", f"# TYPE {name} {family.kind}"]
    for one in samples:
        yield from head
        head = []
        yield f"{name}{_labels(one.labels)} {_number(one.value)}"


def _labels(labels: Mapping[str, str]) -> str:
    pairs = (f'{name}="{_quoted(text)}"' for name, text in labels.items())
    return f"{{{','.join(pairs)}}}" if labels else ""


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _quoted(text: str) -> str:
    return _escape(text).replace('"', '\\"')


def _number(value: float) -> str:
    """Without an exponent where it is whole: what was counted in bytes stays readable."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))
