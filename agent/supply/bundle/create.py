# SPDX-License-Identifier: MulanPSL-2.0
"""Makes a bundle, on a machine that has image and model.

In: a model folder with its manifest, an image of Podman's storage. Out: a folder, with its list
written last. Content passes through once: it is hashed while it is written, and there is no second
copy. What was interrupted goes on: parts on record are read again at their source, not written.
"""

import os
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from agent import __version__
from agent.errors import AgentError, Code
from agent.host.atomic import sync_folder
from agent.references import parse_reference
from agent.supplies import MANIFEST_NAME, Item, Manifest, Stage
from agent.supply.bundle import signing
from agent.supply.bundle.cutting import Cutter, file_source
from agent.supply.bundle.files import prune_files, sync_tree, write_lasting
from agent.supply.bundle.format import (
    BUNDLE_NAME,
    MAX_PART_BYTES,
    PART_BYTES,
    RECORDS_NAME,
    SIGNATURE_NAME,
    Bundle,
    BundledImage,
    BundledModel,
    Content,
)
from agent.supply.bundle.images import ImageFacts, PodmanImages
from agent.supply.bundle.names import IMAGE_STEM, MODEL_FOLDER, folder_refusal, model_stem
from agent.supply.bundle.opened import OpenedBundle, verify
from agent.supply.bundle.records import Records
from agent.supply.bundle.text import files_refusal, parse_bundle, render_bundle
from agent.supply.disk import check_room, writing
from agent.supply.manifest import read_manifest
from agent.supply.meter import Count, Meter, Tell


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be in a bundle."""

    instance: str
    image: str  # reference; empty: none
    product_line: str
    model: Path | None  # folder with a manifest
    output: Path
    part_bytes: int = PART_BYTES
    key: Path | None = None
    read_back: bool = False
    image_id: str = ""  # of the image, where this host calls another one by the reference
    architecture: str = ""  # that it is for; empty: whichever


@dataclass(frozen=True, slots=True)
class _Found:
    """What is there of it."""

    image: ImageFacts | None
    manifest: Manifest | None


def create(wanted: Wanted, images: PodmanImages, tell: Tell) -> Bundle:
    if not 1 <= wanted.part_bytes <= MAX_PART_BYTES:
        raise AgentError(
            Code.REQUEST_INVALID,
            f"cannot make parts of {wanted.part_bytes} bytes: FAT32 has files of less than 4 GiB",
        )
    found = _Found(
        _find_image(wanted, images) if wanted.image else None,
        _read_manifest(wanted.model) if wanted.model is not None else None,
    )
    _require_names(wanted)
    _require_fit(found)
    _require_fresh(wanted.output)
    with writing(f"write below {wanted.output}"), Records(wanted.output / RECORDS_NAME) as records:
        _check_room(wanted.output, found, records)
        bundle = _write_contents(wanted, found, images, records, tell)
        _finish(wanted, bundle)
    if wanted.read_back:
        verify(OpenedBundle(wanted.output, bundle, ""), tell)
    return bundle


def require_output(output: Path, key: Path | None) -> None:
    """Before gigabytes are fetched that could not be written, or signed."""
    _require_fresh(output)
    with writing(f"write below {output}"):
        output.mkdir(parents=True, exist_ok=True)
    if key is not None and not os.access(key, os.R_OK):
        raise AgentError(
            Code.FILE_UNUSABLE,
            f"cannot sign the bundle with {key}: it cannot be read",
            f"make a key with: ssh-keygen -t ed25519 -f {key}",
        )


def _find_image(wanted: Wanted, images: PodmanImages) -> ImageFacts:
    reference, architecture = wanted.image, wanted.architecture
    found = images.find(wanted.image_id or reference)
    if found is None:
        raise AgentError(
            Code.IMAGE_MISSING,
            f"cannot put {reference} into a bundle: Podman does not have it",
            f"podman pull {reference}",
        )
    if architecture and found.architecture != architecture:
        raise AgentError(
            Code.IMAGE_MISSING,
            f"cannot put {reference} into a bundle: it is for {found.architecture}, "
            f"not for {architecture}",
            f"for servers of that kind: --arch {found.architecture}",
        )
    return found


def _read_manifest(folder: Path) -> Manifest:
    manifest = read_manifest(folder)
    if manifest is None:
        raise AgentError(
            Code.MODEL_MISSING,
            f"cannot put {folder} into a bundle: there is no {MANIFEST_NAME} in it, so nobody can "
            "tell whether the model is whole",
            "fetch the model with: deepseekctl pull INSTANCE",
        )
    return manifest


def _full_name(reference: str, names: tuple[str, ...]) -> str:
    """As it will stand in the archive: Podman takes short names too, and means ":latest"."""
    if "@" in reference:
        return reference
    for name in names:
        for ending in (reference, f"{reference}:latest"):
            if name == ending or name.endswith(f"/{ending}"):
                return name
    raise AgentError(
        Code.IMAGE_MISSING,
        f"cannot put {reference} into a bundle: it is not a name of the image",
        f"name it as Podman does: {', '.join(names) or 'podman tag IMAGE NAME:TAG'}",
    )


def _reference(wanted: Wanted, facts: ImageFacts) -> str:
    """The name that it gets on the host."""
    if not wanted.image_id:
        return _full_name(wanted.image, facts.names)
    return str(parse_reference(wanted.image) or wanted.image)


def _require_names(wanted: Wanted) -> None:
    """Before gigabytes are written that would be refused at the end."""
    names = [wanted.instance] if wanted.model is None else [wanted.instance, wanted.model.name]
    for name in names:
        if (refusal := folder_refusal(name)) is not None:
            raise AgentError(Code.REQUEST_INVALID, f"cannot make a bundle of {name!r}: {refusal}")


def _require_fit(found: _Found) -> None:
    if found.image is None and found.manifest is None:
        raise AgentError(
            Code.REQUEST_INVALID, "cannot make a bundle: neither image nor model is asked for"
        )
    refusal = files_refusal(found.manifest.files) if found.manifest is not None else None
    if refusal is not None:
        raise AgentError(Code.MODEL_INVALID, f"cannot put the model into a bundle: {refusal}")


def _require_fresh(output: Path) -> None:
    """Neither a bundle that is finished nor files of somebody else are written over."""
    if (output / RECORDS_NAME).exists():
        return
    for name in (BUNDLE_NAME, f"{IMAGE_STEM}.000", MODEL_FOLDER):
        if (output / name).exists():
            raise AgentError(
                Code.FILE_UNUSABLE,
                f"cannot make a bundle in {output}: there is {name} already",
                "name an empty folder",
            )


def _check_room(output: Path, found: _Found, records: Records) -> None:
    image = 0 if found.image is None else found.image.size
    model = 0 if found.manifest is None else found.manifest.size
    needed = max(0, image + model - records.size)
    check_room("write the bundle", {output: needed}, keep_free_mib=0)


def _write_contents(
    wanted: Wanted, found: _Found, images: PodmanImages, records: Records, tell: Tell
) -> Bundle:
    cutter = Cutter(wanted.output, wanted.part_bytes, records)
    image = model = None
    if found.image is not None:
        image = _write_image(wanted, found.image, images, cutter, tell)
    if found.manifest is not None and wanted.model is not None:
        model = _write_model(wanted.model, found.manifest, cutter, tell)
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return Bundle(wanted.instance, created, f"deepseek-agent {__version__}", image, model)


def _write_image(
    wanted: Wanted, facts: ImageFacts, images: PodmanImages, cutter: Cutter, tell: Tell
) -> BundledImage:
    reference = _reference(wanted, facts)
    # By its digest Podman may refuse to save one, or to load it (podman#5234, podman#27323).
    source = wanted.image_id or (facts.image_id if "@" in reference else reference)
    count = Count(Meter(tell, Item.IMAGE), Stage.WRITING, reference, facts.size)
    archive = cutter.cut(IMAGE_STEM, IMAGE_STEM, lambda: images.save(source), count)
    count.finish()
    after = images.find(source)
    if after is None or after.image_id != facts.image_id:
        raise AgentError(
            Code.IMAGE_MISSING,
            f"cannot put {reference} into a bundle: it became another image meanwhile",
            "do it again when nothing pulls images",
        )
    return BundledImage(
        reference, facts.image_id, facts.digest, facts.architecture, wanted.product_line, archive
    )


def _write_model(folder: Path, manifest: Manifest, cutter: Cutter, tell: Tell) -> BundledModel:
    count = Count(Meter(tell, Item.MODEL), Stage.WRITING, str(folder), manifest.size)
    contents: list[Content] = []
    for file in manifest.files:
        path = folder / file.path
        content = cutter.cut(file.path, model_stem(file.path), partial(file_source, path), count)
        if (content.size, content.sha256) != (file.size, file.sha256):
            cutter.forget(content)
            raise AgentError(
                Code.CONTENT_DAMAGED,
                f"cannot put {path} into a bundle: it is not what its manifest says",
                "see: deepseekctl verify INSTANCE",
            )
        contents.append(content)
    count.finish()
    return BundledModel(folder.name, manifest, tuple(contents))


def _finish(wanted: Wanted, bundle: Bundle) -> None:
    """The list comes last: a folder without it is no bundle. Its signature comes before it."""
    output = wanted.output
    try:
        text = render_bundle(bundle)
        parse_bundle(text)  # no bundle is made that would be refused
    except ValueError as error:
        raise AgentError(Code.REQUEST_INVALID, f"cannot make this bundle: {error}") from error
    parts = frozenset(part.name for part in bundle.parts)
    prune_files(output / MODEL_FOLDER, frozenset(n.removeprefix("model/") for n in parts))
    for stray in output.glob(f"{IMAGE_STEM}.[0-9]*"):
        if stray.name not in parts:
            stray.unlink()
    sync_tree(output)
    sync_folder(output.parent)
    if wanted.key is not None:
        write_lasting(output / SIGNATURE_NAME, signing.sign(text, wanted.key))
    else:
        (output / SIGNATURE_NAME).unlink(missing_ok=True)
    write_lasting(output / BUNDLE_NAME, text)
    (output / RECORDS_NAME).unlink()
