# SPDX-License-Identifier: MulanPSL-2.0
"""From a bare host to an answer, with everything that may go wrong on the way: in the end there are
the right bytes, or a clear error.
"""

import json
import shlex
import time
from collections.abc import Iterator
from typing import Any

import pytest

from . import product
from .faults import (
    ask_status,
    stop_leaves_nothing,
    wait_event,
    wait_failure,
    wait_held,
    wait_told,
)
from .host import LabHost
from .hub import CDN, FOLDER, REPO, asked, hub_away, ranges_asked, set_faults
from .images import ENGINE_IMAGE
from .models import MODELS_DIRECTORY
from .product import FRONT
from .rootfs import Flavour
from .supply_scene import (
    MODEL,
    SETTINGS,
    SETTINGS_FILE,
    bare_host,
    forget_images,
    forget_model,
    registry_away,
)

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

UNIT = "deepseek-supply@8b.service"
WEIGHTS_MIB = 8
# Of the engine, after what it lacked has come.
STOP_S = 60.0
FEW_S = 90.0
# A held one is looked at again this soon, so that a test need not wait five minutes.
QUICK = "[limits]\nrecheck_held_s = 10\n"
WEIGHTS = "model-extra"
# The two files of weights come from the hub's CDN; other words match its API and small files.
FILES_OF_CDN = 2
CUT_AT = 1_000_000
SLOW = {"match": CDN, "kind": "slow", "rate": 500_000, "times": -1}


@pytest.fixture(scope="module", params=list(Flavour), ids=lambda flavour: flavour.value)
def host(request: pytest.FixtureRequest) -> Iterator[LabHost]:
    """Stands in for the fixture of conftest.py: with nothing but NPUs and the package."""
    flavour: Flavour = request.param
    with bare_host(flavour, f"supply-{flavour.value}", WEIGHTS_MIB) as one:
        one.write(SETTINGS_FILE, SETTINGS + QUICK)
        one.run(["systemctl", "enable", FRONT])
        yield one


@pytest.fixture(autouse=True)
def _bare(host: LabHost) -> Iterator[None]:
    """Each test begins with neither image nor model, and with sources that work."""
    set_faults(host)
    yield
    product.start(host, "stop", timeout_s=200)
    host.run(["systemctl", "reset-failed", FRONT], check=False)
    host.run(["systemctl", "stop", UNIT], check=False)
    forget_model(host)
    forget_images(host)


def is_whole(host: LabHost) -> bool:
    """The files in place are those of the hub."""
    sums = f"cd {FOLDER}/{REPO} && sha256sum *"
    check = f"cd {shlex.quote(MODEL)} && sha256sum --check --quiet -"
    return host.run(["sh", "-c", f"({sums}) | ({check})"], check=False).returncode == 0


def serves(host: LabHost, limit_s: float = FEW_S) -> None:
    product.wait_serving(host, limit_s=limit_s)
    assert product.ask(host) is not None
    assert is_whole(host)


def test_one_command_on_a_bare_host(host: LabHost) -> None:
    since = time.time()
    started = product.start(host, "enable", "--now", timeout_s=200)
    assert started.returncode == 0, product.describe(host)
    serves(host)
    told = ask_status(host)
    (fetched,) = told.events("fetched", since)
    assert "image sha256:" in fetched
    assert "model revision" in fetched
    manifest = json.loads(host.read(f"{MODEL}/deepseek-manifest.json"))
    assert manifest["repo"] == REPO
    assert {file["path"] for file in manifest["files"]} >= {"config.json", "model.safetensors"}
    stop_leaves_nothing(host, STOP_S)
    assert product.start(host).returncode == 0  # and nothing is fetched again
    assert ask_status(host).events("fetched", since) == [fetched]


@pytest.mark.parametrize(
    "rule",
    [
        {"kind": "status", "status": 429, "headers": {"Retry-After": "1"}, "times": 2},
        {"kind": "status", "status": 503, "times": 2},
        {"match": CDN, "kind": "cut", "after": 1_000_000, "times": 3},
        {"match": CDN, "kind": "length", "more": 7, "times": 2},
        {"match": CDN, "kind": "flip", "at": 4_000_000, "times": 1},
        {"match": CDN, "kind": "extra", "more": 9, "times": 1},
    ],
    ids=lambda rule: str(rule.get("status", rule["kind"])),
)
def test_a_hub_in_trouble(host: LabHost, rule: dict[str, object]) -> None:
    set_faults(host, rule)
    started = product.start(host, timeout_s=200)
    assert started.returncode == 0, product.describe(host)
    serves(host)
    times = int(str(rule["times"]))
    if rule.get("match") == CDN and times > 0:
        # It was met each time, at the smaller of the files perhaps without harm.
        assert len(asked(host, CDN)) >= FILES_OF_CDN + times - 1


def test_a_hub_without_ranges(host: LabHost) -> None:
    """Files this small are asked for as a whole, and only what is left after a cut as a range."""
    large = sha256_of_weights(host)
    cut = {"match": large, "kind": "cut", "after": CUT_AT, "times": 1}
    set_faults(host, cut, {"match": large, "kind": "whole", "times": -1})
    started = product.start(host, timeout_s=200)
    assert started.returncode == 0, product.describe(host)
    serves(host)
    (part,) = ranges_asked(host, large)
    assert part.startswith(f"bytes={CUT_AT}-")
    # To the cut, from there, and, as all of it came instead, once more from the start.
    assert len(asked(host, large)) == 3


def sha256_of_weights(host: LabHost) -> str:
    """By which the CDN knows the larger file."""
    return host.run(["sha256sum", f"{FOLDER}/{REPO}/{WEIGHTS}.safetensors"]).stdout.split()[0]


def test_wrong_bytes_for_ever_are_never_seen(host: LabHost) -> None:
    set_faults(host, {"match": CDN, "kind": "flip", "at": 4_000_000, "times": -1})
    product.start(host, "start", "--no-block")
    wait_failure(host, ["content-damaged"], WEIGHTS, limit_s=120)
    assert host.run(["test", "-e", MODEL], check=False).returncode != 0
    set_faults(host)
    serves(host)


def test_what_is_not_there_is_said(host: LabHost) -> None:
    set_faults(host, {"match": "repo|api|resolve", "kind": "status", "status": 404, "times": -1})
    started = product.start(host, timeout_s=200)
    assert started.returncode != 0
    told = wait_held(host, "source-not-found")
    assert REPO in told.message
    set_faults(host)
    serves(host)  # it is looked at again by itself
    product.wait_state(host, FRONT, "active")


def test_a_lost_network_is_waited_for(host: LabHost) -> None:
    with hub_away(host), registry_away(host):
        product.start(host, "start", "--no-block")
        told = wait_told(host, "trouble", lambda told: trouble(told.instance) != "")
        assert "refused" in trouble(told.instance)
        assert product.show(host, FRONT, "ActiveState")["ActiveState"] == "activating"
    serves(host, 200)


@pytest.mark.long
def test_a_registry_that_refuses_comes_back(host: LabHost) -> None:
    with registry_away(host):
        product.start(host, "start", "--no-block")
        told = wait_failure(host, ["source-unreachable"], ENGINE_IMAGE.partition(":")[0], 200)
        assert told.instance["fetch_end"]["model_revision"]  # the model has come
    serves(host, 200)


def test_no_room_is_said_before_the_first_byte(host: LabHost) -> None:
    settings = SETTINGS.replace("keep_free_gib = 0", "keep_free_gib = 60000")
    host.write(SETTINGS_FILE, settings + QUICK)
    host.run(["systemctl", "reload", "deepseek-agent"])
    try:
        assert product.start(host, timeout_s=120).returncode != 0
        told = wait_held(host, "disk-too-full")
        assert "GiB" in told.message
        assert host.run(["find", f"{MODELS_DIRECTORY}/.incoming", "-size", "+100k"]).stdout == ""
    finally:
        host.write(SETTINGS_FILE, SETTINGS + QUICK)
        host.run(["systemctl", "reload", "deepseek-agent"])
    serves(host)


def test_an_agent_that_comes_later_follows_it(host: LabHost) -> None:
    set_faults(host, SLOW)
    product.start(host, "start", "--no-block")
    wait_told(host, "it fetches", lambda told: bool(progress(told.instance)))
    pid = product.show(host, UNIT, "MainPID")["MainPID"]
    host.run(["systemctl", "kill", "--signal=KILL", "deepseek-agent.service"])
    wait_told(host, "it fetches still", lambda told: bool(progress(told.instance)))
    assert product.show(host, UNIT, "MainPID")["MainPID"] == pid
    serves(host)


def test_a_damaged_model_is_mended(host: LabHost) -> None:
    """As the commit that it was, though the branch of the hub has moved on; and a start needs no
    person for it, nor does an engine have to die of it."""
    assert product.start(host, timeout_s=200).returncode == 0
    serves(host)
    stop_leaves_nothing(host, STOP_S)
    commit = json.loads(host.read(f"{MODEL}/deepseek-manifest.json"))["revision"]
    link = host.run(["readlink", MODEL]).stdout
    kept = f"{FOLDER}/.commits/{commit}/{REPO}"
    host.run(["sh", "-c", f"mkdir -p {kept} && cp -a {FOLDER}/{REPO}/. {kept}"])
    host.write(f"{FOLDER}/{REPO}/README.md", "of another commit")
    host.run(["sh", "-c", f"echo damage >{MODEL}/config.json"])
    dd = f"dd of={MODEL}/{WEIGHTS}.safetensors bs=1 seek=1000000 conv=notrunc"
    host.run(["sh", "-c", f"echo damage | {dd}"])
    try:
        since = time.time()
        assert product.start(host, timeout_s=200).returncode == 0
        product.wait_serving(host, limit_s=FEW_S)
        assert host.run(["readlink", MODEL]).stdout == link
        assert host.run(["deepseekctl", "verify", "8b"]).returncode == 0
        told = ask_status(host)
        (fetched,) = told.events("fetched", since)
        assert f"model revision {commit}" in fetched
        assert told.events("pin-lost", since) == []
    finally:
        host.run(["sh", "-c", f"rm -rf {FOLDER}/{REPO}/README.md {FOLDER}/.commits"])


def progress(instance: dict[str, Any]) -> dict[str, Any]:
    """Of what is being brought; empty when nothing is."""
    return (instance.get("fetch") or {}).get("progress") or {}


def trouble(instance: dict[str, Any]) -> str:
    return str(progress(instance).get("trouble", ""))


def test_a_stop_ends_it_and_a_start_goes_on(host: LabHost) -> None:
    set_faults(host, SLOW)
    product.start(host, "start", "--no-block")
    wait_told(host, "it fetches", lambda told: bool(progress(told.instance)))
    stop_leaves_nothing(host, STOP_S)
    assert product.show(host, UNIT, "ActiveState")["ActiveState"] == "inactive"
    set_faults(host)
    assert product.start(host, timeout_s=200).returncode == 0
    serves(host)


def test_a_killed_fetch_is_begun_again(host: LabHost) -> None:
    set_faults(host, SLOW)
    product.start(host, "start", "--no-block")
    wait_told(host, "it fetches", lambda told: bool(progress(told.instance)))
    set_faults(host)
    host.run(["systemctl", "kill", "--signal=KILL", UNIT])
    serves(host)


def test_ahead_of_time(host: LabHost) -> None:
    since = time.time()
    pulled = host.run(["deepseekctl", "pull", "8b"], timeout_s=200)
    assert "8b: image and model are there" in pulled.stdout
    assert is_whole(host)
    assert product.show(host, FRONT, "ActiveState")["ActiveState"] == "inactive"
    wait_event(host, "fetched", since)
    assert "are there" in host.run(["deepseekctl", "pull", "8b"]).stdout
    with hub_away(host), registry_away(host):
        assert product.start(host).returncode == 0
        serves(host)


def test_a_person_sees_why_a_pull_failed(host: LabHost) -> None:
    set_faults(host, {"match": "repo|api|resolve", "kind": "status", "status": 401, "times": -1})
    failed = host.run(["deepseekctl", "pull", "8b"], check=False, timeout_s=200)
    assert failed.returncode == 4
    assert "[source-refused]" in failed.stderr
    assert "hint: " in failed.stderr
