# SPDX-License-Identifier: MulanPSL-2.0
"""Podman's API is off, hangs, answers errors, or waits for a lock: the engine that serves does not
need it, the agent says what is wrong, never hangs, and goes on by itself when it can.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from . import product
from .faults import (
    ask_status,
    find_payloads,
    kill_engine,
    send_signal,
    start_fresh,
    wait_failure,
    wait_serving_alone,
)
from .host import LabHost
from .product import FRONT

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

SOCKET, SERVICE = "podman.socket", "podman.service"
API = "/run/podman/podman.sock"
UNAVAILABLE, SILENT = "podman-unavailable", "podman-silent"
DROP_IN = "/run/systemd/system/podman.service.d/lab.conf"
BROKEN_API = "/run/lab-broken-api.py"
# Takes the socket from systemd as podman does, and fails at everything.
BROKEN_API_SCRIPT = """
import http.server, socket
class Broken(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(500, "the lab has broken it")
    do_POST = do_DELETE = do_GET
    def address_string(self):
        return "peer"
server = http.server.HTTPServer(("", 0), Broken, bind_and_activate=False)
server.socket = socket.socket(fileno=3)
server.serve_forever()
"""
LOCK = "/var/lib/containers/storage/storage.lock"
# What containers/storage itself does: a lock of fcntl(2), without a limit.
HOLD_LOCK = """
import fcntl, os, sys, time
lock = os.open(sys.argv[1], os.O_RDWR)
fcntl.lockf(lock, fcntl.LOCK_EX)
time.sleep(600)
"""
HOLDER = "lab-lock-holder.service"
# The child of one question has 10 s, and the agent 30 s for the child.
TOLD_S = 60.0
AGAIN_S = 60.0
# After a fault of a minute the next try may be that far away.
BACKOFF_S = 120.0
FAULT_S = 60.0


@pytest.fixture(scope="module", autouse=True)
def _enabled(host: LabHost) -> None:
    assert product.start(host, "enable", "--now").returncode == 0


@pytest.fixture(autouse=True)
def container(host: LabHost) -> Iterator[str]:
    """The one in which 8b serves when the test begins; Podman is whole when it ends. A new agent
    has forgotten what it has done about Podman."""
    host.run(["systemctl", "restart", "deepseek-agent"])
    yield start_fresh(host)
    host.run(["systemctl", "kill", "--signal=CONT", SERVICE], check=False)
    host.run(["systemctl", "stop", HOLDER], check=False)
    host.run(["rm", "-rf", DROP_IN])
    host.run(["systemctl", "unmask", "--runtime", SOCKET])
    host.run(["systemctl", "stop", SOCKET, SERVICE], check=False)
    host.run(["systemctl", "start", SOCKET])


def goes_on(host: LabHost, for_s: float, *, engine_is_dead: bool = True) -> None:
    """The fault lasts so long; status is told at once all the time."""
    deadline = time.monotonic() + for_s
    while time.monotonic() < deadline:
        assert ask_status(host).phase != "serving" or not engine_is_dead
        time.sleep(0.5)


# --- the socket ----------------------------------------------------------------------------------


def test_a_socket_that_is_off_is_started(host: LabHost, container: str) -> None:
    host.run(["systemctl", "stop", SOCKET, SERVICE])
    kill_engine(host)
    wait_serving_alone(host, container, AGAIN_S)
    assert product.active_state(host, SOCKET) == "active"


def test_a_socket_that_is_off_does_not_keep_from_starting(host: LabHost) -> None:
    product.start(host, "stop")
    host.run(["systemctl", "stop", SOCKET, SERVICE])
    assert product.start(host).returncode == 0
    assert product.ask(host) is not None


def test_a_removed_socket_file_is_no_end(host: LabHost, container: str) -> None:
    """systemd still listens, at a file that is gone."""
    host.run(["systemctl", "stop", SERVICE])
    host.run(["rm", API])
    kill_engine(host)
    wait_serving_alone(host, container, BACKOFF_S)


def test_a_masked_socket_is_told_and_waited_for(host: LabHost, container: str) -> None:
    host.run(["systemctl", "mask", "--runtime", SOCKET])
    host.run(["systemctl", "stop", SOCKET, SERVICE])
    kill_engine(host)
    told = wait_failure(host, [UNAVAILABLE], SOCKET, TOLD_S)
    assert told.returncode == 1
    assert "unmask" in told.instance["failure"]["hint"]
    goes_on(host, for_s=10)
    assert product.active_state(host, FRONT) == "active"
    host.run(["systemctl", "unmask", "--runtime", SOCKET])
    wait_serving_alone(host, container, AGAIN_S)


# --- the API -------------------------------------------------------------------------------------


@contextmanager
def api_stopped(host: LabHost) -> Iterator[None]:
    """podman.service runs, and has SIGSTOP."""
    host.run(["curl", "--silent", f"--unix-socket={API}", "http://podman/_ping"], check=False)
    pid = int(product.show(host, SERVICE, "MainPID")["MainPID"])
    assert pid
    send_signal(host, "STOP", [pid])
    try:
        yield
    finally:
        send_signal(host, "CONT", [pid])


def test_an_api_that_hangs_is_told_and_does_not_last(host: LabHost, container: str) -> None:
    """Either it answers again, or the agent has had systemd end it: a stopped process does not
    ignore that."""
    since = time.monotonic()
    with api_stopped(host):
        kill_engine(host)
        wait_failure(host, [UNAVAILABLE, SILENT], limit_s=TOLD_S)
        while time.monotonic() - since < FAULT_S and ask_status(host).phase != "serving":
            time.sleep(0.5)
    wait_serving_alone(host, container, 30)
    print(f"serving again {time.monotonic() - since:.0f} s after the engine had died")


@pytest.mark.long
def test_an_api_that_hangs_for_ever_is_replaced(host: LabHost, container: str) -> None:
    """Nobody sends SIGCONT on a host that nobody looks at."""
    with api_stopped(host):
        kill_engine(host)
        wait_serving_alone(host, container, 300)


@pytest.mark.long
def test_an_api_that_answers_errors_is_told_and_waited_for(host: LabHost, container: str) -> None:
    host.write(BROKEN_API, BROKEN_API_SCRIPT)
    start = f"ExecStart=\nExecStart=/usr/bin/python3 {BROKEN_API}\n"
    host.write(DROP_IN, f"[Service]\n{start}Type=simple\nKillMode=control-group\n")
    host.run(["systemctl", "daemon-reload"])
    host.run(["systemctl", "stop", SERVICE])
    kill_engine(host)
    told = wait_failure(host, [UNAVAILABLE], "500", TOLD_S)
    assert told.returncode == 1
    goes_on(host, for_s=20)
    assert find_payloads(host) == {}
    host.run(["rm", DROP_IN])
    host.run(["systemctl", "daemon-reload"])
    host.run(["systemctl", "stop", SERVICE])
    wait_serving_alone(host, container, BACKOFF_S)


# --- the storage ---------------------------------------------------------------------------------


@contextmanager
def storage_locked(host: LabHost) -> Iterator[None]:
    """Somebody, another podman it may be, holds the lock that every podman takes first."""
    hold = ["python3", "-c", HOLD_LOCK, LOCK]
    host.run(["systemd-run", f"--unit={HOLDER}", "--collect", *hold])
    try:
        yield
    finally:
        host.run(["systemctl", "stop", HOLDER])


@pytest.mark.long
def test_a_locked_storage_does_not_disturb_serving(host: LabHost, container: str) -> None:
    with storage_locked(host):
        host.run(["systemctl", "restart", "deepseek-agent"])
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline:
            ask_status(host)
            assert product.ask(host) is not None
            time.sleep(0.5)
        assert ask_status(host).phase == "serving"
    assert list(find_payloads(host)) == [container]


@pytest.mark.long
def test_a_locked_storage_at_a_start_is_told_and_waited_for(host: LabHost) -> None:
    product.start(host, "stop")
    with storage_locked(host):
        product.start(host, "start", "--no-block")
        told = wait_failure(host, [UNAVAILABLE, SILENT], limit_s=TOLD_S)
        assert told.returncode == 1
        goes_on(host, for_s=20)
    product.wait_serving(host, limit_s=BACKOFF_S)
    assert len(find_payloads(host)) == 1


def test_an_engine_that_dies_while_the_storage_is_locked(host: LabHost, container: str) -> None:
    """Even its conmon and its unit have to wait for the lock then."""
    pids = find_payloads(host)[container]
    with storage_locked(host):
        send_signal(host, "KILL", pids)
        goes_on(host, for_s=20, engine_is_dead=False)
    wait_serving_alone(host, container, BACKOFF_S)


def test_stop_while_the_storage_is_locked_ends_with_that(host: LabHost) -> None:
    with storage_locked(host):
        product.start(host, "stop", "--no-block")
        goes_on(host, for_s=20, engine_is_dead=False)
    product.wait_state(host, FRONT, "inactive", limit_s=60)
    assert product.leftovers(host) == []
    assert find_payloads(host) == {}
    assert product.start(host).returncode == 0
