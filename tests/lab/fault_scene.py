# SPDX-License-Identifier: MulanPSL-2.0
"""What one row of the fault table (fault_table.py) is, and the words that rows are written in."""

import shlex
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from . import product
from .faults import (
    ask_status,
    find_payloads,
    main_pid,
    read_status,
    send_signal,
    wait_serving_alone,
    wait_told,
)
from .host import LabHost
from .process import LabError
from .product import FRONT

AGENT, NPUD = "deepseek-agent.service", "deepseek-npud.service"
# After trouble that repeats itself the next try may be 16 s away.
AGAIN_S = 60.0
BACK_S = 90.0


@dataclass(frozen=True, slots=True)
class Fault:
    """`run` breaks something on a host on which 8b serves in that container, looks whether `holds`
    holds, mends it, and says what was seen. Raises AssertionError or LabError when it did not."""

    name: str
    holds: str
    run: Callable[[LabHost, str], str]


def serves_on(host: LabHost, container: str, for_s: float) -> None:
    """The engine answers all the time, in the same container, and the agent is asked in vain at no
    time."""
    deadline = time.monotonic() + for_s
    while True:
        ask_status(host)
        assert product.ask(host) is not None, product.describe(host)
        if time.monotonic() > deadline:
            break
        time.sleep(0.5)
    assert list(find_payloads(host)) == [container]
    assert product.active_state(host, FRONT) == "active"


def dies_and_comes_back(host: LabHost, limit_s: float = AGAIN_S) -> str:
    """The engine is killed, and serves again in another container."""
    (container,) = find_payloads(host)
    began = time.monotonic()
    kill_payload(host, container)
    wait_serving_alone(host, container, limit_s)
    return f"serves again {time.monotonic() - began:.1f} s after its engine died"


def kill_payload(host: LabHost, container: str) -> None:
    """Not by Podman, which may itself want what is broken."""
    send_signal(host, "KILL", find_payloads(host)[container])


def is_another(host: LabHost, container: str) -> bool:
    """Whether an engine runs, and not that one."""
    return find_payloads(host).keys() not in ({container}, set())


def wait_well(host: LabHost, limit_s: float = BACK_S) -> float:
    """Seconds until `deepseekctl status` has nothing to complain of, and the engine answers."""
    began = time.monotonic()
    wait_told(host, "all is well", lambda told: told.returncode == 0, limit_s)
    assert product.ask(host) is not None, product.describe(host)
    return time.monotonic() - began


def wait_well_slowly(host: LabHost, limit_s: float = BACK_S) -> float:
    """The same while strace stops the agent at each call, or a host has just booted: the answers
    may take their time."""
    began = time.monotonic()
    while read_status(host).returncode != 0 or product.ask(host) is None:
        if time.monotonic() - began > limit_s:
            raise LabError(f"not well after {limit_s} s\n{product.describe(host)}")
        time.sleep(0.5)
    return time.monotonic() - began


def restarts(host: LabHost, unit: str) -> int:
    """How often systemd has started it again by itself."""
    return int(product.show(host, unit, "NRestarts")["NRestarts"])


def wait_restarts(host: LabHost, unit: str, number: int, limit_s: float = 30) -> None:
    deadline = time.monotonic() + limit_s
    while restarts(host, unit) < number:
        assert time.monotonic() < deadline, f"{unit} was not started again {number} times"
        time.sleep(0.2)


def descriptors(host: LabHost, pid: int) -> int:
    return len(host.run(["ls", f"/proc/{pid}/fd"]).stdout.split())


@contextmanager
def stopped(host: LabHost, unit: str) -> Iterator[None]:
    """SIGSTOP for all its processes: they hold what they hold, and do not answer."""
    host.run(["systemctl", "kill", "--signal=STOP", unit])
    try:
        yield
    finally:
        host.run(["systemctl", "kill", "--signal=CONT", unit], check=False)


@contextmanager
def drop_in(host: LabHost, unit: str, *lines: str) -> Iterator[None]:
    """Settings of the unit's [Service]; it is started anew with them, and without them at last."""
    path = f"/run/systemd/system/{unit}.d/lab-fault.conf"
    host.write(path, "\n".join(["[Service]", *lines, ""]))
    host.run(["systemctl", "daemon-reload"])
    restart(host, unit)
    try:
        yield
    finally:
        host.run(["rm", path])
        host.run(["systemctl", "daemon-reload"])
        restart(host, unit)


def restart(host: LabHost, unit: str) -> None:
    host.run(["systemctl", "restart", "--no-block", unit])
    time.sleep(0.5)


@contextmanager
def run_full(host: LabHost) -> Iterator[None]:
    """/run has not a byte left. (All of it would be a fifth of the machine's memory.)"""
    (size,) = host.run(["df", "--output=size", "/run"]).stdout.split()[1:]
    host.run(["mount", "-o", "remount,size=4m", "/run"])
    fill(host, "/run")
    try:
        yield
    finally:
        host.run(["rm", "-f", "/run/lab-filler"])
        host.run(["mount", "-o", f"remount,size={size}k", "/run"])


@contextmanager
def read_only(host: LabHost, folder: str) -> Iterator[None]:
    """In the host, and so in the agent's own mount namespace, which follows it."""
    host.run(["mount", "--bind", folder, folder])
    host.run(["mount", "-o", "remount,ro,bind", folder])
    assert host.run(["touch", f"{folder}/lab"], check=False).returncode != 0
    try:
        yield
    finally:
        host.run(["umount", "--lazy", folder])


def fill(host: LabHost, folder: str) -> None:
    """To the last byte."""
    host.run(["sh", "-c", f"cat /dev/zero > {shlex.quote(folder)}/lab-filler"], check=False)


def limit(host: LabHost, unit: str, option: str) -> None:
    """A soft limit of the process that runs now: `prlimit --pid PID OPTION`."""
    host.run(["prlimit", f"--pid={main_pid(host, unit)}", option])


def one_line(error: BaseException) -> str:
    """What went wrong, without what the host looked like then."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return " ".join(str(error).split("\n")[0].split()) or f"not so: {frame.line}"


def names(faults: Sequence[Fault]) -> list[str]:
    return [fault.name for fault in faults]
