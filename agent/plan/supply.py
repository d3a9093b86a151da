# SPDX-License-Identifier: MulanPSL-2.0
"""What is not there and could be brought: an order for image and model of one instance. Pure."""

import re
from dataclasses import dataclass, replace

from agent.config.values import Profile, Registry, SupplySettings
from agent.errors import Code, Failure
from agent.facts import Facts
from agent.plan.plan import choose_image
from agent.supplies import (
    ImageOrder,
    ImageSource,
    ModelOrder,
    ModelSource,
    Order,
    Purpose,
    Supply,
)

# What an order can mend, if there is one (`build_order`).
MENDABLE = (Code.IMAGE_MISSING, Code.MODEL_MISSING, Code.MODEL_INVALID)
# Podman's own reading of a short name needs a search list; the shipped images have none of these.
_DEFAULT_REGISTRY = "docker.io"
_IMAGE_ID = re.compile(r"(sha256:)?[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Lacking:
    """Why there is no plan, and what would have to be brought for one."""

    failure: Failure
    order: Order


def build_order(
    profile: Profile, facts: Facts, supply: SupplySettings, pinned: Supply | None = None
) -> Order | None:
    """For what is missing of image and model, and for a model that we have brought and that is
    damaged; None when nothing is. Where nothing may be fetched its sources are empty: then only the
    import folder is left."""
    image = profile.image_for(facts.inventory)
    lacks_image = facts.podman_seen and not choose_image(profile, facts, pinned)
    model = facts.model(profile.model)
    lacks_model = model is not None and not model.present
    damaged = model.revision if model is not None and model.present and model.problem else ""
    if not lacks_image and not lacks_model and not damaged:
        return None
    return Order(
        profile.name,
        order_image(image, supply) if lacks_image else None,
        order_model(profile, supply, damaged) if lacks_model or damaged else None,
        keep_free_mib=supply.keep_free_gib * 1024,
        parallel=supply.parallel,
        models_dir=supply.models_dir,
    )


def order_image(reference: str, supply: SupplySettings) -> ImageOrder:
    """From wherever it may be."""
    return ImageOrder(reference, _image_sources(reference, supply))


def order_model(profile: Profile, supply: SupplySettings, damaged: str = "") -> ModelOrder:
    """`damaged`: the revision that is to be mended; empty: the model is missing."""
    return ModelOrder(profile.model, _model_sources(profile, supply), damaged != "", damaged)


def build_recheck(profile: Profile, supply: SupplySettings, revision: str) -> Order:
    """For a model that an engine cannot read: every byte is looked at, what is damaged is brought
    again. `revision`: what that engine got, or would; the link may lead to a twin's."""
    return Order(
        profile.name,
        None,
        order_model(profile, supply, damaged=revision),
        keep_free_mib=supply.keep_free_gib * 1024,
        parallel=supply.parallel,
        models_dir=supply.models_dir,
    )


@dataclass(frozen=True, slots=True)
class Update:
    """What a person wants anew: empty for what the profile says."""

    image: str = ""  # a reference
    revision: str = ""  # of the model


@dataclass(frozen=True, slots=True)
class UpdatePlan:
    """An order for what there is by now, and what a start would run on without it."""

    order: Order
    base: Supply


def build_update(
    profile: Profile, facts: Facts, settings: SupplySettings, wanted: Update, pinned: Supply | None
) -> UpdatePlan | Failure:
    """Of what is there already. An operator's own model is not ours to replace."""
    name, reference = profile.name, profile.image_for(facts.inventory)
    image_id, model = choose_image(profile, facts, pinned), facts.model(profile.model)
    if not image_id or model is None or not model.present:
        return _refused(name, "image or model is not there yet", f"deepseekctl pull {name}")
    refers = (reference, profile.model)
    if pinned is not None and (pinned.image_reference, pinned.model_directory) != refers:
        why = "its configuration names another image or model since it was started"
        return _refused(name, why, f"deepseekctl restart {name}")
    if wanted.revision and not model.revision:
        why = f"{profile.model} was not fetched by the agent"
        return _refused(name, why, f"move {profile.model} away, and it is fetched")
    sources = _model_sources(profile, settings)
    if wanted.revision and not sources:
        why = "no source of its model is configured"
        return _refused(name, why, f"name one in /etc/deepseek-agent/models.d/{name}.toml")
    if wanted.revision:
        sources = tuple(replace(one, revision=wanted.revision) for one in sources)
    image = wanted.image or reference
    order = Order(
        name,
        ImageOrder(image, _image_sources(image, settings)),
        ModelOrder(profile.model, sources) if model.revision and sources else None,
        keep_free_mib=settings.keep_free_gib * 1024,
        parallel=settings.parallel,
        purpose=Purpose.REFRESH,
        models_dir=settings.models_dir,
    )
    base = Supply(reference, image_id, "", profile.model, model.revision, 0.0)
    return UpdatePlan(order, base)


def _refused(name: str, why: str, hint: str) -> Failure:
    return Failure(Code.UPDATE_REFUSED, f"cannot update {name}: {why}", hint)


def without_sources(order: Order) -> Order:
    """The same from the import folder alone."""
    image, model = order.image, order.model
    return replace(
        order,
        image=replace(image, sources=()) if image is not None else None,
        model=replace(model, sources=()) if model is not None else None,
    )


def _model_sources(profile: Profile, supply: SupplySettings) -> tuple[ModelSource, ...]:
    return tuple(
        ModelSource(
            one.hub,
            endpoint,
            one.repo,
            one.revision,
            settings.token_file,
            settings.ca_file,
            settings.tls_verify,
        )
        for one in profile.sources
        for settings in (supply.hub(one.hub),)
        for endpoint in settings.endpoints
    )


def _image_sources(reference: str, supply: SupplySettings) -> tuple[ImageSource, ...]:
    """Mirrors of its registry, then the registry itself. None for an image that is named by its id
    or was made on this host: nobody else has it."""
    registry, _, rest = reference.partition("/")
    if _IMAGE_ID.fullmatch(reference) or registry == "localhost":
        return ()
    if not rest or not ("." in registry or ":" in registry):
        registry, rest = _DEFAULT_REGISTRY, reference
    mirrors = _registry(registry, supply).mirrors
    return tuple(_image_source(f"{place}/{rest}", supply) for place in (*mirrors, registry))


def _image_source(reference: str, supply: SupplySettings) -> ImageSource:
    known = _registry(reference.partition("/")[0], supply)
    return ImageSource(reference, known.tls_verify, known.ca_file, known.auth_file)


def _registry(name: str, supply: SupplySettings) -> Registry:
    found = (one for one in supply.registries if one.name == name)
    return next(found, Registry(name, (), True, "", ""))
