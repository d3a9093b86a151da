# SPDX-License-Identifier: MulanPSL-2.0
"""Rows of the fault table: those whom the agent speaks with are gone, or do not answer."""

import time

from . import product
from .bus import bus_stopped, kill_bus
from .fault_scene import (
    AGAIN_S,
    AGENT,
    NPUD,
    Fault,
    dies_and_comes_back,
    restarts,
    serves_on,
    stopped,
    wait_restarts,
    wait_well,
)
from .faults import (
    Told,
    ask_status,
    find_payloads,
    kill_engine,
    main_pid,
    read_status,
    send_signal,
    wait_serving_alone,
    wait_told,
)
from .host import LabHost
from .product import FRONT

JOURNALD, PODMAN = "systemd-journald.service", "podman.service"
# WatchdogSec= of agentd and npud, and what systemd takes to end what does not hear SIGABRT.
WATCHDOG_S = 60.0
# The agent asks a silent Podman twice, then starts its service anew.
PODMAN_S = 150.0
SILENT_S = 10.0
# deepseekctl waits for an answer for 10 s.
GIVES_UP_S = 15.0


def bus_killed(host: LabHost, container: str) -> str:
    kill_bus(host)
    serves_on(host, container, 3)
    return dies_and_comes_back(host)


def bus_hangs(host: LabHost, container: str) -> str:
    with bus_stopped(host):
        kill_engine(host)
        wait_told(host, "no bus", lambda told: told.systemd_code == "systemd-unavailable", 20)
        for _ in range(int(SILENT_S)):
            ask_status(host)
            time.sleep(1)
    began = time.monotonic()
    wait_serving_alone(host, container, AGAIN_S)
    return f"serves {time.monotonic() - began:.1f} s after the bus was back"


def podman_hangs(host: LabHost, container: str) -> str:
    host.run(["podman", "--remote", "ps"])  # now its service runs
    with stopped(host, PODMAN):
        serves_on(host, container, 3)
        return dies_and_comes_back(host, PODMAN_S)


def journald_hangs(host: LabHost, container: str) -> str:
    """The engine writes to it, too: through conmon, by a datagram for each line."""
    with stopped(host, JOURNALD):
        again = dies_and_comes_back(host)
        assert product.start(host, "stop").returncode == 0
        assert product.start(host).returncode == 0
        (other,) = find_payloads(host)
        serves_on(host, other, SILENT_S)
    return again


def journald_killed(host: LabHost, container: str) -> str:
    for _ in range(3):
        host.run(["systemctl", "kill", "--signal=KILL", JOURNALD])
        serves_on(host, container, 1)
    host.run(["systemctl", "reset-failed", JOURNALD], check=False)
    host.run(["systemctl", "start", JOURNALD])
    return dies_and_comes_back(host)


def npud_hangs(host: LabHost, container: str) -> str:
    before = restarts(host, NPUD)
    with stopped(host, NPUD):
        began = time.monotonic()
        told = wait_told(host, "npud is silent", is_unknown, 25)
        noticed_s = time.monotonic() - began
        assert "gone" not in host.run(["deepseekctl", "status"], check=False).stdout
        assert told.phase == "serving"
        serves_on(host, container, 3)
        wait_restarts(host, NPUD, before + 1, WATCHDOG_S)
    wait_well(host)
    serves_on(host, container, 1)
    return f"told after {noticed_s:.0f} s, replaced after {time.monotonic() - began:.0f} s"


def npud_hangs_and_engine_dies(host: LabHost, container: str) -> str:
    with stopped(host, NPUD):
        wait_told(host, "npud is silent", is_unknown, 25)
        return dies_and_comes_back(host, AGAIN_S + WATCHDOG_S)


def is_unknown(told: Told) -> bool:
    return bool(told.snapshot["inventory"]["driver"] == "unknown")


def agent_hangs(host: LabHost, container: str) -> str:
    before = restarts(host, AGENT)
    began = time.monotonic()
    with stopped(host, AGENT):
        told = read_status(host)
        assert told.returncode != 0
        assert told.seconds < GIVES_UP_S, f"status took {told.seconds:.1f} s"
        assert product.ask(host) is not None
        wait_restarts(host, AGENT, before + 1, WATCHDOG_S)
    replaced_s = time.monotonic() - began
    wait_well(host)
    serves_on(host, container, 1)
    return f"status gives up after {told.seconds:.1f} s; replaced after {replaced_s:.0f} s"


def attach_hangs(host: LabHost, container: str) -> str:
    pid = main_pid(host, FRONT)
    send_signal(host, "STOP", [pid])
    try:
        serves_on(host, container, SILENT_S)
    finally:
        send_signal(host, "CONT", [pid])
    return dies_and_comes_back(host)


AGAIN = "serving is not disturbed; an engine that dies is started again"
PEER_FAULTS = (
    Fault("bus killed", AGAIN, bus_killed),
    Fault("bus hangs, engine dies", "told all the time; served when it is back", bus_hangs),
    Fault("podman hangs, engine dies", f"{AGAIN}, by itself", podman_hangs),
    Fault("journald hangs", f"{AGAIN}; stop, start and status go on", journald_hangs),
    Fault("journald killed", AGAIN, journald_killed),
    Fault(
        "npud hangs",
        "told as unknown, no NPU is said to be gone, serving is not disturbed; it is replaced",
        npud_hangs,
    ),
    Fault("npud hangs, engine dies", "served when it is replaced", npud_hangs_and_engine_dies),
    Fault("agent hangs", "status gives up in time; it is replaced, serving goes on", agent_hangs),
    Fault("attach hangs", "serving is not disturbed", attach_hangs),
)
