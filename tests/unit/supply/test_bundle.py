# SPDX-License-Identifier: MulanPSL-2.0
"""From one machine to the other: the same bytes, or a refusal that names the file."""

import json
import os
from pathlib import Path

import pytest

from agent.errors import AgentError, Code
from agent.supplies import MANIFEST_NAME, Item, Stage
from agent.supply.bundle.create import create
from agent.supply.bundle.format import BUNDLE_NAME, RECORDS_NAME
from agent.supply.bundle.opened import open_bundle, verify
from agent.supply.bundle.records import Records
from agent.supply.bundle.text import parse_bundle
from agent.supply.manifest import read_manifest
from tests.fakes.podman_images import make_archive

from .bundle_scene import (
    MODEL,
    PART_BYTES,
    REFERENCE,
    Scene,
    content_of,
    podman_in,
    put_image,
    put_model,
)

pytestmark = pytest.mark.timeout(60)  # every file is synced, on a disk that may be busy


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    made = Scene(tmp_path)
    made.prepare()
    return made


def failure_of(error: pytest.ExceptionInfo[AgentError]) -> tuple[Code, str]:
    return error.value.failure.code, error.value.failure.message


def test_carried_from_one_machine_to_the_other(scene: Scene) -> None:
    made = scene.create()
    brought = scene.bring()
    assert brought.bundle == made
    assert (brought.image_brought, brought.model_brought, brought.signer) == (True, True, "")
    placed = scene.models_dir / "small"
    assert os.readlink(placed) == ".store/small/abc123"
    assert content_of(placed) == MODEL
    assert read_manifest(placed) == read_manifest(scene.model)
    assert sorted(os.listdir(scene.models_dir)) == [".incoming", ".store", "small"]
    assert scene.leftovers() == []
    assert made.image is not None
    host, maker = scene.root / "host/images", scene.root / "maker/images"
    assert (host / made.image.image_id).read_bytes() == (maker / made.image.image_id).read_bytes()
    assert REFERENCE in (host / "names.json").read_text(encoding="utf-8")


def test_what_is_written(scene: Scene) -> None:
    made = scene.create()
    names = sorted(
        str(path.relative_to(scene.output)) for path in scene.output.rglob("*") if path.is_file()
    )
    assert names == sorted([BUNDLE_NAME, *(part.name for part in made.parts)])
    assert "model/tokenizer/%E8%AF%8D%E8%A1%A8.json.000" in names
    assert [n for n in names if "00001-of" in n] == [
        f"model/model-00001-of-000002.safetensors.00{index}" for index in range(3)
    ]
    assert max(part.size for part in made.parts) == PART_BYTES
    assert parse_bundle((scene.output / BUNDLE_NAME).read_bytes()) == made
    verify(open_bundle(scene.output, scene.signers), scene.told.append)


def test_the_engine_can_read_it_whatever_the_umask(scene: Scene) -> None:
    scene.create()
    before = os.umask(0o077)
    try:
        scene.bring()
    finally:
        os.umask(before)
    placed = (scene.models_dir / "small").resolve()
    modes = {path.stat().st_mode & 0o777 for path in placed.rglob("*") if path.is_file()}
    assert modes == {0o644}
    folders = (placed, placed / "tokenizer", placed.parent, placed.parents[1])
    assert {folder.stat().st_mode & 0o777 for folder in folders} == {0o755}


def test_twice_is_quick_and_harmless(scene: Scene) -> None:
    scene.create()
    scene.bring()
    before = os.stat(scene.models_dir / "small/config.json")
    for part in scene.output.rglob("*.0*"):  # it need not even be whole any more
        part.unlink()
    again = scene.bring()
    assert (again.image_brought, again.model_brought) == (False, False)
    assert os.stat(scene.models_dir / "small/config.json") == before


def test_progress_is_told_in_bytes(scene: Scene) -> None:
    made = scene.create()
    scene.told.clear()
    scene.bring()
    ends = {(told.item, told.stage): told for told in scene.told}
    assert made.model is not None
    model = ends[Item.MODEL, Stage.FETCHING]
    assert model.done_bytes == model.total_bytes == made.model.manifest.size
    assert model.source == str(scene.output)
    assert ends[Item.IMAGE, Stage.PLACING].done_bytes == ends[Item.IMAGE, Stage.PLACING].total_bytes


@pytest.mark.parametrize("without", ["image", "model"])
def test_one_of_both_is_enough(scene: Scene, without: str) -> None:
    scene.create(**{without: "" if without == "image" else None})
    brought = scene.bring()
    assert brought.image_brought is (without == "model")
    assert brought.model_brought is (without == "image")


# --- what create refuses -------------------------------------------------------------------------


def test_a_damaged_model_is_not_packed(scene: Scene) -> None:
    (scene.model / "model-00002-of-000002.safetensors").write_bytes(bytes(2 * PART_BYTES))
    with pytest.raises(AgentError) as raised:
        scene.create()
    code, message = failure_of(raised)
    assert code is Code.CONTENT_DAMAGED
    assert "model-00002-of-000002.safetensors" in message
    assert not (scene.output / BUNDLE_NAME).exists()
    put_model(scene.model)  # mended
    scene.create()
    scene.bring()
    assert content_of(scene.models_dir / "small") == MODEL


def test_a_model_without_manifest_is_not_packed(scene: Scene) -> None:
    (scene.model / MANIFEST_NAME).unlink()
    with pytest.raises(AgentError) as raised:
        scene.create()
    assert raised.value.failure.code is Code.MODEL_MISSING


def test_an_image_that_is_not_there_is_not_packed(scene: Scene) -> None:
    with pytest.raises(AgentError) as raised:
        scene.create(image="registry.example/other:1")
    assert raised.value.failure.code is Code.IMAGE_MISSING
    assert "podman pull registry.example/other:1" in raised.value.failure.hint


def test_names_that_fat_takes_for_the_same_are_refused(scene: Scene) -> None:
    put_model(scene.model, {**MODEL, "Config.json": b"{}"})
    with pytest.raises(AgentError, match="ignores case") as raised:
        scene.create()
    assert raised.value.failure.code is Code.MODEL_INVALID


def test_files_of_others_are_not_written_over(scene: Scene) -> None:
    (scene.output / "model").mkdir(parents=True)
    with pytest.raises(AgentError, match="there is model already"):
        scene.create()
    assert os.listdir(scene.output) == ["model"]


def test_a_finished_bundle_is_not_written_over(scene: Scene) -> None:
    scene.create()
    before = (scene.output / BUNDLE_NAME).read_bytes()
    with pytest.raises(AgentError, match="already"):
        scene.create()
    assert (scene.output / BUNDLE_NAME).read_bytes() == before


def test_an_image_that_is_cut_off_is_no_bundle(scene: Scene) -> None:
    """Podman dies halfway: what came until then is a stream that ends, too."""
    fault = scene.root / "maker/images/fault"
    fault.write_text("save", encoding="utf-8")
    with pytest.raises(AgentError) as raised:
        scene.create()
    code, message = failure_of(raised)
    assert code is Code.PODMAN_UNAVAILABLE
    assert "save" in message
    fault.unlink()
    scene.create()
    scene.bring()


@pytest.mark.parametrize(
    "reference", ["vllm-ascend:v0.18.0-openeuler", "ascend/vllm-ascend:v0.18.0-openeuler"]
)
def test_a_short_name_becomes_the_full_one(scene: Scene, reference: str) -> None:
    made = scene.create(image=reference)
    assert made.image is not None
    assert made.image.reference == REFERENCE
    assert scene.bring().image_brought


def test_latest_is_meant_where_there_is_no_tag(scene: Scene) -> None:
    images = scene.root / "maker/images"
    put_image(images, reference="registry.example/some/vllm:latest")
    made = scene.create(image="registry.example/some/vllm")
    assert made.image is not None
    assert made.image.reference == "registry.example/some/vllm:latest"
    assert scene.bring().image_brought


def test_an_image_by_its_id_has_no_name_to_give(scene: Scene) -> None:
    image_id = put_image(scene.root / "maker/images")
    with pytest.raises(AgentError, match="not a name") as raised:
        scene.create(image=image_id)
    assert REFERENCE in raised.value.failure.hint


@pytest.mark.parametrize("instance", ["../8b", "", "a\nb"])
def test_a_name_that_would_be_refused_is_refused_at_once(scene: Scene, instance: str) -> None:
    with pytest.raises(AgentError) as raised:
        scene.create(instance=instance)
    assert raised.value.failure.code is Code.REQUEST_INVALID
    assert not scene.output.exists()


# --- other architectures -------------------------------------------------------------------------


DIGEST = f"registry.example:5000/ascend/vllm-ascend@sha256:{'ef' * 32}"
CARRIED = f"localhost/deepseek-agent/carried/sha256:{'ef' * 32}"


@pytest.mark.parametrize("reference", [DIGEST, DIGEST.replace("@", ":v1@")])
def test_an_image_by_its_digest_gets_a_name_by_which_it_is_found(
    scene: Scene, reference: str
) -> None:
    """Podman gives what it loads another digest, and takes none as a name (podman#18809)."""
    image_id = put_image(scene.root / "maker/images")
    (scene.root / "maker/images/names.json").write_text(json.dumps({reference: image_id}))
    made = scene.create(image=reference)
    assert made.image is not None
    assert (made.image.reference, made.image.image_id) == (reference, image_id)
    assert scene.bring().image_brought
    named = scene.root / "host/images/names.json"
    assert json.loads(named.read_text(encoding="utf-8")) == {CARRIED: image_id}
    again = create(
        scene.wanted(image=reference, output=scene.root / "again"),
        podman_in(scene.root / "host"),
        scene.told.append,
    )
    assert again.image == made.image
    named.unlink()  # as it was left by an agent that gave it none
    assert not scene.bring().image_brought
    assert json.loads(named.read_text(encoding="utf-8")) == {CARRIED: image_id}


def test_an_image_of_another_architecture_beside_the_one_of_that_name(scene: Scene) -> None:
    images = scene.root / "maker/images"
    foreign = put_image(images)
    own = put_image(images, b"of this machine", "amd64")  # has the name by now
    made = scene.create(image_id=foreign, architecture="arm64")
    assert made.image is not None
    assert (made.image.reference, made.image.image_id) == (REFERENCE, foreign)
    assert made.image.architecture == "arm64"
    assert json.loads((images / "names.json").read_text(encoding="utf-8")) == {REFERENCE: own}
    assert scene.bring().image_brought
    host = scene.root / "host/images/names.json"
    assert json.loads(host.read_text(encoding="utf-8")) == {REFERENCE: foreign}


def test_an_image_that_is_for_others_is_not_packed(scene: Scene) -> None:
    with pytest.raises(AgentError, match="for arm64, not for amd64") as raised:
        scene.create(architecture="amd64")
    assert raised.value.failure.code is Code.IMAGE_MISSING
    assert "--arch arm64" in raised.value.failure.hint
    assert not scene.output.exists()


# --- going on ------------------------------------------------------------------------------------


def test_parts_on_record_are_not_written_again(scene: Scene) -> None:
    (scene.model / "tokenizer/词表.json").unlink()  # the last one
    with pytest.raises(AgentError):
        scene.create()
    assert (scene.output / RECORDS_NAME).exists()
    kept = {path: os.stat(path) for path in scene.output.rglob("*.0*")}
    assert len(kept) > 5
    put_model(scene.model)
    scene.create()
    after = {path: os.stat(path) for path in kept}
    assert {p: s.st_mtime_ns for p, s in after.items()} == {
        p: s.st_mtime_ns for p, s in kept.items()
    }
    verify(open_bundle(scene.output, scene.signers), scene.told.append)


def test_another_image_meanwhile_is_written_anew(scene: Scene) -> None:
    (scene.model / "config.json").unlink()
    with pytest.raises(AgentError):
        scene.create()
    put_model(scene.model)
    put_image(scene.root / "maker/images", b"shorter")
    made = scene.create()
    assert made.image is not None
    verify(open_bundle(scene.output, scene.signers), scene.told.append)
    listed = {part.name for part in made.parts} | {BUNDLE_NAME}
    there = {str(p.relative_to(scene.output)) for p in scene.output.rglob("*") if p.is_file()}
    assert there == listed
    scene.bring()


def test_two_makers_do_not_write_the_same_bundle(scene: Scene) -> None:
    scene.output.mkdir(parents=True)
    with (
        Records(scene.output / RECORDS_NAME),
        pytest.raises(AgentError, match="another process"),
    ):
        scene.create()
    scene.create()


def test_what_is_loaded_is_on_the_disk_when_the_load_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, bool]] = []
    podman, store = podman_in(tmp_path), tmp_path / "images"
    image_id, archive = make_archive(REFERENCE, b"layer")
    (tmp_path / "archive").write_bytes(archive)

    def sync(storage: str) -> None:
        synced.append((storage, (store / image_id).exists()))

    monkeypatch.setattr("agent.supply.bundle.images.sync_storage", sync)
    podman.load(tmp_path / "archive", lambda done, total: None)
    assert synced == [(str(store), True)]


@pytest.mark.parametrize("seen", ["before", "after"])
def test_a_damaged_image_goes_with_all_its_names_and_is_loaded_whole(
    scene: Scene, seen: str
) -> None:
    """Before the load, or after one upon it: `podman image exists` denies some of them (5.4.2)."""
    made, store = scene.create(), scene.root / "host/images"
    scene.bring()
    assert made.image is not None
    image_id = made.image.image_id
    podman_in(scene.root / "host").tag(image_id, "localhost/deepseek-agent/8b:current")
    (store / "damaged").write_text(image_id, encoding="utf-8")
    if seen == "after":
        (store / "denied").touch()
    assert scene.bring().image_brought
    assert not (store / "damaged").exists()
    found = podman_in(scene.root / "host").find(image_id)
    assert found is not None
    assert found.names == (REFERENCE,)


def test_one_that_stays_damaged_is_told(scene: Scene) -> None:
    made, store = scene.create(), scene.root / "host/images"
    assert made.image is not None
    (store / "damaged").write_text(made.image.image_id, encoding="utf-8")
    (store / "stays").touch()
    with pytest.raises(AgentError, match="could not read") as raised:
        scene.bring()
    assert raised.value.failure.code is Code.CONTENT_DAMAGED
    assert not (store / made.image.image_id).exists()


def test_other_trouble_with_an_image_removes_nothing(scene: Scene) -> None:
    scene.create()
    scene.bring()
    store = scene.root / "host/images"
    before = sorted(os.listdir(store))
    (store / "fault").write_text("image", encoding="utf-8")
    with pytest.raises(AgentError) as raised:
        scene.bring()
    assert raised.value.failure.code is Code.PODMAN_UNAVAILABLE
    (store / "fault").unlink()
    assert sorted(os.listdir(store)) == before
