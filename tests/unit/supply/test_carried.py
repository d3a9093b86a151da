# SPDX-License-Identifier: MulanPSL-2.0
"""A model that is damaged, on a host without a network: the bundle, or the folder, that it came
from lies in the import folder still. What is wrong comes from there, by its checksum."""

import os
import shutil
from pathlib import Path

import pytest

from agent.errors import AgentError, Code
from agent.supplies import MANIFEST_NAME, Hub, ModelOrder, ModelSource, Order, Report
from agent.supply.errand import carry_out
from agent.supply.place import Home, place, switch_to
from tests.unit.supply.bundle_scene import MODEL, Scene, content_of, put_model

pytestmark = pytest.mark.timeout(60)
ONE, TWO = "model-00001-of-000002.safetensors", "model-00002-of-000002.safetensors"
# To ask it would be in vain.
NOBODY = ModelSource(Hub.MODELSCOPE, "http://127.0.0.1:9", "deepseek-ai/small", "master")


class Carried(Scene):
    """A host on which the model was imported."""

    @property
    def link(self) -> Path:
        return self.models_dir / "small"

    @property
    def imports(self) -> Path:
        return self.output.parent

    @property
    def folder(self) -> Path:
        """As somebody has copied it."""
        return self.imports / "usb/small"

    def order(self, *sources: ModelSource, revision: str = "", recheck: bool = True) -> Report:
        model = ModelOrder(str(self.link), sources, recheck, revision)
        order = Order("8b", None, model, str(self.imports), models_dir=str(self.models_dir))
        return carry_out(order, self.told.append)

    def put(self, revision: str, files: dict[str, bytes]) -> str:
        """Into the store."""
        staged = self.root / "staged" / revision
        manifest = put_model(staged, files, revision)
        contents = [(file.path, staged / file.path) for file in manifest.files]
        name = place(Home(str(self.link)), manifest, contents)
        shutil.rmtree(staged)
        return name

    def damage(self, path: str = ONE) -> None:
        """In place, as a bad block is."""
        with (self.link / path).open("r+b") as stream:
            stream.seek(1)
            stream.write(b"damage")

    def assert_mended(self, report: Report, source: Path) -> None:
        assert report.failure is None
        assert (report.model_folder, report.model_source) == ("abc123", str(source))
        assert os.readlink(self.link) == ".store/small/abc123"
        assert content_of(self.link) == MODEL
        assert self.leftovers() == []

    def assert_not(self, report: Report, why: str) -> None:
        """It is as it was, and a person is told."""
        failure = report.failure
        assert failure is not None
        assert failure.code is Code.MODEL_INVALID
        assert why in failure.message
        assert content_of(self.link) != MODEL


@pytest.fixture
def host(tmp_path: Path) -> Carried:
    made = Carried(tmp_path)
    made.prepare()
    made.imports.mkdir()
    switch_to(Home(str(made.link)), made.put("abc123", MODEL))
    return made


@pytest.mark.parametrize("sources", [(), (NOBODY,)], ids=["nothing is fetched", "nobody answers"])
def test_a_bundle_has_it(host: Carried, sources: tuple[ModelSource, ...]) -> None:
    host.create(image="")
    host.damage()
    before = (host.link / TWO).stat().st_ino
    host.assert_mended(host.order(*sources), host.output)
    assert (host.link / TWO).stat().st_ino == before


@pytest.mark.parametrize("has_manifest", [True, False])
def test_a_folder_has_it(host: Carried, has_manifest: bool) -> None:
    put_model(host.folder)
    if not has_manifest:
        (host.folder / MANIFEST_NAME).unlink()
    host.damage()
    host.assert_mended(host.order(), host.folder)
    assert not (host.link / ONE).samefile(host.folder / ONE)


def test_what_was_imported_is_mended_from_there(host: Carried) -> None:
    """From the first day on, without a network."""
    host.create(image="")
    host.link.unlink()
    shutil.rmtree(host.models_dir / ".store")
    host.assert_mended(host.order(recheck=False), host.output)
    host.damage()
    host.assert_mended(host.order(), host.output)


def test_a_file_is_missing_and_another_is_damaged(host: Carried) -> None:
    host.create(image="")
    host.damage()
    (host.link / TWO).unlink()
    (host.link / "tokenizer/\u8bcd\u8868.json").write_bytes(b"")
    host.assert_mended(host.order(), host.output)


def test_each_copy_gives_what_it_has(host: Carried) -> None:
    """A stick with a bad block, and a folder of which one file was changed since."""
    host.create(image="")
    (part,) = host.output.rglob(f"{TWO}.000")
    part.write_bytes(os.urandom(part.stat().st_size))
    put_model(host.folder, {**MODEL, ONE: os.urandom(len(MODEL[ONE]))})
    host.damage(ONE)
    host.damage(TWO)
    report = host.order()
    assert report.model_source == f"{host.output}, {host.folder}"
    assert content_of(host.link) == MODEL


def test_a_copy_that_is_damaged_as_well(host: Carried) -> None:
    host.create(image="")
    (part,) = host.output.rglob(f"{TWO}.000")
    part.write_bytes(os.urandom(part.stat().st_size))
    host.damage(TWO)
    host.assert_not(host.order(), f"{TWO}.000: its content is not what the checksum says")
    shutil.rmtree(host.output)
    put_model(host.folder, {**MODEL, TWO: os.urandom(len(MODEL[TWO]))})
    host.assert_not(host.order(), f"cannot use {host.folder}: {TWO} is not what its manifest says")


def test_a_copy_whose_link_leads_out_of_the_import_folder(host: Carried) -> None:
    """What it leads to is not read; another copy has the file."""
    put_model(host.folder)
    (host.folder / TWO).rename(host.root / "elsewhere")
    (host.folder / TWO).symlink_to(host.root / "elsewhere")
    host.damage(TWO)
    host.assert_not(host.order(), f"{TWO} leads out of {host.imports}")
    put_model(host.imports / "usb2/small")  # looked at after it
    host.assert_mended(host.order(), host.imports / "usb2/small")


def test_another_model_is_no_copy(host: Carried) -> None:
    """Its bundle was made after an update; of its folder a file has another size."""
    put_model(host.model, {**MODEL, "config.json": b"{}"}, "def456")
    host.create(image="")
    put_model(host.folder, {**MODEL, "config.json": b"{}"})
    host.damage()
    host.told.clear()
    host.assert_not(host.order(), f"{ONE}: its content is not what it was")
    assert not any(str(host.imports) in one.source for one in host.told)


def test_a_manifest_that_is_damaged_tells_nothing(host: Carried) -> None:
    host.create(image="")
    host.damage()
    (host.link / MANIFEST_NAME).write_bytes(b"\0" * 100)
    host.assert_not(host.order(), MANIFEST_NAME)


def test_one_that_the_link_does_not_lead_to(host: Carried) -> None:
    """The bundle is what all began with; a twin was updated since."""
    host.create(image="")
    host.damage()
    switch_to(Home(str(host.link)), host.put("def456", {**MODEL, "config.json": b"{}"}))
    report = host.order(revision="abc123")
    assert (report.failure, report.model_folder) == (None, "abc123")
    assert content_of(host.models_dir / ".store/small/abc123") == MODEL
    assert os.readlink(host.link) == ".store/small/def456"


def test_room_is_needed_for_what_is_wrong(host: Carried, monkeypatch: pytest.MonkeyPatch) -> None:
    host.create(image="")
    host.damage()
    asked: list[int] = []

    def check_room(what: str, needed: dict[Path, int], keep_free_mib: int, image: int) -> None:
        asked.extend(needed.values())
        raise AgentError(Code.DISK_TOO_FULL, f"cannot {what}: full")

    monkeypatch.setattr("agent.supply.carried.check_room", check_room)
    report = host.order()
    assert report.failure is not None
    assert report.failure.code is Code.DISK_TOO_FULL
    assert asked == [len(MODEL[ONE])]
