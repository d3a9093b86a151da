# SPDX-License-Identifier: MulanPSL-2.0
"""A bundle in the import folder is used for what an order lacks, and for nothing else."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.errors import AgentError, Code
from agent.supplies import ImageOrder, ModelOrder, Order, Report
from agent.supply.bundle.bring import ARCHITECTURES
from agent.supply.bundle.opened import open_bundle, require_whole
from agent.supply.errand import carry_out
from agent.supply.place import Home, place, switch_to

from .bundle_scene import MODEL, REFERENCE, Scene, content_of, podman_in, put_image, put_model

pytestmark = pytest.mark.timeout(60)
HERE = os.uname().machine


class Hosted(Scene):
    """A host that carries out orders, and a bundle for it."""

    @property
    def link(self) -> Path:
        return self.models_dir / "small"

    def lacks(self, *, image: bool = False, model: bool = False) -> Report:
        order = Order(
            "8b",
            ImageOrder(REFERENCE, ()) if image else None,
            ModelOrder(str(self.link), ()) if model else None,
            import_folder=str(self.output.parent),
            models_dir=str(self.models_dir),
        )
        return carry_out(order, self.told.append)

    def images(self) -> list[str]:
        names = os.listdir(self.root / "host/images")
        return [name for name in names if len(name) == len("ab" * 32)]

    def put(self, revision: str, files: dict[str, bytes]) -> str:
        """Into the store, as a fetch does."""
        staged = self.root / "staged" / revision
        manifest = put_model(staged, files, revision)
        contents = [(file.path, staged / file.path) for file in manifest.files]
        return place(Home(str(self.link)), manifest, contents)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hosted:
    made = Hosted(tmp_path)
    made.prepare()
    put_image(tmp_path / "maker/images", architecture=ARCHITECTURES.get(HERE, HERE))
    images = podman_in(tmp_path / "host")
    monkeypatch.setattr("agent.supply.bundle.images.PodmanImages", lambda: images)
    return made


def test_all_of_it(host: Hosted) -> None:
    bundle = host.create()
    assert bundle.image is not None
    report = host.lacks(image=True, model=True)
    assert (report.failure, report.model_folder) == (None, "abc123")
    assert report.image_id == bundle.image.image_id
    assert host.images() == [bundle.image.image_id]
    assert content_of(host.link) == MODEL
    assert host.leftovers() == []


def test_an_image_that_is_damaged_is_brought_anew(host: Hosted) -> None:
    """Else it was loaded upon its damaged layers, and lacking again, every few minutes."""
    host.create()
    (image_id,) = {host.lacks(image=True).image_id}
    (host.root / "host/images/damaged").write_text(image_id, encoding="utf-8")
    report = host.lacks(image=True)
    assert (report.failure, report.image_id) == (None, image_id)
    assert not (host.root / "host/images/damaged").exists()


def test_the_model_in_use_stays_when_an_image_is_lacking(host: Hosted) -> None:
    """The bundle is what the instance was set up from; it was updated since."""
    bundle = host.create()
    host.put("abc123", MODEL)
    switch_to(Home(str(host.link)), host.put("new", {**MODEL, "config.json": b"{}"}))
    report = host.lacks(image=True)
    assert (report.failure, report.model_revision, report.model_folder) == (None, "", "")
    assert bundle.image is not None
    assert host.images() == [bundle.image.image_id]
    assert os.readlink(host.link) == ".store/small/new"


def test_of_another_instances_bundle_only_the_image_is_taken(host: Hosted) -> None:
    host.create(instance="14b")
    assert host.lacks(image=True).failure is None
    assert len(host.images()) == 1
    assert not os.path.lexists(host.link)
    assert not (host.models_dir / ".store").exists()
    assert host.leftovers() == []


def test_a_model_of_the_operators_is_not_in_its_way(host: Hosted) -> None:
    host.create()
    host.link.mkdir()
    (host.link / "mine").touch()
    assert host.lacks(image=True).failure is None
    assert len(host.images()) == 1
    assert os.listdir(host.link) == ["mine"]


@pytest.mark.parametrize("lacking", ["image", "model"])
def test_room_is_needed_for_what_is_lacking(
    host: Hosted, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    asked: dict[Path, int] = {}
    monkeypatch.setattr(
        "agent.supply.bundle.bring.check_room",
        lambda what, needed, keep_free_mib: asked.update(needed),
    )
    bundle = host.create()
    assert bundle.image is not None
    assert bundle.model is not None
    assert host.lacks(image=lacking == "image", model=lacking == "model").failure is None
    archive, weights = bundle.image.archive.size, bundle.model.manifest.size
    staging = host.models_dir / ".incoming/.bundle-8b"
    assert asked.pop(staging) == (archive if lacking == "image" else weights)
    assert bool(asked) is (lacking == "image")  # Podman's storage


def test_parts_of_what_is_there_may_be_missing(host: Hosted) -> None:
    host.create()
    for part in host.output.rglob("model/*.safetensors.*"):
        part.unlink()
    assert host.lacks(image=True).failure is None
    assert len(host.images()) == 1
    failure = host.lacks(model=True).failure
    assert failure is not None
    assert "not whole yet" in failure.message


def test_a_model_is_for_every_machine(host: Hosted) -> None:
    put_image(host.root / "maker/images", architecture="s390x")
    host.create()
    for part in host.output.glob("image.tar.*"):
        part.unlink()
    report = host.lacks(model=True)
    assert (report.failure, report.model_folder) == (None, "abc123")
    assert content_of(host.link) == MODEL
    assert host.images() == []


def test_what_somebody_else_has_begun_to_import_stays(host: Hosted) -> None:
    """A person's import of all of it was cut off in the middle of the model."""
    host.create()
    begun = host.models_dir / ".incoming/.bundle-8b/model"
    begun.mkdir(parents=True)
    (begun / "config.json").write_bytes(b"{")
    assert host.lacks(image=True).failure is None
    assert os.listdir(begun) == ["config.json"]
    assert host.lacks(model=True).failure is None
    assert content_of(host.link) == MODEL
    assert host.leftovers() == []


def touch(path: Path) -> None:
    path.write_bytes(path.read_bytes())


@pytest.mark.parametrize(
    ("act", "code"),
    [
        (lambda folder: None, Code.BUNDLE_DAMAGED),
        (lambda folder: touch(folder / "model/config.json.000"), Code.SOURCE_UNREACHABLE),
    ],
    ids=["nobody copies", "the model comes first"],
)
def test_whether_it_is_being_copied_shows_in_all_of_it(
    host: Hosted, act: Callable[[Path], None], code: Code
) -> None:
    bundle = host.create()
    assert bundle.image is not None
    for part in host.output.glob("image.tar.*"):
        part.unlink()
    opened = open_bundle(host.output, host.signers)
    time.sleep(0.3)
    act(host.output)
    with pytest.raises(AgentError) as caught:
        require_whole(opened, bundle.image.archive.parts, copying_s=0.2)
    assert caught.value.failure.code is code
