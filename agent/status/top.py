# SPDX-License-Identifier: MulanPSL-2.0
"""What models and NPUs do right now, as text. Pure."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from agent.cells import columns
from agent.language import tr, word
from agent.model import EngineWork
from agent.status.npus import say_user, with_unit
from agent.status.page import PLAIN, Look, Row, Tone, lay_out
from agent.status.snapshot import InstanceView, NpusAnswer, NpuView, Snapshot
from agent.status.verdict import serves_well, verdict
from agent.wording import meter

WINDOW_S = 10.0  # an engine is asked every 2 s: shorter ones would jump
METER_CELLS = 10
UNKNOWN = "-"
NUMBERS = range(2, 8)  # columns of the models' table


@dataclass(frozen=True, slots=True)
class Pace:
    """Of one engine, over the last moments. None: nobody asked it anything, or it does not say."""

    generated_per_s: float
    read_per_s: float
    first_token_s: float | None


@dataclass(frozen=True, slots=True)
class _Seen:
    at: float
    since: float
    work: EngineWork


def pace(before: EngineWork, after: EngineWork, seconds: float) -> Pace:
    """From two looks at the same engine."""
    wait_s = None
    if None not in (before.first_tokens, after.first_tokens):
        begun = (after.first_tokens or 0) - (before.first_tokens or 0)
        waited_s = (after.first_token_wait_s or 0.0) - (before.first_token_wait_s or 0.0)
        wait_s = waited_s / begun if begun else None
    return Pace(
        (after.generation_tokens - before.generation_tokens) / seconds,
        (after.prompt_tokens - before.prompt_tokens) / seconds,
        wait_s,
    )


@dataclass
class Paces:
    """Of all engines, from one snapshot after the other."""

    _seen: dict[str, deque[_Seen]] = field(default_factory=dict)

    def take(self, snapshot: Snapshot) -> None:
        self._seen = {
            view.name: self._extended(view, view.work, snapshot.at)
            for view in snapshot.instances
            if view.work is not None
        }

    def _extended(self, view: InstanceView, work: EngineWork, at: float) -> deque[_Seen]:
        seen = self._seen.get(view.name, deque())
        latest = _Seen(at, view.since, work)
        if seen and not _continues(seen[-1], latest):
            seen = deque()
        if not seen or at > seen[-1].at:
            seen.append(latest)
        while len(seen) > 2 and at - seen[1].at >= WINDOW_S:
            seen.popleft()
        return seen

    def of(self, name: str) -> Pace | None:
        """None while there was but one look at it."""
        seen = self._seen.get(name, deque())
        if len(seen) < 2:
            return None
        first, last = seen[0], seen[-1]
        return pace(first.work, last.work, last.at - first.at)


def _continues(before: _Seen, after: _Seen) -> bool:
    """The same engine: another one counts from nothing."""
    counts = (
        (before.work.generation_tokens, after.work.generation_tokens),
        (before.work.prompt_tokens, after.work.prompt_tokens),
        (before.work.first_tokens or 0, after.work.first_tokens or 0),
    )
    grows = all(earlier <= later for earlier, later in counts)
    return before.since == after.since and before.at <= after.at and grows


def show_top(snapshot: Snapshot, npus: NpusAnswer, paces: Paces, look: Look = PLAIN) -> str:
    """One page."""
    return lay_out(_rows(snapshot, npus, paces), look)


def _rows(snapshot: Snapshot, npus: NpusAnswer, paces: Paces) -> Iterator[Row]:
    at = datetime.fromtimestamp(snapshot.at).astimezone()
    yield Row("", tr("{time}, the last {seconds:.0f} s", time=f"{at:%H:%M:%S}", seconds=WINDOW_S))
    yield verdict(snapshot)
    yield Row("", "")
    yield from _models(snapshot, paces)
    yield Row("", "")
    yield from _npus(npus)


def _models(snapshot: Snapshot, paces: Paces) -> Iterator[Row]:
    views = [view for view in snapshot.instances if view.wished or view.work is not None]
    if not views:
        return
    head = (
        tr("model"),
        tr("state"),
        tr("out tok/s"),
        tr("in tok/s"),
        tr("running"),
        tr("waiting"),
        tr("KV cache"),
        tr("first token"),
    )
    lines = columns([head, *(_model(view, paces.of(view.name)) for view in views)], NUMBERS)
    yield Row("", lines[0], fixed=True)
    for view, line in zip(views, lines[1:], strict=True):
        name = line[: len(view.name)]
        tone = Tone.WELL if serves_well(view) else Tone.WORRY
        yield Row(name, line.removeprefix(name), tone, fixed=True)


def _model(view: InstanceView, rates: Pace | None) -> tuple[str, ...]:
    work = view.work
    ratio = None if work is None else work.kv_cache_ratio
    return (
        view.name,
        word(view.phase),
        _number(rates, lambda one: one.generated_per_s),
        _number(rates, lambda one: one.read_per_s),
        UNKNOWN if work is None else str(work.requests_running),
        UNKNOWN if work is None else str(work.requests_waiting),
        UNKNOWN if ratio is None else f"{100 * ratio:.0f} %",
        _wait(rates.first_token_s if rates is not None else None),
    )


def _number(rates: Pace | None, read: Callable[[Pace], float]) -> str:
    return UNKNOWN if rates is None else f"{read(rates):.1f}"


def _wait(seconds: float | None) -> str:
    if seconds is None:
        return UNKNOWN
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _npus(answer: NpusAnswer) -> Iterator[Row]:
    version = f" {answer.driver_version}" if answer.driver_version else ""
    if not answer.npus:
        text = tr("NPU driver{version}: {state}", version=version, state=word(answer.driver))
        yield Row("", text)
        return
    head = (
        "NPU",
        tr("AI core"),
        "",
        tr("memory"),
        "",
        tr("temp"),
        tr("power"),
        tr("health"),
        tr("used by"),
    )
    lines = columns([head, *map(_npu, answer.npus)], right=(0, 2, 4, 5, 6))
    yield Row("", lines[0], fixed=True)
    for view, line in zip(answer.npus, lines[1:], strict=True):
        tone = Tone.WORRY if view.unfit or not view.device_present else Tone.PLAIN
        yield Row("", line, tone, whole=True, fixed=True)


def _npu(view: NpuView) -> tuple[str, ...]:
    readings, size = view.readings, view.memory_mib
    busy = readings.utilization_percent
    return (
        str(view.logic_id),
        UNKNOWN if busy is None else meter(busy / 100, METER_CELLS),
        with_unit(busy, "%"),
        meter(view.memory_used_mib / size, METER_CELLS) if size else UNKNOWN,
        f"{view.memory_used_mib / 1024:.1f}/{size / 1024:.0f} GiB" if size else UNKNOWN,
        with_unit(readings.temperature_c, "°C"),
        with_unit(readings.power_w, "W"),
        word(view.health) if view.device_present else tr("gone"),
        say_user(view),
    )
