# SPDX-License-Identifier: MulanPSL-2.0
"""The program that prunes, on real folders and real processes; Podman is a double of its API."""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from agent.disks import Keep, KeptModel, Kind, PruneOrder, PruneReport, Wanted
from agent.errors import AgentError, Code
from agent.supplies import ImageOrder, ImageSource, Manifest, ModelFile, Order, Report
from agent.supply.__main__ import main
from agent.supply.child import module
from agent.supply.disk import free_bytes, only_one
from agent.supply.manifest import write_manifest
from agent.supply.place import Home
from agent.supply.prune import Places, carry_out_pruning
from agent.supply.stored_images import note_brought, note_report
from tests.fakes.podman_api import FakeContainer, FakePodmanApi

DAY = 86_400.0
VLLM, OLD, MINE = "quay.io/a/vllm:v2", "quay.io/a/vllm:v1", "localhost/mine:1"
IDS = {VLLM: "2" * 64, OLD: "1" * 64, MINE: "3" * 64}


class Host:
    """Folders of a host, in which a model has two revisions."""

    def __init__(self, folder: Path) -> None:
        self.models = folder / "models"
        self.places = Places(
            folder / "evidence",
            folder / "brought",
            folder / "proc",
            (*module("agent.host.images"), "--socket", f"unix://{folder}/podman.sock"),
        )
        self.api = FakePodmanApi(folder / "podman.sock", images=dict(IDS))
        self.api.storage = str(folder)
        self.told: list[str] = []
        self.keep = Keep(True, ("8b",), image_references=(VLLM,))
        for path in (self.places.evidence, self.places.proc):
            path.mkdir()
        self.see(os.getpid())

    def see(self, pid: int) -> None:
        """Of all processes only those of the test: others may not be looked at, unless by root."""
        (self.places.proc / str(pid)).symlink_to(f"/proc/{pid}")

    def order(self, **changes: object) -> PruneOrder:
        order = PruneOrder("1", time.time(), self.keep, (str(self.models),))
        return replace(order, **changes)  # type: ignore[arg-type]

    def prune(self, **changes: object) -> PruneReport:
        async def scenario() -> PruneReport:
            await self.api.start()
            try:
                return await asyncio.to_thread(
                    carry_out_pruning,
                    self.order(**changes),
                    lambda removal: self.told.append(removal.what),
                    self.places,
                )
            finally:
                await self.api.close()

        return asyncio.run(scenario())

    def revision(self, name: str, model: str = "8b", age_s: float = 2 * DAY) -> Path:
        folder = self.models / ".store" / model / name
        folder.mkdir(parents=True)
        (folder / "weights").write_bytes(b"w" * 65536)
        write_manifest(folder, Manifest("", "", name, (ModelFile("weights", 65536, "0" * 64),)))
        return folder

    def link(self, name: str, model: str = "8b") -> None:
        (self.models / model).symlink_to(f".store/{model}/{name}")

    def staging(self, name: str = "8b") -> Path:
        folder = self.models / ".incoming" / name
        folder.mkdir(parents=True)
        (folder / "sha256-0.part").write_bytes(b"p" * 65536)
        return folder


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """The times of the kernel cannot be set back, so the clock is set ahead."""
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 2 * DAY)
    return Host(tmp_path)


def test_a_revision_that_nobody_needs_goes(host: Host) -> None:
    old, used = host.revision("old"), host.revision("new")
    host.link("new")
    report = host.prune()
    assert [one.what for one in report.removed] == [str(old)]
    assert (report.failures, report.number, host.told) == ((), "1", [str(old)])
    assert report.removed[0].size_bytes >= 65536
    assert not old.exists()
    assert used.is_dir()
    assert (host.models / "8b").resolve() == used


def test_a_dry_run_says_the_same_and_does_nothing(host: Host) -> None:
    old, half = host.revision("old"), host.staging()
    note_brought(IDS[OLD], (OLD,), host.places.brought)
    age(host.places.brought / f"{IDS[OLD]}.json", "at")
    there = tree(host)
    dry = host.prune(dry_run=True)
    assert [one.what for one in dry.removed] == [str(half), IDS[OLD], str(old)]
    assert (tree(host), host.told, dry.dry_run) == (there, [], True)
    assert host.prune().removed == dry.removed
    assert (old.exists(), half.exists(), OLD in host.api.images) == (False, False, False)


def age(path: Path, key: str) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), key: 0.0}))


def tree(host: Host) -> list[Path]:
    return sorted(host.models.parent.rglob("*"))


@pytest.mark.parametrize("revision", ["current", "previous"])
def test_what_is_to_be_kept_is_kept(host: Host, revision: str) -> None:
    folder = host.revision(revision)
    kept = KeptModel(str(host.models / "8b"), ("current", "previous"))
    host.keep = replace(host.keep, models=(kept,))
    assert host.prune().removed == ()
    assert folder.is_dir()


def test_another_way_to_write_the_folder_keeps_it_too(host: Host) -> None:
    folder = host.revision("abc")
    other = host.models.parent / "other"
    other.symlink_to(host.models)
    host.keep = replace(host.keep, models=(KeptModel(f"{other}/8b", ("abc",)),))
    models_dirs = (str(host.models), str(other), f"{host.models}/../models")
    assert host.prune(models_dirs=models_dirs).removed == ()
    assert folder.is_dir()


def test_a_link_of_a_person_keeps_a_revision(host: Host) -> None:
    folder = host.revision("abc")
    (host.models / "mine").symlink_to(folder)
    inner = host.revision("def")
    elsewhere = host.models.parent / "elsewhere"
    elsewhere.symlink_to(inner / "weights")
    host.keep = replace(host.keep, models=(KeptModel(str(elsewhere)),))
    assert host.prune().removed == ()
    assert folder.is_dir()


def test_operators_folders_are_not_looked_into(host: Host) -> None:
    for name in ("own/weights", ".store/8b/no-manifest/weights", ".store/file", ".other/x/y"):
        path = host.models / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    (host.models / ".store/linked").symlink_to(host.models.parent)
    there = tree(host)
    assert host.prune().removed == ()
    assert tree(host) == there


def test_a_hostile_manifest_keeps_its_folder(host: Host) -> None:
    folder = host.revision("abc")
    (folder / "deepseek-manifest.json").write_text("[" * 100_000)
    assert host.prune().removed == ()


@contextmanager
def process(*argv: str) -> Iterator[subprocess.Popen[bytes]]:
    """Runs until it is left; it has written a line when it is up."""
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        try:
            yield child
        finally:
            child.kill()


OPENS = "f = open(sys.argv[1]); "
MAPS = "import mmap; m = mmap.mmap(os.open(sys.argv[1], 0), 0, prot=1); os.closerange(3, 9); "
ENTERS = "os.chdir(os.path.dirname(sys.argv[1])); "


@pytest.mark.parametrize("code", [OPENS, MAPS, ENTERS])
def test_what_a_process_uses_stays(host: Host, code: str) -> None:
    folder = host.revision("abc")
    script = f"import os, sys; {code}print('up', flush=True); sys.stdin.read()"
    with process(sys.executable, "-c", script, str(folder / "weights")) as child:
        host.see(child.pid)
        assert host.prune().removed == ()
    (host.places.proc / str(child.pid)).unlink()
    assert [one.what for one in host.prune().removed] == [str(folder)]


@pytest.mark.parametrize("into", [False, True])
def test_what_is_mounted_in_another_namespace_stays(host: Host, into: bool) -> None:
    """As in a container; or somebody has mounted something into it."""
    folder, other = host.revision("abc"), host.models.parent / "mount"
    other.mkdir()
    (folder / "sub").mkdir()
    source, target = (other, folder / "sub") if into else (folder, other)
    script = f"mount --bind {source} {target} && echo up && exec sleep 60"
    try:
        with process("unshare", "-rm", "sh", "-c", script) as child:
            host.see(child.pid)
            assert host.prune().removed == ()
    except (AssertionError, OSError):
        if not can_mount():
            pytest.skip("no user namespaces here")
        raise
    (host.places.proc / str(child.pid)).unlink()
    assert [one.what for one in host.prune().removed] == [str(folder)]


def can_mount() -> bool:
    argv = ("unshare", "-rm", "mount", "--bind", "/tmp", "/tmp")
    try:
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def test_a_process_that_cannot_be_seen_keeps_all_models(host: Host) -> None:
    folder, half = host.revision("abc"), host.staging()
    (host.places.proc / "77").mkdir()
    (host.places.proc / "77/ns").symlink_to("loop")
    (host.places.proc / "77/loop").symlink_to("ns")
    report = host.prune()
    assert report.removed == ()
    assert [one.code for one in report.failures] == [Code.DISK_SILENT]
    assert (folder.is_dir(), half.is_dir()) == (True, True)


def test_a_model_that_is_being_brought_is_left_alone(host: Host) -> None:
    folder, half = host.revision("abc"), host.staging()
    home = Home(str(host.models / "8b"))
    with only_one(home.lock, "bring it"):
        report = host.prune()
    assert report.removed == ()
    assert len(report.failures) == 2
    assert report.left_bytes > 65536
    assert (folder.is_dir(), half.is_dir()) == (True, True)


def test_leftovers_go_after_a_day(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [host.staging(), host.staging(".bundle-8b"), host.models / ".store/8b/.abc.new"]
    paths[2].mkdir(parents=True)
    later = time.time
    monkeypatch.setattr(time, "time", lambda: later() - 1.5 * DAY)
    assert host.prune().removed == ()
    monkeypatch.setattr(time, "time", later)
    assert {one.what for one in host.prune().removed} == {str(path) for path in paths}


def test_a_staging_of_an_order_stays(host: Host) -> None:
    half = host.staging()
    host.keep = replace(host.keep, fetching=(str(host.models / "8b"),))
    assert host.prune().removed == ()
    assert half.is_dir()


def test_images_go_that_we_have_brought(host: Host) -> None:
    for reference in (VLLM, OLD):
        note_brought(IDS[reference], (reference,), host.places.brought)
        age(host.places.brought / f"{IDS[reference]}.json", "at")
    report = host.prune()
    assert [(one.kind, one.name) for one in report.removed] == [(Kind.IMAGE, OLD)]
    assert set(host.api.images) == {VLLM, MINE}


def test_it_needs_no_room_itself(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The root file system is full, and /tmp is on it."""
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")
    note_brought(IDS[OLD], (OLD,), host.places.brought)
    age(host.places.brought / f"{IDS[OLD]}.json", "at")
    report = host.prune()
    assert [one.what for one in report.removed] == [IDS[OLD]]
    assert report.failures == ()


def test_an_image_of_a_container_stays(host: Host) -> None:
    note_brought(IDS[OLD], (OLD,), host.places.brought)
    age(host.places.brought / f"{IDS[OLD]}.json", "at")
    host.api.containers = [FakeContainer("any", running=False, image_id=IDS[OLD])]
    assert host.prune().removed == ()
    assert host.api.images == IDS


def test_a_name_that_somebody_gave_it_keeps_an_image(host: Host) -> None:
    note_brought(IDS[OLD], (OLD,), host.places.brought)
    age(host.places.brought / f"{IDS[OLD]}.json", "at")
    host.api.images["localhost/precious:1"] = IDS[OLD]
    assert host.prune().removed == ()


def test_without_podman_images_stay_and_models_go(host: Host) -> None:
    folder = host.revision("abc")
    report = carry_out_pruning(host.order(), lambda removal: None, host.places)
    assert [one.what for one in report.removed] == [str(folder)]
    assert [one.code for one in report.failures] == [Code.PODMAN_UNAVAILABLE]


def test_only_until_there_is_enough(host: Host) -> None:
    first, second = host.revision("abc"), host.revision("def")
    os.utime(first, (0, 0))
    enough = Wanted(str(host.models), 0)
    never = Wanted(str(host.models), 2**60)
    elsewhere = Wanted("/proc", 2**60)
    half = host.staging()
    report = host.prune(until=(enough, elsewhere))
    assert [one.what for one in report.removed] == [str(half)]  # of no use to anybody
    assert report.left_bytes >= 2 * 65536
    assert len(host.prune(until=(enough, never)).removed) == 2
    assert not first.exists()
    assert not second.exists()


def test_what_waits_for_room_goes_last_and_only_when_none_is_left(host: Host) -> None:
    """It will not come before others have gone; who serves needs room for its next start."""
    half, old = host.staging(), host.revision("abc", model="other")
    model = str(host.models / "8b")
    host.keep = replace(host.keep, fetching=(model,), without_room=(model,))
    low = Wanted(str(host.models), free_bytes(host.models) * 3)
    assert [one.what for one in host.prune(until=(low,)).removed] == [str(old)]
    none_left = Wanted(str(host.models), 2**60)
    assert host.prune().removed == ()
    assert host.prune(until=(none_left,), dry_run=True).removed == ()
    assert host.prune(until=(Wanted("/proc", 2**60),)).removed == ()
    assert half.is_dir()
    report = host.prune(until=(none_left,))
    assert [one.what for one in report.removed] == [str(half)]
    assert report.removed[0].why == "it waits for room, and next to none is left"
    assert report.failures == ()
    assert not half.exists()


def test_an_old_order_is_refused(host: Host) -> None:
    with pytest.raises(AgentError, match="too old"):
        carry_out_pruning(host.order(at=time.time() - 3600), lambda removal: None, host.places)


def test_the_program_carries_an_order_out_once(host: Host, tmp_path: Path) -> None:
    folder = tmp_path / "letters"
    folder.mkdir()
    order = host.order(models_dirs=(), dry_run=True)
    (folder / "order.json").write_bytes(msgspec.json.encode(order))
    assert main(["prune", "--folder", str(folder)]) == 0
    report = msgspec.json.decode((folder / "report.json").read_bytes(), type=PruneReport)
    assert (report.number, report.dry_run) == ("1", True)
    assert main(["prune", "--folder", str(folder)]) == 1


@pytest.mark.parametrize("text", ["", "{}", '{"number": 1}', "[" * 10_000])
def test_a_damaged_order_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "order.json").write_text(text)
    assert main(["prune", "--folder", str(tmp_path)]) == 1
    assert not (tmp_path / "report.json").exists()


def test_what_an_order_has_brought_is_noted(tmp_path: Path) -> None:
    image = ImageOrder(VLLM, (ImageSource("mirror.example/a/vllm:v2"),))
    note_report(Order("8b", image, None), Report(None, image_id="2" * 64), tmp_path)
    note_report(Order("7b", ImageOrder(OLD, ()), None), Report(None, image_id="2" * 64), tmp_path)
    note_report(Order("7b", ImageOrder(OLD, ()), None), Report(None, image_id="../x"), tmp_path)
    (path,) = tmp_path.iterdir()
    known = json.loads(path.read_text())["references"]
    assert known == [VLLM, "mirror.example/a/vllm:v2", OLD]
