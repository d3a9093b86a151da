# SPDX-License-Identifier: MulanPSL-2.0
"""An update to an image that is broken, and to one that is good: who asks all the time is without
an answer for no longer than two starts and the way between them take.
"""

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from . import product
from .faults import ask_status, start_fresh, wait_event, wait_told
from .host import LabHost
from .images import ENDS_AT_ONCE, ENGINE_IMAGE, add_changed_image

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

BROKEN, GOOD = "localhost/broken:1", "localhost/good:1"
CLIENT = Path(__file__).with_name("answers_client.py")
CLIENT_PLACE = "/var/lib/deepseek-lab/answers_client.py"
CLIENT_UNIT = "lab-answers.service"
ANSWERS = "/var/lib/deepseek-lab/answers"
KEPT = "localhost/deepseek-agent/8b"


@pytest.fixture(autouse=True)
def _images(host: LabHost) -> None:
    """What the engine's image is made into: one that ends at once, and one that only differs."""
    add_changed_image(host, BROKEN, ENDS_AT_ONCE)
    add_changed_image(host, GOOD, "LABEL lab=good")


@contextmanager
def asking(host: LabHost) -> Iterator[None]:
    """A client that asks all the time."""
    host.copy_in(CLIENT, CLIENT_PLACE)
    host.run(["rm", "-f", ANSWERS])
    command = ("python3", CLIENT_PLACE, "http://127.0.0.1:2023", "deepseek-r1:8b", ANSWERS)
    host.run(["systemd-run", f"--unit={CLIENT_UNIT}", "--collect", *command])
    try:
        yield
    finally:
        host.run(["systemctl", "stop", CLIENT_UNIT])


def longest_silence_s(host: LabHost) -> float:
    """Between two answers."""
    answers = [float(line) for line in host.read(ANSWERS).splitlines()]
    return max(late - early for early, late in itertools.pairwise(answers))


def id_of(host: LabHost, name: str) -> str:
    """Empty when there is none of that name."""
    inspect = ["podman", "image", "inspect", "--format={{.Id}}", name]
    return host.run(inspect, check=False).stdout.strip().removeprefix("sha256:")


def running_image(host: LabHost) -> str:
    inspect = ["podman", "container", "inspect", "--format={{.Image}}", product.CONTAINER]
    return host.run(inspect, check=False).stdout.strip().removeprefix("sha256:")


def wait_kept(host: LabHost, **roles: str) -> None:
    """Until the images have the names of ours that are right."""
    wait_told(
        host,
        f"names {sorted(roles)}",
        lambda _: all(id_of(host, f"{KEPT}:{role}") == one for role, one in roles.items()),
    )


def test_a_broken_one_is_undone(host: LabHost) -> None:
    start_fresh(host)
    old = product.image_id(host)
    wait_kept(host, current=old, trial="")
    since = time.time()
    with asking(host):
        updated = host.run(["deepseekctl", "update", "8b", "--image", BROKEN], check=False)
        assert updated.returncode in (0, 4), updated.stderr  # it may be undone already
        undone = wait_event(host, "update-undone", since, 60)
        product.wait_serving(host)
        time.sleep(3)
    assert running_image(host) == old
    assert undone.instance["update"]["undone"]["failure"]["code"] in (
        *("engine-died", "unit-start-failed"),
    )
    wait_kept(host, current=old, previous="", trial="")
    assert "was undone" in host.run(["deepseekctl", "status"]).stdout
    print(f"\n{host.flavour}: {longest_silence_s(host):.1f} s without an answer")


def test_what_was_pulled_does_not_change_what_runs(host: LabHost) -> None:
    start_fresh(host)
    old = product.image_id(host)
    wait_kept(host, current=old)
    host.run(["podman", "tag", BROKEN, ENGINE_IMAGE])
    try:
        host.run(["podman", "image", "prune", "--force"])
        assert old in host.run(["deepseekctl", "render", "8b"]).stdout
        old_container = product.container_started_at(host)
        host.run(["deepseekctl", "restart", "8b"])
        product.wait_serving(host, other_than=old_container)
        assert running_image(host) == old
    finally:
        host.run(["podman", "tag", old, ENGINE_IMAGE])


def test_a_good_one_goes_on_trial_and_back_by_hand(host: LabHost) -> None:
    start_fresh(host)
    old, good = product.image_id(host), id_of(host, GOOD)
    wait_kept(host, current=old)
    old_container = product.container_started_at(host)
    with asking(host):
        updated = host.run(["deepseekctl", "update", "8b", "--image", GOOD])
        assert "goes on trial" in updated.stdout
        product.wait_serving(host, other_than=old_container)
        assert running_image(host) == good
        wait_kept(host, current=old, trial=good)
        # Neither an agent that is killed nor a stop ends the trial.
        host.run(["systemctl", "kill", "--signal=KILL", "deepseek-agent.service"])
        wait_told(host, "it is on trial", lambda told: on_trial(told.instance) == good)
    silence_s = longest_silence_s(host)
    start_fresh(host)
    assert running_image(host) == good
    host.run(["deepseekctl", "rollback", "8b"])
    wait_told(host, "back", lambda told: not on_trial(told.instance))
    wait_told(host, "the old one", lambda _: running_image(host) == old, 60)
    product.wait_serving(host)
    again = host.run(["deepseekctl", "update", "8b", "--image", ENGINE_IMAGE], check=False)
    assert (again.returncode, ask_status(host).phase) == (4, "serving")  # no registry is there
    print(f"\n{host.flavour}: {silence_s:.1f} s without an answer by a good update")


def on_trial(instance: dict[str, object]) -> str:
    """The image's id; empty when none is."""
    update = instance.get("update")
    trial = update.get("trial") if isinstance(update, dict) else None
    return str(trial["image_id"]) if isinstance(trial, dict) else ""
