# SPDX-License-Identifier: MulanPSL-2.0
"""Rows of the fault table: no room, no inodes, nothing that may be written."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .fault_scene import (
    AGENT,
    Fault,
    dies_and_comes_back,
    fill,
    is_another,
    kill_payload,
    read_only,
    restart,
    run_full,
    serves_on,
    wait_well,
)
from .faults import (
    agent_away,
    find_payloads,
    wait_event,
    wait_serving_alone,
    wait_told,
)
from .host import LabHost
from .small_disk import SmallDisk

STATE = "/var/lib/deepseek-agent"
MEMORY = f"{STATE}/state.json"
KEPT = "/run/lab-state"
NOT_WRITTEN, WRITTEN = "file-not-written", "file-written"
NOT_STARTED = ("unit-start-failed", "podman-unavailable")
# What could not be written is tried again once a minute.
WRITTEN_S = 90.0
# The next try may be 30 s away.
NEXT_TRY_S = 90.0
SETTLED_S = 2.0


def run_full_and_dies(host: LabHost, container: str) -> str:
    with run_full(host):
        serves_on(host, container, 3)
        kill_payload(host, container)
        told = wait_told(host, "a full /run", lambda told: "no room" in told.message.lower())
        assert told.phase == "backoff", told.phase
    began = time.monotonic()
    wait_serving_alone(host, container, NEXT_TRY_S)
    return f"said [{told.code}]; serves {time.monotonic() - began:.1f} s after there was room"


def run_full_and_restart(host: LabHost, container: str) -> str:
    with run_full(host):
        restart(host, AGENT)
        wait_told(host, "an agent", lambda told: told.phase == "serving")
        serves_on(host, container, 5)
    return "a new agent adopts the engine"


def etc_read_only(host: LabHost, container: str) -> str:
    """Podman 5.4 does not mind; 4.3 cannot start anything (its network lock is in /etc), and so
    it is told until somebody mends it."""
    with read_only(host, "/etc"):
        restart(host, AGENT)
        serves_on(host, container, 3)
        kill_payload(host, container)
        told = wait_told(
            host,
            "why, or that it serves",
            lambda told: told.code in NOT_STARTED or is_another(host, container),
        )
    wait_serving_alone(host, container, NEXT_TRY_S)
    return f"told [{told.code}]" if told.code in NOT_STARTED else "serves all the same"


@contextmanager
def state_on(host: LabHost, mount: Callable[[], object]) -> Iterator[None]:
    """The agent's state is on a small file system of its own, with what it held."""
    with agent_away(host):
        host.run(["cp", "--archive", STATE, KEPT])
        mount()
        host.run(["cp", "--archive", f"{KEPT}/.", STATE])
    try:
        wait_well(host)
        time.sleep(SETTLED_S)  # what it has to say of its start is written
        yield
    finally:
        with agent_away(host):
            host.run(["umount", "--lazy", STATE])
            host.run(["rm", "--recursive", KEPT])


@contextmanager
def state_on_tmpfs(host: LabHost, options: str) -> Iterator[None]:
    mount = ["mount", "-t", "tmpfs", "-o", f"mode=700,{options}", "lab", STATE]
    with state_on(host, lambda: host.run(mount)):
        yield


def state_read_only(host: LabHost, container: str) -> str:
    """As ext4 makes itself when the disk below it fails: under everybody who has files open."""
    since = time.time()
    with state_on(host, lambda: SmallDisk(host, STATE, 32)):
        kept = host.read(MEMORY)
        host.run(["mount", "-o", "remount,abort", STATE])
        again = dies_and_comes_back(host)
        wait_event(host, NOT_WRITTEN, since)
        assert host.read(MEMORY) == kept
        restart(host, AGENT)
        wait_told(host, "an agent", lambda told: told.phase == "serving")
        assert len(find_payloads(host)) == 1
    return f"{again}; {NOT_WRITTEN} told; a new agent starts on it"


def state_full(host: LabHost, container: str) -> str:
    since = time.time()
    with state_on_tmpfs(host, "size=16m"):
        kept = host.read(MEMORY)
        fill(host, STATE)
        again = dies_and_comes_back(host)
        wait_event(host, NOT_WRITTEN, since)
        assert host.read(MEMORY) == kept
        host.run(["rm", f"{STATE}/lab-filler"])
        wait_event(host, WRITTEN, since, WRITTEN_S)
    return f"{again}; {NOT_WRITTEN} and {WRITTEN} told"


def state_without_inodes(host: LabHost, container: str) -> str:
    since = time.time()
    with state_on_tmpfs(host, "size=16m,nr_inodes=200"):
        kept = host.read(MEMORY)
        take = f"i=0; while : > {STATE}/lab-$i; do i=$((i+1)); done"
        host.run(["sh", "-c", take], check=False)
        again = dies_and_comes_back(host)
        wait_event(host, NOT_WRITTEN, since)
        assert host.read(MEMORY) == kept
        host.run(["sh", "-c", f"rm {STATE}/lab-*"])
        wait_event(host, WRITTEN, since, WRITTEN_S)
    return f"{again}; {NOT_WRITTEN} and {WRITTEN} told"


def state_gone(host: LabHost, container: str) -> str:
    """Somebody has removed all of it."""
    host.run(["sh", "-c", f"rm -rf {STATE}/*"])
    again = dies_and_comes_back(host)
    wait_well(host)
    restart(host, AGENT)
    wait_told(host, "an agent", lambda told: told.phase == "serving")
    assert len(find_payloads(host)) == 1
    host.run(["test", "-s", MEMORY])
    return f"{again}; {MEMORY} is there again"


ROOM_FAULTS = (
    Fault(
        "run full, engine dies",
        "serving goes on; then it says what is full, and serves when there is room",
        run_full_and_dies,
    ),
    Fault(
        "run full, agent restarts",
        "the new agent answers and leaves the engine alone",
        run_full_and_restart,
    ),
    Fault(
        "etc read-only",
        "a new agent adopts the engine; one that dies is started again, or it is told why not",
        etc_read_only,
    ),
    Fault(
        "state read-only",
        "serving and restarts of agent and engine go on, told, old content whole",
        state_read_only,
    ),
    Fault(
        "state full",
        "serving and restarts go on, told, old content whole, written later",
        state_full,
    ),
    Fault(
        "state without inodes",
        "serving and restarts go on, told, old content whole, written later",
        state_without_inodes,
    ),
    Fault("state removed", "serving and restarts go on, written anew", state_gone),
)
