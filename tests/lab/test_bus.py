# SPDX-License-Identifier: MulanPSL-2.0
"""The system bus goes away, hangs, or is something else: serving is not disturbed, the agent says
so at once and all the time, and goes on by itself when the bus is back.
"""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from . import bus as system_bus
from . import product
from .bus import KINDS, BusKind, Impostor, bus_away, bus_replaced, bus_stopped, kill_bus
from .faults import (
    Told,
    ask_status,
    find_payloads,
    kill_engine,
    main_pid,
    start_fresh,
    stop_leaves_nothing,
    wait_serving_alone,
    wait_told,
)
from .host import LabHost
from .product import ENGINE, FRONT

pytestmark = [
    pytest.mark.lab,
    pytest.mark.timeout(400),
    pytest.mark.parametrize(
        ("bare_host", "bus"),
        [
            pytest.param(
                flavour,
                kind,
                id=f"{flavour}-{kind}",
                marks=[pytest.mark.long] if kind is BusKind.BROKER else [],
            )
            for flavour, kind in KINDS
        ],
        indirect=True,
        scope="module",
    ),
]

AGENT = "deepseek-agent.service"
GONE = "systemd-unavailable"
# A bus that is silent is asked every few seconds.
NOTICED_S = 8.0
BACK_S = 15.0
AGAIN_S = 60.0
CPU_LIMIT_S = 1.0
TICKS_PER_S = 100

Outage = Callable[[LabHost], AbstractContextManager[None]]
OUTAGES = (bus_away, bus_stopped)


@pytest.fixture(scope="module")
def bus(host: LabHost, request: pytest.FixtureRequest) -> BusKind:
    kind = BusKind(request.param)
    system_bus.use_bus(host, kind)
    assert product.start(host, "enable", "--now").returncode == 0
    return kind


@pytest.fixture(autouse=True)
def container(host: LabHost, bus: BusKind) -> Iterator[str]:
    """The one in which 8b serves when the test begins; the bus is there again when it ends."""
    yield start_fresh(host)
    system_bus.restore_bus(host)


def watch(host: LabHost, for_s: float) -> list[Told]:
    """What the agent says all the time, and the engine answers all the time."""
    told = []
    deadline = time.monotonic() + for_s
    while time.monotonic() < deadline:
        told.append(ask_status(host))
        assert product.ask(host) is not None, product.describe(host)
        time.sleep(0.5)
    return told


def wait_noticed(host: LabHost) -> Told:
    told = wait_told(host, GONE, lambda told: told.systemd_code == GONE, NOTICED_S)
    assert told.returncode == 1
    return told


def wait_back(host: LabHost, container: str) -> None:
    """Nobody has done anything but bring the bus back."""
    wait_told(host, "all is well", lambda told: told.returncode == 0, BACK_S)
    told = ask_status(host)
    assert (told.phase, told.systemd_code) == ("serving", "")
    assert product.active_state(host, FRONT) == "active"
    assert list(find_payloads(host)) == [container]


def dies_and_comes_back(host: LabHost, container: str) -> None:
    """The agent hears of a dead engine, over whatever connection it has now."""
    kill_engine(host)
    wait_serving_alone(host, container, AGAIN_S)


def test_a_killed_bus_is_found_again(host: LabHost, container: str) -> None:
    since, agent = time.time(), main_pid(host, AGENT)
    kill_bus(host)
    watch(host, for_s=10)
    host.run(["systemctl", "start", "dbus.service"])
    wait_back(host, container)
    assert ask_status(host).events(GONE, since), product.describe(host)
    assert main_pid(host, AGENT) == agent
    dies_and_comes_back(host, container)


def test_a_bus_that_is_away_is_waited_for(host: LabHost, container: str) -> None:
    since = time.time()
    with bus_away(host):
        wait_noticed(host)
        seen = watch(host, for_s=20)
        assert {(told.returncode, told.systemd_code) for told in seen} == {(1, GONE)}
        assert len(seen[-1].events(GONE, since)) == 1
    wait_back(host, container)
    dies_and_comes_back(host, container)


@pytest.mark.long
def test_a_stopped_bus_is_told_and_waited_for(host: LabHost, container: str) -> None:
    since = time.time()
    with bus_stopped(host):
        assert wait_noticed(host).events(GONE, since)
        seen = watch(host, for_s=60)
        assert {(told.returncode, told.systemd_code) for told in seen} == {(1, GONE)}
    wait_back(host, container)
    dies_and_comes_back(host, container)


@pytest.mark.parametrize("outage", OUTAGES)
def test_the_outage_is_said_in_words(host: LabHost, outage: Outage) -> None:
    with outage(host):
        problem = wait_noticed(host).snapshot["systemd_problem"]
        done = host.run(["deepseekctl", "status"], check=False)
    assert done.returncode == 1
    # From one look to the next the words may change: it is gone, then it cannot be connected to.
    assert "system bus" in problem["message"]
    assert re.search(rf"units not seen: .*system bus.* \[{GONE}\]", done.stdout)


@pytest.mark.parametrize("impostor", list(Impostor))
def test_what_is_no_bus_is_survived(host: LabHost, container: str, impostor: Impostor) -> None:
    with bus_replaced(host, impostor):
        host.run(["systemctl", "restart", AGENT], timeout_s=60)
        wait_noticed(host)
        agent = main_pid(host, AGENT)
        before = cpu_s(host, agent)
        seen = watch(host, for_s=10)
        assert cpu_s(host, agent) - before < CPU_LIMIT_S
        assert {(told.returncode, told.systemd_code) for told in seen} == {(1, GONE)}
        assert product.active_state(host, FRONT) == "active"
        assert main_pid(host, AGENT) == agent
    wait_back(host, container)
    dies_and_comes_back(host, container)


@pytest.mark.parametrize("outage", OUTAGES)
def test_an_engine_that_dies_meanwhile_is_started_afterwards(
    host: LabHost, container: str, outage: Outage
) -> None:
    with outage(host):
        kill_engine(host)
        wait_noticed(host)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            assert ask_status(host).returncode == 1
            time.sleep(0.5)
    wait_serving_alone(host, container, AGAIN_S)
    wait_told(host, "all is well", lambda told: told.returncode == 0, BACK_S)


def test_stop_works_without_a_bus(host: LabHost) -> None:
    """root's systemctl speaks with PID 1 directly, and neither Podman nor crun needs the bus."""
    with bus_away(host):
        stop_leaves_nothing(host, limit_s=60)
        wait_noticed(host)
    told = wait_told(host, "nothing is wished", lambda told: told.phase == "idle", BACK_S)
    assert not told.instance["wished"]
    assert product.start(host).returncode == 0


def test_stop_with_a_stopped_bus_ends_with_that(host: LabHost) -> None:
    """crun (cgroup v1) and netavark wait for the bus; the engine itself ends at once."""
    with bus_stopped(host):
        product.start(host, "stop", "--no-block")
        wait_told(host, "the engine has ended", lambda _: find_payloads(host) == {}, 60)
        wait_noticed(host)
    product.wait_state(host, FRONT, "inactive", limit_s=60)
    assert product.active_state(host, ENGINE) in ("inactive", "failed")
    host.run(["systemctl", "reset-failed", ENGINE], check=False)
    wait_told(host, "nothing is wished", lambda told: told.phase == "idle", BACK_S)
    wait_told(host, "nothing is left", lambda _: product.leftovers(host) == [], 60)
    assert product.start(host).returncode == 0


def test_descriptors_do_not_grow(host: LabHost, container: str) -> None:
    agent = main_pid(host, AGENT)
    before = descriptors(host, agent)
    for _ in range(10):
        host.run(["systemctl", "restart", "dbus.service"])
        host.run(["systemctl", "reset-failed", "dbus.service"], check=False)
        wait_back(host, container)
    assert main_pid(host, AGENT) == agent
    deadline = time.monotonic() + 15
    while (now := descriptors(host, agent)) > before:
        assert time.monotonic() < deadline, f"{before} descriptors before, {now} after"
        time.sleep(0.5)


def cpu_s(host: LabHost, pid: int) -> float:
    """Of the process and of its children that have ended."""
    fields = host.read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS_PER_S


def descriptors(host: LabHost, pid: int) -> int:
    return len(host.run(["ls", f"/proc/{pid}/fd"]).stdout.split())
