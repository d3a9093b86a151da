# SPDX-License-Identifier: MulanPSL-2.0
"""Tables of numbers, as text and for docs/performance.md."""

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Table:
    """`header` and `rows` have as many cells."""

    title: str
    note: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def markdown(self) -> str:
        lines = [self.header, tuple("---" for _ in self.header), *self.rows]
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return f"## {self.title}\n\n{self.note}\n\n{table}\n"


def runs(values: Sequence[float]) -> tuple[str, str]:
    """The median, and all of them."""
    return f"{statistics.median(values):.2f}", " ".join(f"{value:.2f}" for value in values)


def machine() -> str:
    """What the numbers are from, in a line."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    model = next(models, platform.processor() or "unknown processor")
    return (
        f"{os.cpu_count()} cores of {model} ({platform.machine()}), {memory:.0f} GiB, "
        f"Linux {platform.release().partition('-')[0]}"
    )
