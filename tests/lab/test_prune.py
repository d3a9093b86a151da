# SPDX-License-Identifier: MulanPSL-2.0
"""What nobody uses goes, by `deepseekctl prune` and by itself where a disk is too full, and nothing
else does: real revisions, images, containers and processes, on a disk of 2 GiB.
"""

import json
import time
from collections.abc import Iterator

import pytest

from agent.disks import EVIDENCE_KEPT

from . import product
from .faults import ask_status, wait_held, wait_told
from .host import LabHost
from .hub import CDN, grow_weights, set_faults
from .models import MODEL_8B, MODELS_DIRECTORY
from .product import FRONT
from .prune_scene import (
    AGE_NOTES,
    ALONE,
    BROUGHT,
    BY_HAND,
    EVIDENCE,
    INCOMING,
    PROBE,
    PROBE_FILE,
    PROBED,
    REVISIONS,
    UNIT,
    add_revision,
    bring,
    build,
    changed_unit,
    configure,
    images,
    linked,
    listed,
    names,
    paths,
    prune,
    users,
    wait_disk,
)
from .rootfs import Flavour
from .small_disk import SmallDisk
from .supply_scene import MODEL, bare_host, forget_images, forget_model

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(400)]

DISK_MIB = 2048
WEIGHTS_MIB = 4
LOOK_EVERY_S = 60.0  # control/disks.py


@pytest.fixture(scope="module", params=list(Flavour), ids=lambda flavour: flavour.value)
def host(request: pytest.FixtureRequest) -> Iterator[LabHost]:
    """Stands in for the fixture of conftest.py: image and model come from a registry and a hub."""
    flavour: Flavour = request.param
    with bare_host(flavour, f"prune-{flavour.value}", WEIGHTS_MIB) as one:
        one.run(["systemctl", "enable", FRONT])
        yield one


@pytest.fixture(scope="module")
def disk(host: LabHost) -> SmallDisk:
    """Where the models are."""
    return SmallDisk(host, MODELS_DIRECTORY, DISK_MIB)


@pytest.fixture(autouse=True)
def _bare(host: LabHost, disk: SmallDisk) -> Iterator[None]:
    """Each test begins with neither image nor model, and prunes only when it asks for it."""
    set_faults(host)
    configure(host, BY_HAND)
    yield
    product.start(host, "stop", timeout_s=200)
    host.run(["systemctl", "reset-failed", FRONT], check=False)
    host.run(["systemctl", "stop", "deepseek-agent.service"])
    host.run(["rm", "-rf", "/var/lib/deepseek-agent/state.json"])
    forget_model(host)
    forget_images(host)
    host.run(["sh", "-c", f"rm -rf {MODELS_DIRECTORY}/* {BROUGHT}/*"])


# --- models --------------------------------------------------------------------------------------


def test_models_that_nobody_needs_go(host: LabHost, disk: SmallDisk) -> None:
    assert product.start(host, timeout_s=200).returncode == 0, product.describe(host)
    before = linked(host)
    grow_weights(host, WEIGHTS_MIB)  # another revision
    host.run(["deepseekctl", "update", "8b"], timeout_s=200)
    wait_told(host, "on trial", lambda told: told.phase == "serving" and linked(host) != before, 90)
    used = linked(host)
    assert product.start(host, "stop", timeout_s=200).returncode == 0
    old = [add_revision(host, name) for name in ("unused", "mounted", "opens", "maps", "linked")]
    host.run(["ln", "-s", f".store/{MODEL_8B}/linked", f"{MODELS_DIRECTORY}/mine"])
    leftovers = [f"{REVISIONS}/.cut.new", f"{INCOMING}/other", f"{INCOMING}/.bundle-other"]
    host.run(["mkdir", "-p", *leftovers, f"{MODELS_DIRECTORY}/own/.store/x/y"])
    host.run(["sh", "-c", f"for one in {' '.join(leftovers)}; do echo part > $one/a.part; done"])
    disk.age(dict.fromkeys([*old, *leftovers, f"{REVISIONS}/{before}", f"{REVISIONS}/{used}"], 2))
    add_revision(host, "young")
    host.run(["mkdir", f"{INCOMING}/young"])
    assert product.start(host).returncode == 0, product.describe(host)
    container = product.container_started_at(host)
    kept = {before, used, "mounted", "opens", "maps", "linked", "young"}

    with users(host):
        since = time.time()
        dry = prune(host, "--dry-run")
        unused = [f"{REVISIONS}/unused", *leftovers]
        assert paths(dry) == {path.removeprefix(f"{MODELS_DIRECTORY}/") for path in unused}
        assert listed(host, REVISIONS) == {*kept, "unused", ".cut.new"}
        assert "would be free" in host.run(["deepseekctl", "prune", "--dry-run"]).stdout
        assert prune(host)["removed"] == dry["removed"]
        assert listed(host, REVISIONS) == kept
        assert {one for one in listed(host, INCOMING) if not one.endswith(".lock")} == {"young"}
        assert len(ask_status(host).events("pruned", since)) == len(unused)
        said = host.run(["journalctl", "--boot", "--output=cat", f"--unit={UNIT}"]).stdout
        assert f"removed model {MODEL} unused: " in said
    assert paths(prune(host)) == {
        f".store/{MODEL_8B}/{name}" for name in ("mounted", "opens", "maps")
    }
    assert listed(host, REVISIONS) == {before, used, "linked", "young"}
    assert product.container_started_at(host) == container
    assert product.ask(host) is not None
    assert "nothing to prune" in host.run(["deepseekctl", "prune"]).stdout


def test_what_an_instance_waits_for_stays(host: LabHost, disk: SmallDisk) -> None:
    """Its fetch has stopped in the middle, and cannot go on."""
    cut = {"match": CDN, "kind": "cut", "after": 1_000_000, "times": 2}
    set_faults(host, cut, {"match": CDN, "kind": "status", "status": 404, "times": -1})
    assert product.start(host, timeout_s=200).returncode != 0
    wait_held(host, "source-not-found")
    disk.age({f"{INCOMING}/{MODEL_8B}": 2})
    assert paths(prune(host)) == set()
    assert any(one.endswith(".part") for one in listed(host, f"{INCOMING}/{MODEL_8B}"))
    host.run(["systemctl", "reset-failed", FRONT])
    wait_told(host, "not wished", lambda told: told.phase not in ("held", "fetching"))
    assert paths(prune(host)) == {f".incoming/{MODEL_8B}"}


# --- images --------------------------------------------------------------------------------------


def test_images_that_we_have_brought_go(host: LabHost) -> None:
    bring(host, "unused", "stopped", "named")
    foreign, gone = "localhost/foreign:1", "localhost/deepseek-agent/gone:current"
    build(host, foreign)
    build(host, gone)
    host.run(["podman", "create", "--name=lab-stopped", "quay.io/lab/stopped:1", "true"])
    host.run(["podman", "tag", "quay.io/lab/named:1", "localhost/precious:1"])
    brought = {f"quay.io/lab/{name}:1" for name in ("unused", "stopped", "named")}
    there = {*brought, foreign, "localhost/precious:1"}
    assert images(host) == {*there, gone}  # and no name of the mirror
    assert names(prune(host)) == [gone]  # the others have only just come
    host.run(["python3", "-c", AGE_NOTES])
    assert names(prune(host, "--dry-run")) == ["quay.io/lab/unused:1"]
    assert images(host) == there
    assert names(prune(host)) == ["quay.io/lab/unused:1"]
    assert images(host) == there - {"quay.io/lab/unused:1"}
    assert len(listed(host, BROUGHT)) == 3  # notes of what may come back go later
    host.run(["podman", "rm", "lab-stopped"])
    host.run(["podman", "untag", "localhost/precious:1", "localhost/precious:1"])
    assert names(prune(host)) == ["quay.io/lab/named:1", "quay.io/lab/stopped:1"]
    assert images(host) == {foreign}


def test_evidence_beyond_ten_goes(host: LabHost) -> None:
    newest = [f"8b-20260101T0000{second:02}Z.txt" for second in range(EVIDENCE_KEPT + 2)]
    others = ["7b-20200101T000000Z.txt", "notes.txt"]
    host.run(["sh", "-c", f"cd {EVIDENCE} && rm -f * && touch {' '.join([*newest, *others])}"])
    assert names(prune(host)) == [f"{EVIDENCE}/{name}" for name in newest[:2]]
    assert listed(host, EVIDENCE) == {*newest[2:], *others}


# --- by itself -----------------------------------------------------------------------------------


def test_by_itself_where_a_disk_is_too_full(host: LabHost, disk: SmallDisk) -> None:
    """1.1 GiB are wanted: two of four old revisions are enough."""
    host.run(["deepseekctl", "pull", "8b"], timeout_s=200)
    used = linked(host)
    ages = {add_revision(host, f"days-{days}", 300): days for days in (2, 3, 4, 5)}
    disk.age(ages)
    there = {used, "days-2", "days-3", "days-4", "days-5"}
    since = time.time()

    configure(host, ALONE.replace("keep_free_gib = 1", "keep_free_gib = 1\nprune = false"))
    wait_disk(host, "disk-too-full", since)
    product.wait_told(host, "that nobody uses go with: deepseekctl prune")
    assert listed(host, REVISIONS) == there

    since = time.time()
    configure(host, ALONE)
    wait_disk(host, "disk-too-full", since)
    wait_disk(host, "disk-has-room", since)
    assert listed(host, REVISIONS) == there - {"days-4", "days-5"}
    removed = [one.partition(",")[0] for one in ask_status(host).events("pruned", since)]
    assert removed == [f"model {MODEL} days-5", f"model {MODEL} days-4"]

    since = time.time()
    disk.fill("filler", 500)
    wait_disk(host, "disk-too-full", since, LOOK_EVERY_S + 30)
    time.sleep(5)  # but that was not an hour ago
    assert ask_status(host).events("pruned", since) == []
    assert listed(host, REVISIONS) == there - {"days-4", "days-5"}
    assert len(paths(prune(host))) == 2  # all of it, when a person asks
    assert listed(host, REVISIONS) == {used}
    wait_disk(host, "disk-has-room", since)


# --- the unit ------------------------------------------------------------------------------------

# CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_SYS_PTRACE
RIGHTS = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 19


def test_the_unit_may_do_little_else(host: LabHost) -> None:
    host.write(PROBE_FILE, PROBE)
    with changed_unit(host, f"ExecStartPost=/usr/bin/python3 {PROBE_FILE}"):
        prune(host, "--dry-run")
    told = json.loads(host.read(PROBED))
    assert (told["rights"], told["bound"]) == (RIGHTS, RIGHTS)
    assert (told["no_new"], told["filter"], told["net"]) == ("1", "2", True)
    read_only = "Read-only file system"
    assert told["write"] == [read_only, read_only, read_only, ""]
    assert told["internet"] == "Address family not supported by protocol"
    assert told["setuid"] == "Operation not permitted"


def test_without_a_look_into_all_processes_no_model_goes(host: LabHost, disk: SmallDisk) -> None:
    """It would be taken for one that nobody uses."""
    host.run(["deepseekctl", "pull", "8b"], timeout_s=200)
    old = add_revision(host, "old")
    disk.age({old: 2})
    with changed_unit(host, "CapabilityBoundingSet=~CAP_SYS_PTRACE"):
        report = prune(host)
        assert report["removed"] == []
        assert any("who uses models" in one["message"] for one in report["failures"])
    assert listed(host, REVISIONS) == {linked(host), "old"}
    assert paths(prune(host)) == {f".store/{MODEL_8B}/old"}
