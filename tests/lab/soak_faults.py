# SPDX-License-Identifier: MulanPSL-2.0
"""Faults of the soak, and which events explain each."""

from collections.abc import Callable
from dataclasses import dataclass

from .faults import main_pid, send_signal
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
NPUD_GOES = frozenset({"npus", "npud-silent"})
NPU_FAILS = frozenset({"npus", "npu-fault", "npu-fault-over"})


@dataclass(frozen=True, slots=True)
class SoakFault:
    """`spares_agent`: the agent's process goes on; then what it holds can be compared."""

    name: str
    run: Callable[[LabHost], object]
    explains: frozenset[str]
    spares_agent: bool = True


def _signal(unit: str, name: str) -> Callable[[LabHost], object]:
    return lambda host: send_signal(host, name, [main_pid(host, unit)])


def _systemctl(*words: str) -> Callable[[LabHost], object]:
    return lambda host: host.run(["systemctl", *words], timeout_s=280)


def _podman(*words: str) -> Callable[[LabHost], object]:
    return lambda host: host.run(["podman", *words, CONTAINER], timeout_s=120)


def _hang(host: LabHost) -> None:
    find_victims(host, CONTAINER).stop("core")


def _npu_fault(host: LabHost) -> None:
    """A minor one of a spare NPU that comes and goes."""
    driver = libdcmi_of(host)
    driver.raise_fault(7, 0, "80E01801")
    host.run(["sleep", "3"])
    driver.clear_fault(7, 0, "80E01801")


FAULTS = (
    SoakFault("SIGKILL of the engine", _podman("kill", "--signal=KILL"), DIES),
    SoakFault("podman rm -f", _podman("rm", "--force"), DIES),
    SoakFault("SIGSTOP of the engine's core", _hang, DIES),
    SoakFault("SIGKILL of attach", _signal(FRONT, "KILL"), COMES_AND_GOES),
    SoakFault("SIGKILL of npud", _signal(NPUD, "KILL"), NPUD_GOES),
    SoakFault("a fault of a spare NPU", _npu_fault, NPU_FAILS),
    SoakFault("systemctl restart of the model", _systemctl("restart", FRONT), COMES_AND_GOES),
    SoakFault("systemctl reload of the agent", _systemctl("reload", AGENT), frozenset()),
    SoakFault("daemon-reload", _systemctl("daemon-reload"), frozenset()),
    SoakFault("restart of Podman's service", _systemctl("restart", "podman.socket"), frozenset()),
    SoakFault("restart of journald", _systemctl("restart", "systemd-journald"), frozenset()),
    SoakFault("SIGKILL of the agent", _signal(AGENT, "KILL"), COMES_AND_GOES, spares_agent=False),
    SoakFault(
        "restart of the agent", _systemctl("restart", AGENT), COMES_AND_GOES, spares_agent=False
    ),
)
