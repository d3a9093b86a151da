# SPDX-License-Identifier: MulanPSL-2.0
"""What people and accidents do to the container and its image: it serves again by itself, and never
do two engines live, since both would hold the NPUs.
"""

from collections.abc import Iterator

import pytest

from . import product
from .faults import (
    agent_away,
    find_payloads,
    kill_engine,
    main_pid,
    send_signal,
    start_fresh,
    stop_leaves_nothing,
    wait_held,
    wait_left,
    wait_serving_alone,
    wait_told,
)
from .host import LabHost
from .images import (
    ENGINE_IMAGE,
    add_engine_image,
    remove_image,
    tag_engine_image,
    untag_engine_image,
)
from .product import CONTAINER, ENGINE, FRONT
from .sandbox_table import CGROUP

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]

SETTINGS = "/etc/deepseek-agent/agent.toml.d/lab.toml"
LOOK_AGAIN_S = 10  # the least that is allowed
AGAIN_S = 60.0
# Where an engine does not hear SIGTERM its stop timeout of 40 s comes first.
DEAF_S = 180.0
STOP_S = 60.0


@pytest.fixture(scope="module", autouse=True)
def _enabled(host: LabHost) -> None:
    host.write(SETTINGS, f"[limits]\nrecheck_held_s = {LOOK_AGAIN_S}\n")
    assert product.start(host, "enable", "--now").returncode == 0


@pytest.fixture(autouse=True)
def old(host: LabHost) -> Iterator[str]:
    """The container in which 8b serves when the test begins."""
    yield start_fresh(host)
    if host.run(["podman", "image", "exists", ENGINE_IMAGE], check=False).returncode != 0:
        add_engine_image(host)
    host.run(["systemctl", "reset-failed", "deepseek*"], check=False)


def test_systemd_hears_of_an_empty_control_group(host: LabHost) -> None:
    """Of the lab itself: where the last process in it was no child of systemd's."""
    group = f"{CGROUP[host.flavour]}/system.slice/lab-left.service"
    options = ["--property=TimeoutStopSec=60", "--property=SendSIGKILL=no"]
    host.run(["systemd-run", "--quiet", "--unit=lab-left", *options, "sleep", "100"])
    stays = f"trap '' TERM; echo $$ > {group}/cgroup.procs; sleep 3; true"
    stopped = host.run(["sh", "-c", 'sh -c "$0" & sleep 1; systemctl stop lab-left', stays])
    assert 2 < stopped.seconds < 30


@pytest.mark.parametrize("what", ["rm --force", "kill", "stop", "kill --signal=TERM"])
def test_a_container_ended_by_hand_is_replaced(host: LabHost, old: str, what: str) -> None:
    host.run(["podman", *what.split(), CONTAINER])
    wait_serving_alone(host, old, AGAIN_S)
    assert product.active_state(host, FRONT) == "active"


def test_a_renamed_container_serves_on_and_stops(host: LabHost, old: str) -> None:
    host.run(["podman", "rename", CONTAINER, "somebody-elses"])
    host.run(["systemctl", "restart", "deepseek-agent"])
    told = wait_told(host, "serving", lambda told: told.phase == "serving")
    assert told.returncode == 0
    assert set(find_payloads(host)) == {old}
    assert product.ask(host) is not None
    stop_leaves_nothing(host, STOP_S)
    assert product.start(host).returncode == 0
    assert product.ask(host) is not None


def test_a_renamed_container_that_dies_is_replaced(host: LabHost, old: str) -> None:
    host.run(["podman", "rename", CONTAINER, "somebody-elses"])
    host.run(["podman", "kill", old])
    wait_serving_alone(host, old, AGAIN_S)


def test_a_paused_container_is_stopped_all_the_same(host: LabHost, old: str) -> None:
    host.run(["podman", "pause", old])
    stop_leaves_nothing(host, STOP_S)
    assert product.start(host).returncode == 0


def test_without_a_name_its_image_serves_on(host: LabHost, old: str) -> None:
    """It is pinned by its id (ADR 4): somebody's `podman untag` is no reason to stop serving."""
    untag_engine_image(host)
    assert product.ask(host) is not None
    kill_engine(host)
    wait_serving_alone(host, old, AGAIN_S)
    tag_engine_image(host)


def test_an_image_removed_by_force_takes_the_engine_with_it(host: LabHost, old: str) -> None:
    remove_image(host)
    wait_held(host, "image-missing", AGAIN_S)
    assert find_payloads(host) == {}
    add_engine_image(host)
    wait_serving_alone(host, old, AGAIN_S)
    product.wait_state(host, FRONT, "active")


def test_a_dead_conmon_leaves_no_engine_behind(host: LabHost, old: str) -> None:
    send_signal(host, "KILL", [main_pid(host)])
    wait_serving_alone(host, old, AGAIN_S)


def test_a_frozen_engine_without_conmon_is_ended_first(host: LabHost, old: str) -> None:
    """It does not hear SIGTERM; Podman 4.3.1 takes it for stopped and forgets it."""
    send_signal(host, "STOP", find_payloads(host)[old])
    send_signal(host, "KILL", [main_pid(host)])
    wait_serving_alone(host, old, DEAF_S)


def test_an_engine_that_nobody_could_stop_is_ended_first(host: LabHost, old: str) -> None:
    """conmon is dead and so is what systemd had sent after it, by the OOM killer perhaps: Podman
    4.3.1 then removes the container from its books, and leaves the engine alive."""
    send_signal(host, "STOP", find_payloads(host)[old])
    send_signal(host, "KILL", [main_pid(host)])
    wait_left(host, ENGINE, "active")
    host.run(["systemctl", "kill", "--signal=KILL", ENGINE], check=False)
    wait_serving_alone(host, old, DEAF_S)


def test_an_engine_that_podman_has_forgotten_is_ended_at_a_start(host: LabHost, old: str) -> None:
    """Its processes are all that is left; found by their control group."""
    with agent_away(host):
        send_signal(host, "STOP", find_payloads(host)[old])
        send_signal(host, "KILL", [main_pid(host)])
        host.run(["systemctl", "kill", "--signal=KILL", ENGINE], check=False)
        host.run(["podman", "rm", "--force", "--ignore", CONTAINER], timeout_s=120, check=False)
    wait_serving_alone(host, old, DEAF_S)


def test_stop_ends_what_podman_has_forgotten(host: LabHost, old: str) -> None:
    """Nobody wants it to run any more, and its NPUs are wanted by others."""
    send_signal(host, "STOP", find_payloads(host)[old])
    send_signal(host, "KILL", [main_pid(host)])
    host.run(["systemctl", "kill", "--signal=KILL", ENGINE], check=False)
    product.start(host, "stop", timeout_s=280)
    wait_told(host, "idle", lambda told: told.phase == "idle")
    wait_told(host, "nothing lives", lambda _: find_payloads(host) == {}, limit_s=90)
    assert product.start(host).returncode == 0
