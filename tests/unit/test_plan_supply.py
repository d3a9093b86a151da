# SPDX-License-Identifier: MulanPSL-2.0
"""What is missing becomes an order: for what of it, and from which sources in which order."""

from dataclasses import replace

import pytest

from agent.config.values import NO_SUPPLY, HubSettings, ModelRepo, Registry, SupplySettings
from agent.errors import Code, Failure
from agent.facts import Facts, ImageFacts, ModelFacts
from agent.plan.plan import Plan, build_plan
from agent.plan.supply import (
    Update,
    UpdatePlan,
    build_order,
    build_update,
    order_model,
    without_sources,
)
from agent.supplies import (
    Hub,
    ImageOrder,
    ImageSource,
    ModelOrder,
    ModelSource,
    Order,
    Purpose,
    Supply,
)
from tests.build import REPO, SOURCES, build_facts, build_profile

SUPPLY = SupplySettings(
    fetch=True,
    parallel=8,
    keep_free_gib=2,
    modelscope=HubSettings(("https://m.example",), "/etc/token", "", True),
    huggingface=HubSettings(("https://h1.example", "http://h2.example"), "", "/etc/ca", False),
    models_dir="/data/models",
    registries=(
        Registry("quay.io", ("mirror.example:5000/quay", "other.example"), True, "", "/etc/auth"),
        Registry("mirror.example:5000", ("never.example",), False, "/etc/pem", "credential:m"),
    ),
)
PROFILE = build_profile()
IMAGE = PROFILE.images.a2


def facts(*, image: bool, model: bool) -> Facts:
    whole = build_facts()
    images = (ImageFacts(IMAGE, "ab" * 32 if image else ""),)
    models = (ModelFacts(PROFILE.model, 32, "" if model else "it is not there", present=model),)
    return replace(whole, podman=replace(whole.podman, images=images), models=models)


def test_nothing_is_missing() -> None:
    assert build_order(PROFILE, facts(image=True, model=True), SUPPLY) is None


def test_a_damaged_model_is_not_replaced() -> None:
    """It may be somebody's own."""
    damaged = ModelFacts(PROFILE.model, 0, "config.json is no JSON", present=True)
    seen = replace(facts(image=True, model=True), models=(damaged,))
    assert build_order(PROFILE, seen, SUPPLY) is None


def test_a_damaged_model_of_ours_is_mended() -> None:
    """What an engine would die of, too; what else is missing is brought with it."""
    damaged = ModelFacts(PROFILE.model, 0, "config.json is no JSON", present=True, revision="a")
    for image in (True, False):
        seen = replace(facts(image=image, model=True), models=(damaged,))
        order = build_order(PROFILE, seen, SUPPLY)
        assert order is not None
        assert order.model == replace(order_model(PROFILE, SUPPLY), recheck=True, revision="a")
        assert (order.image is None) == image


def test_images_are_not_judged_where_nobody_could_ask_podman() -> None:
    seen = replace(facts(image=False, model=True), podman_seen=False)
    assert build_order(PROFILE, seen, SUPPLY) is None


def test_all_of_it() -> None:
    rest = IMAGE.removeprefix("quay.io/")
    assert build_order(PROFILE, facts(image=False, model=False), SUPPLY) == Order(
        "8b",
        ImageOrder(
            IMAGE,
            (
                ImageSource(f"mirror.example:5000/quay/{rest}", False, "/etc/pem", "credential:m"),
                ImageSource(f"other.example/{rest}"),
                ImageSource(IMAGE, True, "", "/etc/auth"),
            ),
        ),
        ModelOrder(
            PROFILE.model,
            (
                ModelSource(
                    Hub.MODELSCOPE, "https://m.example", REPO, "master", "/etc/token", "", True
                ),
                *(
                    ModelSource(Hub.HUGGINGFACE, endpoint, REPO, "main", "", "/etc/ca", False)
                    for endpoint in ("https://h1.example", "http://h2.example")
                ),
            ),
        ),
        keep_free_mib=2048,
        parallel=8,
        models_dir="/data/models",
    )


def test_only_what_is_missing() -> None:
    model = build_order(PROFILE, facts(image=True, model=False), SUPPLY)
    image = build_order(PROFILE, facts(image=False, model=True), SUPPLY)
    assert model is not None
    assert image is not None
    assert (model.image, image.model) == (None, None)
    assert image.models_dir == "/data/models"


@pytest.mark.parametrize(
    ("reference", "sources"),
    [
        ("quay.io/a/b:1", ["quay.io/a/b:1"]),
        ("r.example:5000/b@sha256:00", ["r.example:5000/b@sha256:00"]),
        ("b:1", ["docker.io/b:1"]),
        ("a/b:1", ["docker.io/a/b:1"]),
        ("localhost/b:1", []),
        ("localhost:5000/b:1", ["localhost:5000/b:1"]),
        ("ab" * 32, []),
        ("sha256:" + "ab" * 32, []),
    ],
)
def test_where_an_image_may_be(reference: str, sources: list[str]) -> None:
    profile = replace(PROFILE, images=replace(PROFILE.images, a2=reference))
    order = build_order(profile, facts(image=False, model=True), NO_SUPPLY)
    assert order is not None
    assert order.image is not None
    assert order.image.reference == reference
    assert [source.reference for source in order.image.sources] == sources


def test_the_order_of_hubs_is_the_profiles() -> None:
    profile = replace(PROFILE, sources=(*SOURCES[::-1], ModelRepo(Hub.MODELSCOPE, "me/mine", "v1")))
    order = build_order(profile, facts(image=True, model=False), SUPPLY)
    assert order is not None
    assert order.model is not None
    assert [(one.endpoint, one.repo) for one in order.model.sources] == [
        ("https://h1.example", REPO),
        ("http://h2.example", REPO),
        ("https://m.example", REPO),
        ("https://m.example", "me/mine"),
    ]


def test_without_sources_only_the_import_folder_is_left() -> None:
    order = build_order(PROFILE, facts(image=False, model=False), SUPPLY)
    assert order is not None
    assert without_sources(order) == replace(
        order, image=ImageOrder(IMAGE, ()), model=ModelOrder(PROFILE.model, ())
    )


# --- updates -------------------------------------------------------------------------------------

OLD_ID, NEW_ID = "cd" * 32, "ef" * 32
PINNED = Supply(IMAGE, OLD_ID, "", PROFILE.model, "r1", 1.0)


def there(*images: str, revision: str = "r1", now: str = NEW_ID) -> Facts:
    """The reference means `now`; these images are there by their ids."""
    whole = facts(image=True, model=True)
    found = (ImageFacts(IMAGE, now), *(ImageFacts(one, one) for one in images))
    models = (replace(whole.models[0], revision=revision),)
    return replace(whole, podman=replace(whole.podman, images=found), models=models)


def test_the_pinned_image_is_what_it_runs_on() -> None:
    plan = build_plan(PROFILE, there(OLD_ID), PINNED)
    assert isinstance(plan, Plan)
    assert (plan.image, plan.image_reference, plan.model_revision) == (OLD_ID, IMAGE, "r1")
    parent, name = PROFILE.model.rsplit("/", maxsplit=1)
    assert plan.model_folder == f"{parent}/.store/{name}/r1"


def test_of_an_operators_own_model_the_folder_is_what_it_runs_on() -> None:
    plan = build_plan(PROFILE, there(OLD_ID, revision=""), PINNED)
    assert isinstance(plan, Plan)
    assert plan.model_folder == PROFILE.model


@pytest.mark.parametrize(
    ("seen", "pinned"),
    [
        (there(), PINNED),  # it is gone
        (there(OLD_ID), replace(PINNED, image_reference="quay.io/ascend/vllm-ascend:v2")),
        (there(OLD_ID), None),
    ],
)
def test_else_it_is_what_the_profile_means_now(seen: Facts, pinned: Supply | None) -> None:
    plan = build_plan(PROFILE, seen, pinned)
    assert isinstance(plan, Plan)
    assert plan.image == NEW_ID


def test_a_pinned_image_is_not_missing_when_its_tag_is() -> None:
    assert build_order(PROFILE, there(OLD_ID, now=""), SUPPLY, PINNED) is None
    assert isinstance(build_plan(PROFILE, there(OLD_ID, now=""), PINNED), Plan)
    assert build_order(PROFILE, there(now=""), SUPPLY, PINNED) is not None


def test_an_update_asks_all_sources_anew() -> None:
    found = build_update(PROFILE, there(OLD_ID), SUPPLY, Update(), PINNED)
    assert isinstance(found, UpdatePlan)
    missing = build_order(PROFILE, facts(image=False, model=False), SUPPLY)
    assert missing is not None
    assert found.order == replace(missing, purpose=Purpose.REFRESH)
    assert found.base.is_same(PINNED)


def test_an_update_to_something_else() -> None:
    wanted = Update("localhost/mine:1", "v2")
    found = build_update(PROFILE, there(OLD_ID), SUPPLY, wanted, PINNED)
    assert isinstance(found, UpdatePlan)
    assert found.order.image == ImageOrder("localhost/mine:1", ())
    assert found.order.model is not None
    assert {one.revision for one in found.order.model.sources} == {"v2"}


@pytest.mark.parametrize(
    ("seen", "wanted", "pinned", "why"),
    [
        (there(now=""), Update(), None, "not there yet"),
        (facts(image=True, model=False), Update(), None, "not there yet"),
        (there(), Update(), replace(PINNED, image_reference="x"), "since it was started"),
        (there(), Update(), replace(PINNED, model_directory="/x"), "since it was started"),
        (there(revision=""), Update(revision="v2"), None, "not fetched by the agent"),
    ],
)
def test_an_update_that_is_refused(
    seen: Facts, wanted: Update, pinned: Supply | None, why: str
) -> None:
    failure = build_update(PROFILE, seen, SUPPLY, wanted, pinned)
    assert isinstance(failure, Failure)
    assert failure.code is Code.UPDATE_REFUSED
    assert why in failure.message
    assert failure.hint


def test_an_operators_model_stays_as_it_is() -> None:
    found = build_update(PROFILE, there(revision=""), SUPPLY, Update(), None)
    assert isinstance(found, UpdatePlan)
    assert (found.order.model, found.base.model_revision) == (None, "")
