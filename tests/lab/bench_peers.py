# SPDX-License-Identifier: MulanPSL-2.0
"""The same faults and the same idle minutes with what else can be had: systemd's restart alone,
Podman's own health check, and monit, each over the unit written by hand.

monit (Debian's package) asks /health every 5 s, as its manual has it for a web server; Podman asks
by curl in the container every 30 s, its default, and kills after three failures.
"""

import os
import signal
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from . import product
from .bench_scene import (
    BY_HAND,
    HAND_CONTAINER,
    OURS,
    first_answer,
    kill_to_answer,
    pids_of,
    take_each_death_as_the_first,
    watch_idle,
    write_by_hand,
)
from .bench_table import Table
from .debian import unpacked
from .host import LabHost
from .process import LabError
from .product import CONTAINER, FRONT
from .victims import find_victims

RUNS = 3
IDLE_S = 120
SETTLE_S = 15
HANG_LIMIT_S = 180.0
MONIT_UNIT = "monit.service"
MONIT = f"""set daemon 5
set httpd unixsocket /run/monit.sock allow root:root
check process engine matching "vllm serve"
    start program = "/usr/bin/systemctl restart {BY_HAND}" with timeout 60 seconds
    stop program = "/usr/bin/systemctl stop {BY_HAND}"
    if failed host 127.0.0.1 port 2023 protocol http request "/health" with timeout 5 seconds
        for 3 cycles then restart
"""
MONIT_SERVICE = """[Service]
ExecStart=/usr/bin/monit -I -c /etc/monitrc
Restart=always
"""
HEALTH = "curl --fail --silent --max-time 5 http://127.0.0.1:8000/health"
NOTE = (
    "Killed: SIGKILL of all in the container. Hangs: SIGSTOP of the engine's core while it serves, "
    f"with /health still 200; seconds to the next answer, and at most {HANG_LIMIT_S:.0f}. Medians "
    f"of {RUNS}. PSS and processor time (percent of a core) of what watches, and new processes of "
    f"the host, in {IDLE_S} idle seconds."
)


@dataclass(frozen=True, slots=True)
class Watch:
    """One way to keep an engine serving. `units`: those that watch, beside systemd."""

    name: str
    unit: str
    container: str
    units: tuple[str, ...]
    prepare: Callable[[LabHost], None]


def measure_peers(host: LabHost) -> Table:
    rows = [_row(host, watch) for watch in WATCHES]
    header = ("", "killed, s", "hangs, s", "PSS, MiB", "CPU, %", "processes a minute")
    return Table("Beside others", NOTE, header, tuple(rows))


def _row(host: LabHost, watch: Watch) -> tuple[str, ...]:
    watch.prepare(host)
    first_answer(host, watch.unit)
    time.sleep(SETTLE_S)
    watching = [pid for unit in watch.units for pid in pids_of(host, unit)]
    idle = watch_idle(host, {watch.name: watching}, IDLE_S)
    cost = idle.costs[watch.name]
    killed = [_kill_to_answer(host, watch.container) for _ in range(RUNS)]
    hangs = _hangs(host, watch.container)
    host.run(["systemctl", "stop", *watch.units], timeout_s=120, check=False)
    host.run(["systemctl", "stop", watch.unit], timeout_s=120, check=False)
    numbers = (f"{cost.pss_mib:.1f}", f"{cost.cpu_percent:.3f}", f"{idle.host_forks_a_minute:.1f}")
    return (watch.name, f"{statistics.median(killed):.2f}", hangs, *numbers)


def _kill_to_answer(host: LabHost, container: str) -> float:
    took = kill_to_answer(host, container)
    time.sleep(SETTLE_S)
    return took


def _hangs(host: LabHost, container: str) -> str:
    """Once is enough where nobody notices."""
    took = []
    for _ in range(RUNS):
        began = time.monotonic()
        os.kill(find_victims(host, container).engine.core, signal.SIGSTOP)
        try:
            product.ask_until_answered(host, limit_s=HANG_LIMIT_S)
        except LabError:
            return "never"
        took.append(time.monotonic() - began)
        time.sleep(SETTLE_S)
    return f"{statistics.median(took):.1f}"


def _add_monit(host: LabHost) -> None:
    write_by_hand(host)
    with unpacked("monit") as files:
        host.copy_in(files / "usr/bin/monit", "/usr/bin/monit")
    host.write("/etc/monitrc", MONIT, mode=0o600)
    host.write(f"/etc/systemd/system/{MONIT_UNIT}", MONIT_SERVICE)
    host.run(["systemctl", "daemon-reload"])
    host.run(["systemctl", "start", MONIT_UNIT])


def _add_health_check(host: LabHost) -> None:
    words = f'--health-cmd="{HEALTH}" --health-on-failure=kill'
    write_by_hand(host, quadlet=f"HealthCmd={HEALTH}\nHealthOnFailure=kill", option=words)


def _add_nothing(host: LabHost) -> None:
    write_by_hand(host)


WATCHES = (
    Watch("systemd, Restart=always", BY_HAND, HAND_CONTAINER, (), _add_nothing),
    Watch("and Podman's health check", BY_HAND, HAND_CONTAINER, (), _add_health_check),
    Watch("and monit", BY_HAND, HAND_CONTAINER, (MONIT_UNIT,), _add_monit),
    Watch("deepseek-agent", FRONT, CONTAINER, OURS, take_each_death_as_the_first),
)
