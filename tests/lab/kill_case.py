# SPDX-License-Identifier: MulanPSL-2.0
"""One case of the kill matrix (kills.py): some processes die at one moment, and what was wished
then has to hold by itself. Leaves the host as it was, whatever came of it.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from . import product
from .host import LabHost
from .kill_host import (
    CLEAN_LIMIT_S,
    Phase,
    Seen,
    Strike,
    look,
    not_clean,
    not_stopped,
    read_journal,
    reset,
    strike,
    wait_until_none,
)
from .process import LabError
from .product import ENGINE, FRONT

# conmon killed in the very moment in which it takes over from podman leaves a podman that does not
# hear SIGTERM (4.3.1): systemd waits TimeoutStopSec= (90 s) for that one.
SETTLED_LIMIT_S = 150.0
LOST_LIMIT_S = 30.0
STAYS_S = 3.0


@dataclass(frozen=True, slots=True)
class Case:
    victims: tuple[str, ...]
    phase: Phase
    moment_ms: int

    @property
    def name(self) -> str:
        return f"{'+'.join(self.victims)}-{self.phase}-{self.moment_ms}"


@dataclass(slots=True)
class Result:
    case: Case
    strike: Strike | None = None
    outcome: str = ""
    seconds: float = 0.0
    starts: int = 0
    problems: list[str] = field(default_factory=list)
    journal: str = ""

    def __str__(self) -> str:
        case, strike = self.case, self.strike
        killed = strike.killed if strike else {}
        there = [f"{one}({killed[one]})" if one in killed else f"no {one}" for one in case.victims]
        moment = f"{case.moment_ms} ms ({strike.after_ms if strike else '?'})"
        cells = ("+".join(case.victims), case.phase, moment, " ".join(there), self.outcome)
        widths = (14, 6, 14, 34, 52)
        columns = (f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True))
        verdict = "FAILED" if self.problems else "good"
        return f"{'  '.join(columns)}  {self.starts} engine starts  {verdict}"


def run_case(host: LabHost, case: Case, pace: float = 1) -> Result:
    """Never raises for what the product does; leaves the host in a clean state. `pace`: by how much
    this machine, as busy as it is, is slower than an idle one, for whose moments the case is."""
    result = Result(case)
    try:
        at_ms = round(case.moment_ms * pace)
        result.strike = strike(host, case.phase, at_ms, case.victims)
        check = check_stopped if case.phase is Phase.STOP else check_serving
        result.problems.extend(check(host, result, result.strike))
    except LabError as error:
        result.problems.append(str(error))
    if result.problems:
        result.journal = read_journal(host, result.strike)
        reset(host)
    return result


# --- what must hold ------------------------------------------------------------------------------


def check_serving(host: LabHost, result: Result, strike: Strike) -> Iterator[str]:
    """Killed while starting or serving: it serves again, and nothing healthy was restarted."""
    seen, problems = wait_until_none(
        host, strike.cursor, lambda seen: not_serving(host, seen, strike), SETTLED_LIMIT_S
    )
    result.seconds, result.starts = time.monotonic() - strike.killed_at, seen.engine_starts
    if problems:
        result.outcome = "does not serve again"
        yield f"does not serve again: {', '.join(problems)}"
    else:
        same = seen.engine == strike.engine
        result.outcome = f"serves after {result.seconds:.1f} s"
        result.outcome += ", same container" if same else ", new container"
        if result.case.phase is Phase.STEADY and not strike.fatal and not same:
            yield f"a healthy container was restarted: {strike.engine}, now {seen.engine}"
    stopped = product.start(host, "stop")
    if stopped.returncode != 0:
        yield f"systemctl stop: {stopped.stderr}"
    seen, left = wait_until_none(host, strike.cursor, not_clean, CLEAN_LIMIT_S)
    yield from (f"left behind: {one}" for one in left)
    result.starts = seen.engine_starts
    allowed = 2 if strike.fatal else 1
    if result.starts > allowed:
        yield f"{result.starts} engine starts, {allowed} allowed"


def check_stopped(host: LabHost, result: Result, strike: Strike) -> Iterator[str]:
    """Killed while stopping: it is stopped, stays so, and the next start finds nothing of it."""
    limit_s = LOST_LIMIT_S if strike.loses_stop else SETTLED_LIMIT_S
    seen, problems = wait_until_none(host, strike.cursor, not_stopped, limit_s, strike.is_undone)
    result.seconds, result.starts = time.monotonic() - strike.killed_at, seen.engine_starts
    if problems and strike.loses_stop and not list(not_serving(host, seen, strike)):
        result.outcome = "the stop is lost (ADR 11)"
        product.start(host, "stop")
        _, left = wait_until_none(host, strike.cursor, not_clean, CLEAN_LIMIT_S)
        yield from (f"left behind: {one}" for one in left)
        return
    if problems:
        result.outcome = "does not come to rest"
        yield f"not stopped: {', '.join(problems)}"
    deadline = time.monotonic() + STAYS_S
    while not problems and time.monotonic() < deadline:
        seen = look(host, strike.cursor)
        problems = list(not_stopped(seen))
        yield from (f"stopped, then: {one}" for one in problems)
    if strike.is_undone(seen):
        yield f"started again: front {seen.front_starts}, engine {seen.engine_starts} starts"
    result.starts = seen.engine_starts
    seen, left = wait_until_none(host, strike.cursor, not_clean_of(strike), CLEAN_LIMIT_S)
    yield from (f"left behind: {one}" for one in left)
    if not problems:
        failed = "".join(f", {unit} failed ({why})" for unit, why in seen.failed.items())
        result.outcome = f"stopped after {result.seconds:.1f} s{failed}"
        if seen.failed and not left:
            yield from check_next_start(host, strike)


def check_next_start(host: LabHost, strike: Strike) -> Iterator[str]:
    """Clears what a crash has left `failed`."""
    if product.start(host).returncode != 0 or product.ask(host) is None:
        yield "the next start does not serve"
    product.start(host, "stop")
    _, left = wait_until_none(host, strike.cursor, not_clean, CLEAN_LIMIT_S)
    yield from (f"left behind after the next start: {one}" for one in left)


def not_serving(host: LabHost, seen: Seen, strike: Strike) -> Iterator[str]:
    yield from (f"{unit} {state}" for unit, state in seen.units.items() if state != "active")
    if seen.status != {"phase": "serving", "wished": True}:
        yield f"the agent says {seen.status}"
    if not seen.engine:
        yield "no engine"
    elif strike.fatal and seen.engine == strike.engine:
        yield "the engine of before"
    elif product.ask(host) is None:
        yield "no answer"


def not_clean_of(strike: Strike) -> Callable[[Seen], Iterator[str]]:
    """But a unit whose main process was killed in the stop may be `failed`."""
    explained = {FRONT} if "attach" in strike.killed else set()
    explained |= {ENGINE} if strike.fatal else set()

    def left(seen: Seen) -> Iterator[str]:
        yield from seen.left
        for unit in seen.failed.keys() - explained:
            yield f"failed unit {unit}: {seen.failed[unit]}"

    return left
