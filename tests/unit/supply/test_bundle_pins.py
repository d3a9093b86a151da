# SPDX-License-Identifier: MulanPSL-2.0
"""A bundle for an instance that is pinned to what it runs on: the model goes into the store, and an
update takes it from there, without a network."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from agent.config.values import ModelRepo
from agent.errors import Code, Failure
from agent.pins import Carried
from agent.status.snapshot import InstanceView, UpdateView
from agent.supplies import Hub, ModelOrder, ModelSource, Order, Purpose, Supply
from agent.supply.bundle.format import Bundle
from agent.supply.errand import carry_out
from agent.supply.place import list_revisions
from tests.build import build_config, build_profile, build_view

from .bundle_scene import MODEL, REFERENCE, Scene, put_model

pytestmark = pytest.mark.timeout(60)
REPO = "deepseek-ai/small"
OLD, NEW = "a" * 40, "b" * 40
IMAGE = "0" * 64


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """The host has the old revision; the bundle, a new one and an image."""
    made = Scene(tmp_path)
    made.prepare()
    put_model(made.model, revision=OLD)
    made.create(output=made.root / "first")
    made.bring(made.root / "first")
    put_model(made.model, {**MODEL, "config.json": b'{"model_type": "newer"}\n'}, revision=NEW)
    return made


def link(scene: Scene) -> str:
    return os.readlink(scene.models_dir / "small").rsplit("/", maxsplit=1)[-1]


def pinned(scene: Scene, **changes: object) -> InstanceView:
    """8b, as the agent shows it."""
    current = Supply(REFERENCE, IMAGE, "", str(scene.models_dir / "small"), OLD, 0.0)
    update = UpdateView(False, replace(current, **changes), None, None, None, None, 0.0)  # type: ignore[arg-type]
    return build_view(update=update)


def carried(scene: Scene, bundle: Bundle, *views: InstanceView, repo: str = REPO) -> Carried:
    source = ModelRepo(Hub.MODELSCOPE, repo, "master")
    profile = build_profile(model=str(scene.models_dir / "small"), sources=(source,))
    return Carried(bundle, scene.models_dir, build_config(profile), views)


def words(scene: Scene, bundle: Bundle, *views: InstanceView, repo: str = REPO) -> list[str]:
    return list(carried(scene, bundle, *views, repo=repo).say_pinned())


def test_what_is_pinned_stays_in_use_and_an_update_takes_the_other(scene: Scene) -> None:
    scene.create()
    for is_new in (True, False):
        assert scene.bring(keeps_model=True).model_brought is is_new
        assert link(scene) == OLD
    directory = str(scene.models_dir / "small")
    assert {one.name for one in list_revisions(directory)} == {OLD, NEW}
    nowhere = ModelSource(Hub.MODELSCOPE, "http://127.0.0.1:9", REPO, NEW)
    order = Order("8b", None, ModelOrder(directory, (nowhere,)), purpose=Purpose.REFRESH)
    report = carry_out(order, scene.told.append)
    assert (report.failure, report.model_folder) == (None, NEW)
    assert link(scene) == OLD  # until the start that tries it


def test_a_revision_that_is_not_whole_is_of_no_use_to_whom_it_was_kept_for(scene: Scene) -> None:
    scene.create()
    (scene.models_dir / "small/config.json").unlink()
    scene.bring(keeps_model=True)
    assert link(scene) == NEW


def test_both_are_told_with_the_command_that_tries_them(scene: Scene) -> None:
    bundle = scene.create()
    assert bundle.image is not None
    assert carried(scene, bundle, pinned(scene)).is_pinned
    scene.bring(keeps_model=True)
    command = f"deepseekctl update 8b --image {bundle.image.image_id} --revision {NEW}"
    (told,) = words(scene, bundle, pinned(scene))
    assert told.startswith(
        f"8b goes on with image {IMAGE[:12]}, model revision {OLD[:12]}; to try "
    )
    assert told.endswith(command)


def test_the_image_that_it_has_is_named_where_the_model_alone_is_new(scene: Scene) -> None:
    bundle = scene.create(image="")
    scene.bring(keeps_model=True)
    (told,) = words(scene, bundle, pinned(scene))
    assert told.endswith(f"deepseekctl update 8b --image {IMAGE} --revision {NEW}")


def test_an_image_alone(scene: Scene) -> None:
    bundle = scene.create(model=None)
    assert bundle.image is not None
    assert not carried(scene, bundle, pinned(scene)).is_pinned
    scene.bring()
    (told,) = words(scene, bundle, pinned(scene))
    assert told.endswith(f"deepseekctl update 8b --image {bundle.image.image_id}")
    assert words(scene, bundle, pinned(scene, image_id=bundle.image.image_id)) == []
    assert words(scene, bundle, pinned(scene, image_reference="localhost/other:1")) == []


def test_what_no_update_finds_is_taken_by_the_next_start(scene: Scene) -> None:
    """A model that somebody has put together is of no commit of the profile's sources."""
    bundle = scene.create(image="")
    assert not carried(scene, bundle, pinned(scene), repo="my/own").is_pinned
    scene.bring()
    assert link(scene) == NEW
    (told,) = words(scene, bundle, pinned(scene), repo="my/own")
    assert told == (
        "8b takes the model with its next start, without a trial: deepseekctl restart 8b"
    )


@pytest.mark.parametrize("code", [Code.MODEL_INVALID, Code.MODEL_MISSING, Code.IMAGE_MISSING])
def test_one_that_lacks_it_takes_what_is_brought(scene: Scene, code: Code) -> None:
    bundle = scene.create()
    lacking = replace(pinned(scene), failure=Failure(code, "it is damaged"))
    assert not carried(scene, bundle, lacking).is_pinned
    scene.bring()
    assert words(scene, bundle, lacking) == []


def test_one_on_trial_is_pinned_to_that(scene: Scene) -> None:
    bundle = scene.create(image="")
    scene.bring()
    view = pinned(scene)
    assert view.update is not None
    assert view.update.current is not None
    trial = replace(view.update.current, model_revision=NEW)
    on_trial = replace(view, update=replace(view.update, trial=trial))
    assert words(scene, bundle, on_trial) == []


def test_of_others_nothing_is_said(scene: Scene) -> None:
    bundle = scene.create(image="")
    never_ran = build_view()
    elsewhere = pinned(scene, model_directory="/srv/models/small")
    operators = pinned(scene, model_revision="")
    for view in (never_ran, elsewhere, operators):
        assert not carried(scene, bundle, view).is_pinned
        assert words(scene, bundle, view) == []
    assert not carried(scene, bundle).is_pinned
