# SPDX-License-Identifier: MulanPSL-2.0
"""Imports a bundle: image into Podman's storage, model below models_dir.

In: a folder, models_dir. Out: both in place, or an `AgentError`, and then nothing that can be seen
has changed. What was copied when it was interrupted is kept in `.incoming` for the next time.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.errors import AgentError, Code
from agent.host.image_space import needs_of_load
from agent.supplies import Item, Manifest, Stage
from agent.supply.bundle.archive import require_archive_of
from agent.supply.bundle.copying import copy_content, is_copied
from agent.supply.bundle.files import prune_files
from agent.supply.bundle.format import (
    ARCHIVE_FORMAT,
    Bundle,
    BundledImage,
    BundledModel,
    Content,
)
from agent.supply.bundle.images import PodmanImages
from agent.supply.bundle.names import IMAGE_STEM
from agent.supply.bundle.opened import COPYING_S, OpenedBundle, damaged, open_bundle, require_whole
from agent.supply.bundle.records import RECORDS, Records
from agent.supply.disk import check_room, writing
from agent.supply.manifest import read_manifest, sort_files
from agent.supply.meter import Count, Meter, Tell
from agent.supply.place import BUNDLE, INCOMING, Home, list_revisions, place, switch_to
from agent.supply.room import Room, claim_room
from agent.supply.signers import SIGNERS_FILE
from agent.supply.verify import is_all_there

_STAGED_MODEL = "model"
# As images and as uname(2) say it.
ARCHITECTURES = {"aarch64": "arm64", "x86_64": "amd64"}


@dataclass(frozen=True, slots=True)
class Imported:
    """What the host has now."""

    bundle: Bundle
    signer: str  # empty: this host names no signers, so it was not checked
    image_brought: bool  # False: it was there already
    model_brought: bool


@dataclass(frozen=True, slots=True)
class Target:
    """Where it goes to."""

    models_dir: Path
    images: PodmanImages
    keep_free_mib: int = 0
    signers: Path = SIGNERS_FILE
    copying_s: float = COPYING_S
    machine: str = ""  # empty: this one's, as uname(2) says it
    keeps_model: bool = False  # the one in use stays, where it is whole: something is pinned to it


def import_bundle(folder: Path, target: Target, tell: Tell) -> Imported:
    return import_opened(open_bundle(folder, target.signers), target, tell)


def import_opened(
    opened: OpenedBundle, target: Target, tell: Tell, wanted: Bundle | None = None
) -> Imported:
    """Its list is not read again: what was checked is what is used. `wanted`: the same without
    image or model, of which then nothing is looked at, needed or changed."""
    wanted = wanted or opened.bundle
    image = _missing_image(wanted, target)
    model = _missing_model(wanted, target)
    if image is not None or model is not None:
        require_whole(opened, wanted.parts, target.copying_s)
    _bring(opened, wanted, image, model, target, tell)
    return Imported(wanted, opened.signer, image is not None, model is not None)


def _missing_image(bundle: Bundle, target: Target) -> BundledImage | None:
    image = bundle.image
    if image is None:
        return None
    machine = target.machine or os.uname().machine
    wanted = ARCHITECTURES.get(machine, machine)
    if image.architecture != wanted:
        raise AgentError(
            Code.IMAGE_MISSING,
            f"cannot use the bundle's image: it is for {image.architecture}, this host is {wanted}",
            f"make it anew: deepseekctl bundle create {bundle.instance} --arch {wanted} -o DIR",
        )
    damaged_there = target.images.drop_damaged(image.image_id)
    if damaged_there or target.images.find(image.image_id) is None:
        return image
    target.images.tag(image.image_id, image.reference)
    return None


def _missing_model(bundle: Bundle, target: Target) -> BundledModel | None:
    model = bundle.model
    if model is None:
        return None
    home, manifest = _home(target, model), sort_files(model.manifest)
    if _is_there(home.link, manifest):
        return None
    home.require_ours()
    for revision in list_revisions(str(home.link)):
        if revision.manifest == manifest:  # placing was cut off, or it is a model of before
            _use(home, revision.name, target)
            return None
    return model


def _use(home: Home, name: str, target: Target) -> None:
    """From now on that revision is seen, unless another one shall stay."""
    if target.keeps_model and any(one.in_use for one in list_revisions(str(home.link))):
        return
    switch_to(home, name)


def _home(target: Target, model: BundledModel) -> Home:
    return Home(str(target.models_dir / model.directory))


def _is_there(folder: Path, manifest: Manifest) -> bool:
    """By its names and sizes; `deepseekctl verify` looks further."""
    try:
        return read_manifest(folder) == manifest and is_all_there(folder, manifest)
    except AgentError:
        return False


def _bring(
    opened: OpenedBundle,
    wanted: Bundle,
    image: BundledImage | None,
    model: BundledModel | None,
    target: Target,
    tell: Tell,
) -> None:
    """What is not None; with nothing left to bring, what an interrupted import has left goes."""
    staging = target.models_dir / INCOMING / f"{BUNDLE}{opened.bundle.instance}"
    if image is None and model is None and not staging.exists():
        return
    with writing(f"write below {staging}"):
        staging.mkdir(parents=True, exist_ok=True)
        with Records(staging / RECORDS) as records:
            _tidy(wanted, image, model, staging)
            archive, weights = _missing_bytes(image, model, staging, records)
            most = max(archive, weights)  # the archive is gone again before the model comes
            _check_room(image, most, staging, target)
            with claim_room("import the bundle", staging, most, target.keep_free_mib) as room:
                if image is not None:
                    room.expect(archive, later=weights)
                    _bring_image(opened, image, staging, records, target, tell, room)
                if model is not None:
                    room.expect(weights)
                    _bring_model(opened, model, staging, records, target, tell, room)
            _tidy(wanted, None, None, staging)
            if os.listdir(staging) == [RECORDS]:
                shutil.rmtree(staging)


def _tidy(
    wanted: Bundle, image: BundledImage | None, model: BundledModel | None, staging: Path
) -> None:
    """What other bundles have left there; and an image whose `podman load` outlived its import. Of
    what is not wanted now, an import of all of it may have been cut off."""
    if wanted.image is not None and image is None:
        (staging / IMAGE_STEM).unlink(missing_ok=True)
    if wanted.model is not None:
        contents = () if model is None else model.contents
        prune_files(staging / _STAGED_MODEL, frozenset(content.path for content in contents))


def _missing_bytes(
    image: BundledImage | None, model: BundledModel | None, staging: Path, records: Records
) -> tuple[int, int]:
    """Of the archive, and of the model."""
    archive = weights = 0
    if image is not None:
        archive = _left(image.archive, staging / IMAGE_STEM, records)
    if model is not None:
        paths = ((content, staging / _STAGED_MODEL / content.path) for content in model.contents)
        weights = sum(_left(content, path, records) for content, path in paths)
    return archive, weights


def _check_room(image: BundledImage | None, missing: int, staging: Path, target: Target) -> None:
    needed = {staging: missing}
    if image is not None:
        places = target.images.places()
        for place, size in needs_of_load(image.archive.size, ARCHIVE_FORMAT, False, places):
            folder = Path(place)
            needed[folder] = needed.get(folder, 0) + int(size)
    check_room("import the bundle", needed, target.keep_free_mib)


def _left(content: Content, path: Path, records: Records) -> int:
    if is_copied(content, path, records):
        return 0
    try:
        there = os.lstat(path).st_size
    except OSError:
        there = 0
    return max(0, content.size - there)


def _bring_image(
    opened: OpenedBundle,
    image: BundledImage,
    staging: Path,
    records: Records,
    target: Target,
    tell: Tell,
    room: Room,
) -> None:
    archive = staging / IMAGE_STEM
    size = image.archive.size
    meter = Meter(tell, Item.IMAGE)
    count = Count(meter, Stage.FETCHING, str(opened.folder), size, room.wrote)
    copy_content(opened.folder, image.archive, archive, records, count)
    count.finish()
    placing = Meter(tell, Item.IMAGE)
    placing.show(Stage.PLACING, str(opened.folder), 0, size)
    try:
        require_archive_of(archive, image)
    except ValueError as error:
        raise damaged(IMAGE_STEM, str(error)) from error
    _load(
        archive,
        image,
        target,
        lambda read, _: placing.show(Stage.PLACING, str(opened.folder), read, size),
    )
    target.images.tag(image.image_id, image.reference)
    for part in image.archive.parts:
        records.forget(part.name)
    archive.unlink()
    placing.show(Stage.PLACING, str(opened.folder), size, size, at_once=True)


def _load(
    archive: Path, image: BundledImage, target: Target, tell: Callable[[int, int], None]
) -> None:
    """Once more where layers that Podman took for present were damaged: they are gone by then."""
    for _ in range(2):
        target.images.load(archive, tell)
        if not target.images.drop_damaged(image.image_id):
            break
    else:
        raise AgentError(
            Code.CONTENT_DAMAGED,
            f"cannot use {image.reference}: Podman could not read what it had of it, and has "
            "removed it",
        )
    if target.images.find(image.image_id) is None:
        raise damaged(IMAGE_STEM, f"Podman has loaded it, and has no image {image.image_id[:12]}")


def _bring_model(
    opened: OpenedBundle,
    model: BundledModel,
    staging: Path,
    records: Records,
    target: Target,
    tell: Tell,
    room: Room,
) -> None:
    home, staged = _home(target, model), staging / _STAGED_MODEL
    before = list_revisions(str(home.link))
    staged.mkdir(exist_ok=True)
    meter, size = Meter(tell, Item.MODEL), model.manifest.size
    count = Count(meter, Stage.FETCHING, str(opened.folder), size, room.wrote)
    for content in model.contents:
        copy_content(opened.folder, content, staged / content.path, records, count)
    count.finish()
    contents = [(content.path, staged / content.path) for content in model.contents]
    _use(home, place(home, sort_files(model.manifest), contents, before), target)
