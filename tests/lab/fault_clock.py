# SPDX-License-Identifier: MulanPSL-2.0
"""Rows of the fault table: the clock jumps by ten years, and back.

The kernel's clock is the machine's, so it is not set: a library (tests/fakes/clock) that is loaded
into our processes makes time(2) and its relatives say another time. Those who are not ours
(systemd, journald, Podman) keep the right one. The monotonic clock, which a jump does not touch, is
the real one.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.fakes import clock

from . import product
from .fault_scene import (
    AGENT,
    NPUD,
    Fault,
    dies_and_comes_back,
    drop_in,
    restart,
    restarts,
    serves_on,
)
from .faults import ask_status, find_payloads, kill_engine, start_fresh, wait_told
from .host import LabHost
from .moments import SETTINGS
from .process import LabError
from .product import FRONT

LIBRARY = "/usr/local/lib/lab-clock.so"
CLOCK = "/run/lab-clock"
YEAR_S = 365 * 86400
LONGEST_S = 30
NEXT_TRY_S = LONGEST_S + 30.0


@contextmanager
def other_clock(host: LabHost) -> Iterator[str]:
    """agentd, npud and the front unit have a clock that can be set; the container that serves."""
    with TemporaryDirectory(prefix="deepseek-clock-") as folder:
        host.copy_in(clock.build(Path(folder)), LIBRARY)
    set_clock(host, 0)
    line = f"Environment=LD_PRELOAD={LIBRARY} {clock.VARIABLE}={CLOCK}"
    try:
        with ExitStack() as units:
            for unit in (AGENT, NPUD, FRONT):
                units.enter_context(drop_in(host, unit, line))
            yield start_fresh(host)
    finally:
        host.run(["rm", "-f", CLOCK])


def set_clock(host: LabHost, years: int) -> None:
    """Replaced whole, as it is read at any time."""
    host.write(f"{CLOCK}.new", f"{years * YEAR_S}\n")
    host.run(["mv", f"{CLOCK}.new", CLOCK])


def wait_jumped(host: LabHost, years: int) -> None:
    """Until the agent itself has the other time."""
    wanted = time.time() + years * YEAR_S
    deadline = time.monotonic() + 20
    while abs(float(ask_status(host).snapshot["at"]) - wanted) > YEAR_S:
        if time.monotonic() > deadline:
            raise LabError(f"the agent's clock has not jumped by {years} years")
        time.sleep(0.2)


def jumps(host: LabHost, years: int) -> str:
    with other_clock(host) as container:
        before = [restarts(host, unit) for unit in (AGENT, NPUD)]
        set_clock(host, years)
        wait_jumped(host, years)
        serves_on(host, container, 5)
        there = dies_and_comes_back(host)
        (container,) = find_payloads(host)
        restart(host, AGENT)
        wait_told(host, "an agent", lambda told: told.phase == "serving")
        serves_on(host, container, 1)
        set_clock(host, 0)
        wait_jumped(host, 0)
        serves_on(host, container, 5)
        dies_and_comes_back(host)
        assert [restarts(host, unit) for unit in (AGENT, NPUD)] == before
        told = host.run(["deepseekctl", "events", "-n", "3"]).stdout
        assert "8b" in told, told
    return there


def jumps_in_backoff(host: LabHost, years: int) -> str:
    """What is kept over restarts of the agent is kept in wall-clock time."""
    host.write(SETTINGS, f"[limits]\nbackoff_max_s = {LONGEST_S}\n")
    with other_clock(host):
        product.set_engine(host, load_s=1, fail_at_start="acl-507033")
        kill_engine(host)
        wait_told(host, "trouble", lambda told: told.instance.get("failures", 0) >= 3, 60)
        set_clock(host, years)
        restart(host, AGENT)
        product.set_engine(host, load_s=1)
        began = time.monotonic()
        wait_told(host, "it serves", lambda told: told.phase == "serving", NEXT_TRY_S)
        took = time.monotonic() - began
        set_clock(host, 0)
        wait_jumped(host, 0)
    host.run(["rm", SETTINGS])
    host.run(["systemctl", "reload", AGENT])
    return f"serves {took:.1f} s after, the longest backoff is {LONGEST_S} s"


def _rows(years: int) -> tuple[Fault, ...]:
    return (
        Fault(
            f"clock jumps {years:+} years and back",
            "serving goes on, an engine that dies is started again, no watchdog bites",
            lambda host, _: jumps(host, years),
        ),
        Fault(
            f"clock jumps {years:+} years in a backoff, agent restarts",
            "the next try comes after the longest backoff at the latest",
            lambda host, _: jumps_in_backoff(host, years),
        ),
    )


CLOCK_FAULTS = (*_rows(10), *_rows(-10))
