# SPDX-License-Identifier: MulanPSL-2.0
"""Moments at which a power cut hurts most, and how a lab host is brought to each of them.

Every moment begins with deepseek@8b serving and enabled, and ends with the host still running: who
asks for it cuts the power at once. Where something can be seen of what goes on (a temporary file, a
process that is another one) it is waited for; elsewhere the moment is some time after a command.
"""

import contextlib
import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from . import product
from .host import LabHost
from .process import LabError
from .state import list_children, read_namespace_pids

SETTINGS = "/etc/deepseek-agent/agent.toml.d/cuts.toml"
PROFILE = "/etc/deepseek-agent/models.d/8b.toml"
STATE = "var/lib/deepseek-agent"
PRIVATE = "usr/lib64/deepseek-agent"
AGENT = "deepseek-agent.service"
SEEN_LIMIT_S = 60
TRIES = 30
# A process that is frozen first comes to the end of the system call that it is in.
CALL_ENDS_S = 0.05
# While rpm has not put a file in its place, its name ends with ";" and the transaction's number.
RPM_TEMPORARY = ";"

_turns = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Moment:
    """`reach` brings a serving host to it. `in_package`: a transaction of the package is cut."""

    name: str
    reach: Callable[[LabHost], None]
    in_package: bool = False


# --- the instance ---------------------------------------------------------------------------------


def starting(after_s: float) -> Moment:
    def reach(host: LabHost) -> None:
        product.start(host, "stop")
        product.start(host, "start", "--no-block")
        time.sleep(after_s)

    return Moment(f"start + {after_s:g} s", reach)


def serving(after_s: float) -> Moment:
    def reach(host: LabHost) -> None:
        product.start(host, "restart")
        time.sleep(after_s)

    return Moment(f"serving + {after_s:g} s", reach)


def stopping(after_s: float) -> Moment:
    def reach(host: LabHost) -> None:
        product.start(host, "stop", "--no-block")
        time.sleep(after_s)

    return Moment(f"stop + {after_s:g} s", reach)


# --- the host -------------------------------------------------------------------------------------


def going_down(after_s: float) -> Moment:
    def reach(host: LabHost) -> None:
        host.run(["systemctl", "--no-block", "reboot"])
        time.sleep(after_s)

    return Moment(f"reboot + {after_s:g} s", reach)


def booting(after_s: float) -> Moment:
    def reach(host: LabHost) -> None:
        host.shutdown()
        host.boot()
        time.sleep(after_s)

    return Moment(f"boot + {after_s:g} s", reach)


# --- the package ----------------------------------------------------------------------------------


def reinstalling(what: str, reach: Callable[[LabHost], None]) -> Moment:
    return Moment(f"reinstall: {what}", reach, in_package=True)


def _unpacking(host: LabHost) -> None:
    folder = host.root / PRIVATE
    half = len(list_files(folder)) / 2
    _begin_reinstall(host)
    _wait_seen(lambda: len(list_rpm_temporaries(folder)) > half, "half of the files unpacked")


def _renaming(host: LabHost) -> None:
    """rpm is frozen when the file in the middle is another one, then it is gone: all are unpacked
    first, and get their names within a few milliseconds."""
    files = list_files(host.root / PRIVATE)
    middle = files[len(files) // 2]
    before = middle.stat().st_ino
    rpm = _begin_reinstall(host)
    _wait_seen(lambda: middle.stat().st_ino != before, f"{middle.name} is the new one")
    os.kill(rpm, signal.SIGSTOP)


def _restarting_agent(host: LabHost) -> None:
    """By then all files are in place, and rpm runs the last scriptlets."""
    before = product.show(host, AGENT, "MainPID")
    _begin_reinstall(host)
    _wait_seen(lambda: product.show(host, AGENT, "MainPID") != before, "a new agent")


def _begin_reinstall(host: LabHost) -> int:
    """The machine's number of dnf's process."""
    unit = "lab-dnf.service"
    dnf = ["dnf", "-y", "reinstall", "deepseek-agent"]
    host.run(["systemd-run", "--quiet", "--collect", f"--unit={unit}", *dnf])
    return pid_outside(host, int(product.show(host, unit, "MainPID")["MainPID"]))


def list_files(folder: Path) -> list[Path]:
    return sorted(Path(at, name) for at, _, files in os.walk(folder) for name in files)


def list_rpm_temporaries(folder: Path) -> list[Path]:
    return [path for path in list_files(folder) if RPM_TEMPORARY in path.name]


# --- the configuration and the agent's state ------------------------------------------------------


def reloading(after_s: float) -> Moment:
    """With a setting that another unit file comes of, which is due at the next start."""

    def reach(host: LabHost) -> None:
        setting = f'{product.SMALLER_NEEDS}[environment]\nLAB_TURN = "{next(_turns)}"\n'
        host.write(PROFILE, setting)
        host.run(["systemctl", "reload", AGENT])
        time.sleep(after_s)

    return Moment(f"reload + {after_s:g} s", reach)


def _writing_state(host: LabHost) -> None:
    """The agent is frozen between the temporary file of its state and the rename, then gone."""
    agent = pid_outside(host, int(product.show(host, AGENT, "MainPID")["MainPID"]))
    for _ in range(TRIES):
        host.write(SETTINGS, f"[limits]\nstart_wait_s = {1800 + next(_turns)}\n")
        # Without waiting for it, as `systemctl reload` would.
        host.run(["systemctl", "kill", "--kill-whom=main", "--signal=HUP", AGENT])
        if _frozen_while_writing(host.root / STATE, agent):
            return
    raise LabError(f"the agent was never seen writing its state in {TRIES} reloads")


def list_temporaries(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name.startswith(".")]


def _frozen_while_writing(folder: Path, agent: int) -> bool:
    """A write takes a millisecond, so this looks without a pause."""
    there_before = set(list_temporaries(folder))
    untouched = [path.stat().st_mtime_ns for path in folder.glob("*.json")]
    deadline = time.monotonic() + SEEN_LIMIT_S
    while not (found := set(list_temporaries(folder)) - there_before):
        if [path.stat().st_mtime_ns for path in folder.glob("*.json")] != untouched:
            return False  # too late
        if time.monotonic() > deadline:
            raise LabError("the agent did not write its state after a reload")
    os.kill(agent, signal.SIGSTOP)
    time.sleep(CALL_ENDS_S)
    if found <= set(list_temporaries(folder)):
        return True
    os.kill(agent, signal.SIGCONT)
    return False


def pid_outside(host: LabHost, inside: int) -> int:
    """The machine's number of a process of the host."""
    for pid in _descendants(host.leader()):
        if read_namespace_pids(pid)[-1:] == [inside]:
            return pid
    raise LabError(f"{host.name} has no process {inside}")


def _descendants(pid: int) -> Iterator[int]:
    children = list_children()
    waiting = [pid]
    while waiting:
        yield (one := waiting.pop())
        waiting += children.get(one, [])


def _wait_seen(come: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SEEN_LIMIT_S
    while not _now(come):
        if time.monotonic() > deadline:
            raise LabError(f"this was not seen within {SEEN_LIMIT_S} s: {what}")


def _now(come: Callable[[], bool]) -> bool:
    """A folder or file that goes away while it is looked at is no answer."""
    with contextlib.suppress(FileNotFoundError):
        return come()
    return False


START = starting(0.3)
STOP = stopping(0.1)
RENAMING = reinstalling("half of the files in place", _renaming)
WRITE_OF_STATE = Moment("write of the state", _writing_state)
MOMENTS = (
    *(starting(0.05), START, starting(0.8), starting(1.5)),
    *(serving(0.0), serving(8.0)),
    *(stopping(0.02), STOP, stopping(0.3)),
    *(going_down(0.2), booting(0.1), booting(0.3), booting(0.6), booting(1.5)),
    reinstalling("half of the files unpacked", _unpacking),
    RENAMING,
    reinstalling("the agent restarted", _restarting_agent),
    *(reloading(0.05), reloading(0.6), WRITE_OF_STATE),
)
