# SPDX-License-Identifier: MulanPSL-2.0
"""The host of the kill matrix (kills.py): killing, looking, and making it clean between two cases.

In: what to kill and when. Out: what kills_inside.py, which runs in the host, tells of it.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from . import product
from .host import LabHost
from .process import LabError
from .product import ENGINE, FRONT

# They take the container with them.
FATAL = {"conmon", "engine"}
ALWAYS_UP = ("agentd", "npud", "socket")
INSIDE = Path(__file__).with_name("kills_inside.py")
PROGRAM = "/var/lib/deepseek-lab/kills_inside.py"
PROGRAM_LIMIT_S = 150.0
# Podman's own cleanup after a container goes on for a moment when the unit is down.
CLEAN_LIMIT_S = 10.0
RESET_LIMIT_S = 30
ENGINE_WORDS = ("(APIServer pid", "(EngineCore_DP0 pid")


class Phase(StrEnum):
    START = "start"
    STEADY = "steady"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Seen:
    """How the host is, as kills_inside.py tells it."""

    units: dict[str, str]
    engine: str
    status: dict[str, object]
    engine_starts: int
    front_starts: int
    left: list[str]
    failed: dict[str, str]


@dataclass(frozen=True, slots=True)
class Strike:
    """What was killed, as kills_inside.py tells it."""

    cursor: str
    start_s: float  # how long the start took, when the case is of a later phase
    engine: str  # pid and start time of the API server before
    killed: dict[str, str]  # name of each process by victim; who was not there yet is missing
    killed_at: float  # of the monotonic clock, which the host shares with this machine
    after_ms: int

    @property
    def fatal(self) -> bool:
        return bool(FATAL & self.killed.keys())

    @property
    def loses_stop(self) -> bool:
        """systemd notes nothing of a stop of a front unit that has failed, and no agent saw it."""
        return self.after_ms < 0 and {"agentd", "attach"} <= self.killed.keys()

    def is_undone(self, seen: Seen) -> bool:
        """Something was started once more although it shall stop. (What was killed before the stop
        may have been back when that came.)"""
        return self.after_ms >= 0 and (seen.front_starts, seen.engine_starts) != (1, 1)


def prepare(host: LabHost) -> None:
    """Once on a host that has the package."""
    host.write(PROGRAM, INSIDE.read_text())
    product.set_engine(host, load_s=1)
    reset(host)


def strike(host: LabHost, phase: Phase, milliseconds: int, victims: Sequence[str]) -> Strike:
    argv = ["python3", PROGRAM, "strike", phase, str(milliseconds), *victims]
    return Strike(**json.loads(host.run(argv, timeout_s=PROGRAM_LIMIT_S).stdout))


def look(host: LabHost, cursor: str) -> Seen:
    argv = ["python3", PROGRAM, "look", cursor]
    return Seen(**json.loads(host.run(argv, timeout_s=PROGRAM_LIMIT_S).stdout))


def wait_until_none(
    host: LabHost,
    cursor: str,
    missing: Callable[[Seen], Iterable[str]],
    limit_s: float,
    is_lost: Callable[[Seen], bool] = lambda seen: False,
) -> tuple[Seen, list[str]]:
    """Looks until nothing is missing; what is, when the time is over or nothing will change."""
    deadline = time.monotonic() + limit_s
    while True:
        seen = look(host, cursor)
        problems = list(missing(seen))
        if not problems or is_lost(seen) or time.monotonic() > deadline:
            return seen, problems
        time.sleep(product.ANSWER_EVERY_S)


def not_stopped(seen: Seen) -> Iterator[str]:
    yield from (f"{unit} {seen.units[unit]}" for unit in ALWAYS_UP if seen.units[unit] != "active")
    for unit in ("attach", "conmon"):
        if seen.units[unit] not in ("inactive", "failed"):
            yield f"unit of {unit} {seen.units[unit]}"
    if seen.status["wished"] is not False:
        yield f"the agent says {seen.status}"


def not_clean(seen: Seen) -> Iterator[str]:
    yield from seen.left
    yield from (f"failed unit {unit}: {result}" for unit, result in seen.failed.items())


# --- the host between two cases ------------------------------------------------------------------


def reset(host: LabHost) -> None:
    """Nothing wished, nothing left, the agent fresh; by a reboot when nothing else helps."""
    clean(host)
    start_ours(host)
    if not is_clean(host):
        try:
            host.reboot()
        except LabError:
            host.power_cut()
            host.boot()
            host.wait_booted()
        start_ours(host)
        if not is_clean(host):
            raise LabError(f"not clean after a reboot\n{product.describe(host)}")


def clean(host: LabHost) -> None:
    limited = ("timeout", str(RESET_LIMIT_S))
    for command in (
        (*limited, "systemctl", "stop", FRONT, ENGINE),
        ("python3", PROGRAM, "clean"),
        (*limited, "podman", "rm", "--force", "--all"),
        ("systemctl", "reset-failed"),
    ):
        host.run(command, check=False)


def start_ours(host: LabHost) -> None:
    """A new agent, which remembers nothing."""
    host.run(["systemctl", "start", "deepseek-agent.socket", "deepseek-npud.service"])
    host.run(["systemctl", "restart", "deepseek-agent.service"])


def is_clean(host: LabHost) -> bool:
    def missing(seen: Seen) -> Iterator[str]:
        yield from not_stopped(seen)
        yield from not_clean(seen)

    return not wait_until_none(host, "", missing, CLEAN_LIMIT_S)[1]


def read_journal(host: LabHost, strike: Strike | None) -> str:
    """Of our units since the case began, without what the engine itself says."""
    since = f"--after-cursor={strike.cursor}" if strike else "--lines=80"
    argv = ["journalctl", "--no-pager", "--output=short-precise", since, "--unit=deepseek*"]
    lines = host.run(argv, check=False).stdout.splitlines()
    return "\n".join(line for line in lines if not any(word in line for word in ENGINE_WORDS))
