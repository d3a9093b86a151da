# SPDX-License-Identifier: MulanPSL-2.0
"""docs/fuzzing.md: how long each target has been fuzzed in all, and whether it goes further."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs/fuzzing.md"
HEAD = """# Fuzzing

What reads anything from outside of our processes is fuzzed with atheris (coverage-guided
libFuzzer), each with what must hold written beside it ([tests/fuzz](../tests/fuzz)): no exception
but the one that it may raise, what was read can be written and read again, no secret is left,
nothing is told of a chip that its bytes do not say. Kept inputs are in `tests/fuzz/corpus`, and
`make test` tries each of them. `make fuzz MINUTES=60` goes on, with one target `TARGET=`; it adds
to this page.

Edges: branches of our code that were reached. "New at": the minute of the last run in which the
last new one was; "-" is none.

| target | minutes of a processor | inputs | edges | last run, minutes | new at |
| --- | --- | --- | --- | --- | --- |
"""
ROW = re.compile(r"\| ([\w-]+) \| ([\d.]+) \| ([\d,]+) \| (\d+) \| ([\d.]+) \| ([\d.]+|-) \|")
REACHED = re.compile(r"#(\d+)\s+(?:INITED|NEW|REDUCE|RELOAD|DONE|pulse)\s+cov: (\d+) ")
EXECUTED = re.compile(r"stat::number_of_executed_units:\s+(\d+)$")


@dataclass(frozen=True, slots=True)
class Run:
    """One target, once. `new_at`: of its minutes; None when it went no further than it had been."""

    target: str
    minutes: float
    inputs: int
    edges: int
    new_at: float | None


@dataclass(frozen=True, slots=True)
class Total:
    minutes: float
    inputs: int
    last: Run


def read_run(target: str, minutes: float, lines: Iterable[str]) -> Run | None:
    """Of what libFuzzer prints; None when it was broken off."""
    edges, at, inputs, began_with = 0, 0, 0, 0
    for line in lines:
        if reached := REACHED.match(line):
            number, now = int(reached[1]), int(reached[2])
            began_with = began_with or now
            if now > edges:
                edges, at = now, number
        elif executed := EXECUTED.match(line):
            inputs = int(executed[1])
    if not inputs:
        return None
    new_at = minutes * at / inputs if edges > began_with else None
    return Run(target, minutes, inputs, edges, new_at)


def read_page(text: str) -> dict[str, Total]:
    totals = {}
    for target, minutes, inputs, edges, last, new_at in ROW.findall(text):
        run = Run(target, float(last), 0, int(edges), None if new_at == "-" else float(new_at))
        totals[target] = Total(float(minutes), int(inputs.replace(",", "")), run)
    return totals


def add(totals: dict[str, Total], run: Run) -> dict[str, Total]:
    before = totals.get(run.target)
    minutes, inputs = (before.minutes, before.inputs) if before else (0.0, 0)
    return {**totals, run.target: Total(minutes + run.minutes, inputs + run.inputs, run)}


def render(totals: dict[str, Total]) -> str:
    rows = [_row(target, total) for target, total in sorted(totals.items())]
    return HEAD + "".join(rows)


def _row(target: str, total: Total) -> str:
    last = total.last
    new_at = "-" if last.new_at is None else f"{last.new_at:.1f}"
    cells = (target, f"{total.minutes:.1f}", f"{total.inputs:,}", last.edges)
    return f"| {' | '.join(map(str, (*cells, f'{last.minutes:.1f}', new_at)))} |\n"


def record(run: Run, page: Path = PAGE) -> None:
    totals = read_page(page.read_text(encoding="utf-8")) if page.exists() else {}
    page.write_text(render(add(totals, run)), encoding="utf-8")
