# SPDX-License-Identifier: MulanPSL-2.0
"""Faults of the soak, and which events explain each."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from .faults import find_payloads, main_pid, send_signal, wait_event, wait_serving_alone
from .host import LabHost
from .npus import libdcmi_of
from .product import CONTAINER, FRONT
from .victims import find_victims

AGENT, NPUD = "deepseek-agent.service", "deepseek-npud.service"
# What a start, a stop and what leads to one is told by.
COMES_AND_GOES = frozenset(
    {"asked", "backoff", "evidence", "front-revived", "idle", "loading", "serving", "starting"}
    | {"stopping", "recovering", "restarting"}
)
DIES = COMES_AND_GOES | {"engine-died", "engine-failed", "engine-killed", "engine-hung", "port-cut"}
AGENT_GOES = COMES_AND_GOES | {"npus"}
NPUD_GOES = frozenset({"npus", "npud-silent"})
ASKED = frozenset({"asked"})
READY = "driver ready"
REPLACED_S = 120.0  # a hung engine is found within 30 s, and has 40 s to stop
NPU_FAILS = frozenset({"npus", "npu-fault", "npu-fault-over"})


@dataclass(frozen=True, slots=True)
class SoakFault:
    """`spares_agent`: the agent's process goes on; then what it holds can be compared."""

    name: str
    run: Callable[[LabHost], object]
    explains: frozenset[str]
    spares_agent: bool = True


def _systemctl(*words: str) -> Callable[[LabHost], object]:
    return lambda host: host.run(["systemctl", *words], timeout_s=280)


def _podman(*words: str) -> Callable[[LabHost], object]:
    return _replaced(lambda host: host.run(["podman", *words, CONTAINER], timeout_s=120))


def _replaced(end: Callable[[LabHost], object]) -> Callable[[LabHost], object]:
    """Until another engine serves: the agent may take a while to see what has happened."""

    def run(host: LabHost) -> None:
        (container,) = find_payloads(host)
        end(host)
        wait_serving_alone(host, container, REPLACED_S)

    return run


def _hang(host: LabHost) -> None:
    find_victims(host, CONTAINER).stop("core")


def _kill(unit: str, kind: str, words: str = "") -> Callable[[LabHost], object]:
    """Until it is told that another one is there: the agent may take a while to see it."""

    def run(host: LabHost) -> None:
        since = time.time()
        send_signal(host, "KILL", [main_pid(host, unit)])
        wait_event(host, kind, since, words=words)

    return run


def _npu_fault(host: LabHost) -> None:
    """A minor one of a spare NPU that comes and goes."""
    driver = libdcmi_of(host)
    driver.raise_fault(7, 0, "80E01801")
    host.run(["sleep", "3"])
    driver.clear_fault(7, 0, "80E01801")


FAULTS = (
    SoakFault("SIGKILL of the engine", _podman("kill", "--signal=KILL"), DIES),
    SoakFault("podman rm -f", _podman("rm", "--force"), DIES),
    SoakFault("SIGSTOP of the engine's core", _replaced(_hang), DIES),
    SoakFault("SIGKILL of attach", _kill(FRONT, "front-revived"), COMES_AND_GOES),
    SoakFault("SIGKILL of npud", _kill(NPUD, "npus", READY), NPUD_GOES),
    SoakFault("a fault of a spare NPU", _npu_fault, NPU_FAILS),
    SoakFault("systemctl restart of the model", _systemctl("restart", FRONT), COMES_AND_GOES),
    SoakFault("systemctl reload of the agent", _systemctl("reload", AGENT), ASKED),
    SoakFault("daemon-reload", _systemctl("daemon-reload"), frozenset()),
    SoakFault("restart of Podman's service", _systemctl("restart", "podman.socket"), frozenset()),
    SoakFault("restart of journald", _systemctl("restart", "systemd-journald"), frozenset()),
    SoakFault("SIGKILL of the agent", _kill(AGENT, "npus", READY), AGENT_GOES, spares_agent=False),
    SoakFault("restart of the agent", _systemctl("restart", AGENT), AGENT_GOES, spares_agent=False),
)
