# SPDX-License-Identifier: MulanPSL-2.0
"""What `kills.py` runs inside a lab host, as one program: entering the host takes some 50 ms each
time, and a moment is to be met to the millisecond. Standard library only; prints JSON.

    kills_inside.py strike PHASE MILLISECONDS VICTIM...
    kills_inside.py look CURSOR
    kills_inside.py clean
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

FRONT = "deepseek@8b.service"
ENGINE = "deepseek-vllm-8b.service"
UNITS = {
    "agentd": "deepseek-agent.service",
    "attach": FRONT,
    "npud": "deepseek-npud.service",
    "conmon": ENGINE,
    "socket": "deepseek-agent.socket",
}
# systemd's message that it starts a unit. The one that a unit has been started is no use: it is not
# written when the start job has failed with that of another unit, and the start itself goes on.
STARTING = "7d4958e842da4a758f6c1cdc7b36dcc5"
# ... and that a start has been skipped: by ExecCondition=, before there was a container.
SKIPPED = "0e4284a0caca4bfc81c0bb6786972673"
RENDERED = ("/run/containers/systemd", "/run/systemd/system", "/run/deepseek-agent")
COMMAND_LIMIT_S = 90
REAPED_LIMIT_S = 2.0


class Process(NamedTuple):
    pid: int
    started: str  # in clock ticks since boot: a pid is used again


class Killed(NamedTuple):
    names: dict[str, str]
    at: float


def main(verb: str, *arguments: str) -> None:
    verbs: dict[str, Callable[..., object]] = {"strike": strike, "look": look, "clean": clean}
    print(json.dumps(verbs[verb](*arguments)))


def strike(phase: str, milliseconds: str, *victims: str) -> dict[str, object]:
    """Brings 8b to the phase and kills the victims that are there, so long after it began; before,
    when the time is negative."""
    run("journalctl", "--sync")
    cursor = run("journalctl", "--lines=0", "--show-cursor").split("cursor: ")[1].strip()
    starting = time.monotonic()
    if phase != "start":
        run("systemctl", "start", FRONT)
    start_s = time.monotonic() - starting
    engine = find_engine()
    known = find(victims)
    wait_s = int(milliseconds) / 1000
    killed = Killed({}, 0)
    if wait_s < 0:
        killed = kill(known)
        time.sleep(-wait_s)
    began = time.monotonic()
    if phase != "steady":
        run("systemctl", phase, "--no-block", FRONT)
        began = time.monotonic()
    if wait_s >= 0:
        time.sleep(wait_s)
        # In a start there is something to be found only now.
        killed = kill(find(victims) if phase == "start" else known)
    return {
        "cursor": cursor,
        "start_s": start_s,
        "engine": name_process(engine),
        "killed": killed.names,
        "killed_at": killed.at,
        "after_ms": round((killed.at - began) * 1000),
    }


def kill(known: dict[str, Process]) -> Killed:
    """Those that are alive, all at once; returns when their parents know."""
    there = {victim: process for victim, process in known.items() if is_alive(process)}
    names = {victim: name_of(process.pid) for victim, process in there.items()}
    for process in there.values():
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    at = time.monotonic()
    deadline = at + REAPED_LIMIT_S
    while any(process_of(one.pid) == one for one in there.values()) and time.monotonic() < deadline:
        time.sleep(0.005)
    return Killed(names, at)


def look(cursor: str) -> dict[str, object]:
    """How everything is, and what has been started since `cursor`."""
    run("journalctl", "--sync")
    starts = list_starts(cursor)
    shown = show("ActiveState", *UNITS.values())
    states = {victim: shown[unit] for victim, unit in UNITS.items()}
    return {
        "units": states,
        "engine": name_process(find_engine()),
        "status": ask_agent(),
        "engine_starts": starts.count(ENGINE),
        "front_starts": starts.count(FRONT),
        "left": list(list_left()),
        "failed": list_failed(),
    }


def clean() -> None:
    """Ends what a failed case has left."""
    for pid in list_payload():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for path in list_temporary():
        path.unlink(missing_ok=True)


# --- processes -----------------------------------------------------------------------------------


def find(victims: Sequence[str]) -> dict[str, Process]:
    """Those that are there now, by /proc alone: PID 1 does not answer during a daemon-reload."""
    groups = {pid: read(pid, "cgroup") for pid in list_pids()}
    found = {victim: find_main(UNITS[victim], groups) for victim in victims if victim in UNITS}
    if "engine" in victims:
        found["engine"] = find_engine()
    return {victim: process for victim, process in found.items() if process}


def find_main(unit: str, groups: dict[int, bytes]) -> Process | None:
    """The unit's child of PID 1: conmon, or `podman run` as long as there is none."""
    mark = f"/{unit}".encode()
    pids = [pid for pid, text in groups.items() if mark in text and b"libpod" not in text]
    mains = [pid for pid in pids if stat_of(pid)[1:2] == ["1"]]
    mains.sort(key=lambda pid: (name_of(pid) == "conmon", pid))
    return process_of(mains[-1]) if mains else None


def find_engine() -> Process | None:
    """The API server, the parent of those that run vllm."""
    pids = [pid for pid in list_pids() if b"/usr/local/bin/vllm" in command_of(pid)[1:2]]
    for pid in pids:
        fields = stat_of(pid)
        if fields and int(fields[1]) not in pids:
            return Process(pid, fields[19])
    return None


def process_of(pid: int) -> Process | None:
    fields = stat_of(pid)
    return Process(pid, fields[19]) if fields else None


def is_alive(process: Process) -> bool:
    """Not gone, and not waiting for its parent to take note."""
    fields = stat_of(process.pid)
    return bool(fields) and fields[19] == process.started and fields[0] not in "ZX"


def name_process(process: Process | None) -> str:
    return f"{process.pid} {process.started}" if process else ""


def list_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def read(pid: int, name: str) -> bytes:
    """Empty when the process is gone."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def command_of(pid: int) -> list[bytes]:
    return read(pid, "cmdline").split(b"\0")


def name_of(pid: int) -> str:
    return read(pid, "comm").decode(errors="replace").strip()


def stat_of(pid: int) -> list[str]:
    """From the state on: [1] is the parent, [19] the start time. Empty when it is gone."""
    return read(pid, "stat").decode(errors="replace").rpartition(")")[2].split()


def list_payload() -> list[int]:
    """Of a container, or in the control groups of the engines."""
    groups = ((pid, read(pid, "cgroup")) for pid in list_pids())
    return [pid for pid, text in groups if b"libpod" in text or b"/deepseek.slice" in text]


# --- the state of the host -----------------------------------------------------------------------


def ask_agent() -> object:
    """What `deepseekctl status` says of 8b; empty without an answer."""
    with contextlib.suppress(ValueError):
        for instance in json.loads(run("deepseekctl", "status", "--json"))["instances"]:
            if instance["name"] == "8b":
                return {"phase": instance["phase"], "wished": instance["wished"]}
    return {"phase": "unknown", "wished": None}


def list_left() -> Iterator[str]:
    """What may not be there when nothing is wished."""
    for line in run("podman", "ps", "--all", "--format={{.Names}} {{.Status}}").splitlines():
        yield f"container {line}"
    for pid in list_payload():
        command = b" ".join(command_of(pid)).decode(errors="replace")
        yield f"process {pid} {command[:60]}"
    for line in run("ss", "-Hltn", "sport = :2023").splitlines():
        yield f"listening {line}"
    yield from (f"file {path}" for path in list_temporary())


def list_temporary() -> list[Path]:
    return [path for folder in RENDERED for path in Path(folder).rglob(".*")]


def list_failed() -> dict[str, str]:
    """Failed units of ours, with the reason."""
    listed = run("systemctl", "list-units", "--failed", "--plain", "--no-legend", "deepseek*")
    units = [line.split()[0] for line in listed.splitlines()]
    return show("Result", *units) if units else {}


def list_starts(cursor: str) -> list[str]:
    """The units that systemd has started since then, one for each time, without skipped starts.
    (A cursor together with a match makes journalctl 252 skip the first that matches.)"""
    since = f"--after-cursor={cursor}" if cursor else "--boot"
    argv = ("journalctl", "--quiet", "--output=json", "--output-fields=MESSAGE_ID,UNIT", since)
    entries = [json.loads(line) for line in run(*argv).splitlines()]
    started = [entry["UNIT"] for entry in entries if entry.get("MESSAGE_ID") == STARTING]
    for entry in entries:
        if entry.get("MESSAGE_ID") == SKIPPED and entry.get("UNIT") in started:
            started.remove(entry["UNIT"])
    return started


def show(name: str, *units: str) -> dict[str, str]:
    """A property of units, by unit."""
    values = {}
    for block in run("systemctl", "show", f"--property=Id,{name}", *units).split("\n\n"):
        pairs = dict(line.split("=", 1) for line in block.splitlines())
        values[pairs["Id"]] = pairs[name]
    return values


def run(*argv: str) -> str:
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=COMMAND_LIMIT_S, check=False
    )
    return done.stdout


if __name__ == "__main__":
    main(*sys.argv[1:])
