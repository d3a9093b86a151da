# SPDX-License-Identifier: MulanPSL-2.0
"""Updates to a new revision of the model at its hub: fetched beside what serves, switched to when
all that runs is answered; undone when the engine dies of it, and taken back by a person.
"""

import json
import time
from collections.abc import Iterator

import pytest

from . import product
from .faults import ask_status, start_fresh, wait_event, wait_told
from .host import LabHost
from .hub import CDN, FOLDER, REPO, set_faults
from .models import MODELS_DIRECTORY, build_safetensors
from .product import FRONT
from .rootfs import Flavour
from .supply_scene import MODEL, SETTINGS, SETTINGS_FILE, bare_host
from .test_drain import REQUEST, TOKENS, begin_request, tokens_answered
from .test_updates import asking, longest_silence_s, on_trial

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(400)]

STORE = f"{MODELS_DIRECTORY}/.store"
STATE = "/var/lib/deepseek-agent/state.json"
AGENT = "deepseek-agent.service"
TRIAL_S = 600.0
EXTRA = "model-00002.safetensors"
SLOW_ENGINE = {"tokens_per_s": 5}
SLOW_HUB = {"match": CDN, "kind": "slow", "rate": 400_000, "times": -1}
# The same, as if an hour had passed since each revision came.
PRUNE = "/usr/local/libexec/lab-prune"
PRUNE_UNIT = f"[Service]\nExecStart=\nExecStart={PRUNE} prune\n"
LATER = r"s/^from agent.supply.__main__ .*/import agent.supply.pruning as p; p.SETTLED_S = 0\n&/"


@pytest.fixture(scope="module", params=list(Flavour), ids=lambda flavour: flavour.value)
def host(request: pytest.FixtureRequest) -> Iterator[LabHost]:
    """Stands in for the fixture of conftest.py: the model has come from the hub."""
    flavour: Flavour = request.param
    with bare_host(flavour, f"model-updates-{flavour.value}") as one:
        one.write(SETTINGS_FILE, SETTINGS)
        assert product.start(one, "enable", "--now", timeout_s=300).returncode == 0
        yield one


@pytest.fixture(autouse=True)
def _calm(host: LabHost) -> Iterator[None]:
    """Nothing is on trial when a test begins, and the revision is a good one."""
    yield
    set_faults(host)
    host.run(["systemctl", "stop", REQUEST], check=False)
    host.run(["rm", "-f", f"{FOLDER}/{REPO}/vllm_double.json", f"{MODEL}/vllm_double.json"])
    host.run(["deepseekctl", "rollback", "8b"], check=False)
    wait_told(host, "no trial", lambda told: not on_trial(told.instance))
    wait_settled(host)


def publish(host: LabHost, **engine: object) -> None:
    """A new revision at the hub; of one with options the engine double does what they say."""
    host.write(f"{FOLDER}/{REPO}/README.md", f"revision of {time.time_ns()}\n")
    if engine:
        host.write(f"{FOLDER}/{REPO}/vllm_double.json", json.dumps(engine))


def publish_weights(host: LabHost) -> None:
    """A new revision with other weights, so that there is something to fetch."""
    weights = build_safetensors(f"lab.{time.time_ns()}", 2_000_000)
    target = f"{FOLDER}/{REPO}/{EXTRA}"
    host.run(["install", "-m", "644", "/dev/stdin", target], input=weights)
    publish(host)


def revision(host: LabHost) -> str:
    """That the model's link leads to."""
    return host.run(["readlink", MODEL]).stdout.strip().rpartition("/")[2]


def revisions(host: LabHost) -> set[str]:
    """All that are there."""
    return set(host.run(["sh", "-c", f"ls {STORE}/*"]).stdout.split())


def roles(host: LabHost) -> dict[str, str]:
    """The revision for each role that is filled."""
    update = ask_status(host).instance["update"] or {}
    found = {role: update.get(role) for role in ("current", "previous", "trial")}
    return {role: one["model_revision"] for role, one in found.items() if one}


def wait_settled(host: LabHost) -> None:
    """It serves, and the link is where it should be."""

    def is_so(_: object) -> bool:
        told = roles(host)
        return revision(host) == told.get("trial", told.get("current"))

    product.wait_serving(host, limit_s=120)
    wait_told(host, "it is settled", is_so, 60)


def update(host: LabHost) -> None:
    """To the newest revision, which serves then and is on trial."""
    before = product.container_started_at(host)
    updated = host.run(["deepseekctl", "update", "8b"], timeout_s=200)
    assert "goes on trial" in updated.stdout, updated.stdout
    product.wait_serving(host, other_than=before, limit_s=120)


def end_trial(host: LabHost) -> None:
    """As if it had served for ten minutes: an agent that comes later finds that they are over."""
    since = time.time()
    host.run(["systemctl", "stop", "deepseek-agent.socket", AGENT])
    state = json.loads(host.read(STATE))
    (of_8b,) = (one for one in state["instances"] if one["name"] == "8b")
    of_8b["update"]["answered_at"] -= TRIAL_S
    host.write(STATE, json.dumps(state))
    host.run(["systemctl", "start", "deepseek-agent.socket", AGENT])
    wait_event(host, "updated", since, 60)


def test_nothing_new_is_no_restart(host: LabHost) -> None:
    container = product.container_started_at(host)
    assert "8b is up to date" in host.run(["deepseekctl", "update", "8b"]).stdout
    assert product.container_started_at(host) == container


def test_a_new_revision_is_fetched_beside_and_switched_to(host: LabHost) -> None:
    start_fresh(host)
    old, container = revision(host), product.container_started_at(host)
    publish_weights(host)
    set_faults(host, SLOW_HUB)
    with asking(host):
        host.run(["systemd-run", "--collect", "deepseekctl", "update", "8b"])
        told = wait_told(host, "it fetches", lambda told: bool(told.instance["fetch"]))
        assert (told.phase, revision(host)) == ("serving", old)
        set_faults(host)
        wait_told(host, "on trial", lambda told: bool(on_trial(told.instance)), 60)
        # The link leads to the new one before the engine is restarted.
        product.wait_serving(host, other_than=container, limit_s=120)
        time.sleep(1)
        assert product.ask(host) is not None
    assert roles(host) == {"current": old, "trial": revision(host)}
    assert roles(host)["trial"] != old
    print(f"\n{host.flavour}: {longest_silence_s(host):.1f} s without an answer by a new revision")


def test_a_broken_revision_is_undone(host: LabHost) -> None:
    start_fresh(host)
    old, since = revision(host), time.time()
    publish(host, fail_at_start="damaged-model")
    with asking(host):
        updated = host.run(["deepseekctl", "update", "8b"], check=False, timeout_s=200)
        assert updated.returncode in (0, 4), updated.stderr  # it may be undone already
        undone = wait_event(host, "update-undone", since, 120)
        product.wait_serving(host, limit_s=120)
        time.sleep(3)
    assert undone.instance["update"]["undone"]["supply"]["model_revision"] != old
    assert roles(host)["current"] == revision(host) == old
    assert product.ask(host) is not None
    assert "was undone" in host.run(["deepseekctl", "status"]).stdout
    print(f"\n{host.flavour}: {longest_silence_s(host):.1f} s without an answer by a broken one")


def test_a_request_that_runs_is_finished_first(host: LabHost) -> None:
    product.set_engine(host, **SLOW_ENGINE)
    start_fresh(host)
    old = revision(host)
    publish(host)
    begin_request(host)
    update(host)
    assert tokens_answered(host) == TOKENS
    assert revision(host) != old


def test_a_person_takes_it_back(host: LabHost) -> None:
    start_fresh(host)
    old = revision(host)
    publish(host)
    update(host)
    assert revision(host) != old
    before = product.container_started_at(host)
    host.run(["deepseekctl", "rollback", "8b"])
    product.wait_serving(host, other_than=before, limit_s=120)
    wait_settled(host)
    assert (revision(host), roles(host)["current"]) == (old, old)


def test_the_one_before_is_kept_and_the_one_before_that_may_go(host: LabHost) -> None:
    start_fresh(host)
    first = revision(host)
    for _ in range(2):
        publish(host)
        update(host)
        end_trial(host)
    known = roles(host)
    assert known["current"] == revision(host)
    assert first not in known.values()
    assert {first, *known.values()} <= revisions(host)
    text = host.run(["sed", LATER, "/usr/libexec/deepseek-agent/supply"]).stdout
    assert "SETTLED_S" in text
    host.write(PRUNE, text)
    host.run(["chmod", "755", PRUNE])
    host.write("/etc/systemd/system/deepseek-prune.service.d/later.conf", PRUNE_UNIT)
    host.run(["systemctl", "daemon-reload"])
    assert first in host.run(["deepseekctl", "prune", "--dry-run"]).stdout
    assert first in revisions(host)
    host.run(["deepseekctl", "prune"])
    assert revisions(host) == set(known.values())
    before = product.container_started_at(host)
    host.run(["deepseekctl", "rollback", "8b"])
    product.wait_serving(host, other_than=before, limit_s=120)
    wait_settled(host)
    assert revision(host) == known["previous"]
    assert product.active_state(host, FRONT) == "active"
