# SPDX-License-Identifier: MulanPSL-2.0
"""A bundle as JSON, and back. Pure.

In: a `Bundle`, or bytes that may be hostile. Out: bytes, or a `Bundle` whose every name, size and
sum fits together. A ValueError says what does not.
"""

import json
import re

from agent.json_text import load_json
from agent.supplies import SCHEMA, Hub, Manifest, ModelFile
from agent.supply.bundle.fields import Fields, as_fields
from agent.supply.bundle.format import (
    ARCHIVE_FORMAT,
    MAX_PART_BYTES,
    Bundle,
    BundledImage,
    BundledModel,
    Content,
    Part,
)
from agent.supply.bundle.names import (
    IMAGE_STEM,
    folder_refusal,
    model_stem,
    part_name,
    path_refusal,
    stem_refusal,
)
from agent.supply.hub.listing import files_trouble

JSON_LIMIT_BYTES = 4 * 1024 * 1024  # some 20 000 parts
# What `podman` would take for an option or several words is none.
_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,511}")
_DIGEST = re.compile(r"(sha256:[0-9a-f]{64})?")
_WORD = re.compile(r"[A-Za-z0-9._-]{0,64}")


def render_bundle(bundle: Bundle) -> bytes:
    """Raises ValueError when it is too long to be read again."""
    rows = [{"name": p.name, "size": p.size, "sha256": p.sha256} for p in bundle.parts]
    content = {
        "schema": bundle.schema,
        "instance": bundle.instance,
        "created": bundle.created,
        "made_by": bundle.made_by,
        "image": None if bundle.image is None else _image_fields(bundle.image),
        "model": None if bundle.model is None else _model_fields(bundle.model),
        "parts": rows,
    }
    text = (json.dumps(content, indent=1, ensure_ascii=True) + "\n").encode()
    if len(text) > JSON_LIMIT_BYTES:
        raise ValueError(f"there are too many parts: {len(rows)}")
    return text


def _image_fields(image: BundledImage) -> dict[str, object]:
    return {
        "reference": image.reference,
        "image_id": image.image_id,
        "digest": image.digest,
        "architecture": image.architecture,
        "product_line": image.product_line,
        "format": ARCHIVE_FORMAT,
        "size": image.archive.size,
        "sha256": image.archive.sha256,
    }


def _model_fields(model: BundledModel) -> dict[str, object]:
    manifest = model.manifest
    return {
        "directory": model.directory,
        "hub": manifest.hub,
        "repo": manifest.repo,
        "revision": manifest.revision,
        "files": [{"path": f.path, "size": f.size, "sha256": f.sha256} for f in manifest.files],
    }


def parse_bundle(text: bytes) -> Bundle:
    fields = as_fields(load_json(text.decode()), "")
    if fields.whole("schema") != SCHEMA:
        raise ValueError(f"its schema is {fields.whole('schema')}, and {SCHEMA} is known")
    cutter = _Cutter(tuple(_part(row) for row in fields.rows("parts")))
    image, model = fields.optional("image"), fields.optional("model")
    if image is None and model is None:
        raise ValueError("there is neither an image nor a model in it")
    bundle = Bundle(
        instance=_folder(fields, "instance"),
        created=fields.text("created"),
        made_by=fields.text("made_by"),
        image=None if image is None else _image(image, cutter),
        model=None if model is None else _model(model, cutter),
    )
    cutter.finish()
    return bundle


def _part(row: Fields) -> Part:
    size = row.whole("size")
    if size > MAX_PART_BYTES:
        raise ValueError(f"{row.where}size is larger than a part may be")
    return Part(row.text("name"), size, row.sha256("sha256"))


class _Cutter:
    """Gives each content its parts: they stand in the order of the contents, by computed names."""

    def __init__(self, parts: tuple[Part, ...]) -> None:
        self._parts = parts
        self._next = 0

    def take(self, path: str, stem: str, size: int, sha256: str) -> Content:
        start = self._next
        while self._next < len(self._parts) and (
            self._parts[self._next].name == part_name(stem, self._next - start)
        ):
            self._next += 1
        parts = self._parts[start : self._next]
        if not parts or sum(part.size for part in parts) != size:
            raise ValueError(f"the parts of {stem} are not {size} bytes")
        if len(parts) == 1 and parts[0].sha256 != sha256:
            raise ValueError(f"{stem} has two checksums")
        return Content(path, size, sha256, parts)

    def finish(self) -> None:
        if self._next != len(self._parts):
            raise ValueError(f"parts[{self._next}] belongs to nothing")


def _image(fields: Fields, cutter: _Cutter) -> BundledImage:
    if fields.text("format") != ARCHIVE_FORMAT:
        raise ValueError(f"{fields.where}format is not {ARCHIVE_FORMAT}")
    size, sha256 = fields.whole("size"), fields.sha256("sha256")
    return BundledImage(
        reference=_matching(fields, "reference", _REFERENCE),
        image_id=fields.sha256("image_id"),
        digest=_matching(fields, "digest", _DIGEST),
        architecture=_matching(fields, "architecture", _WORD),
        product_line=_matching(fields, "product_line", _WORD),
        archive=cutter.take(IMAGE_STEM, IMAGE_STEM, size, sha256),
    )


def _matching(fields: Fields, key: str, pattern: re.Pattern[str]) -> str:
    value = fields.text(key)
    if not pattern.fullmatch(value):
        raise ValueError(f"{fields.where}{key} is not what it should be: {value!r}")
    return value


def _folder(fields: Fields, key: str) -> str:
    value = fields.text(key)
    if (refusal := folder_refusal(value)) is not None:
        raise ValueError(f"{fields.where}{key} cannot be used: {refusal}")
    return value


def _model(fields: Fields, cutter: _Cutter) -> BundledModel:
    directory = _folder(fields, "directory")
    hub = fields.text("hub")
    if hub and hub not in tuple(Hub):
        raise ValueError(f"{fields.where}hub is unknown: {hub!r}")
    files = tuple(_file(row) for row in fields.rows("files"))
    refusal = files_refusal(files)
    if refusal is not None:
        raise ValueError(f"{fields.where}files cannot be used: {refusal}")
    contents = tuple(cutter.take(f.path, model_stem(f.path), f.size, f.sha256) for f in files)
    manifest = Manifest(hub, fields.text("repo"), fields.text("revision"), files)
    return BundledModel(directory, manifest, contents)


def _file(row: Fields) -> ModelFile:
    return ModelFile(row.text("path"), row.whole("size"), row.sha256("sha256"))


def files_refusal(files: tuple[ModelFile, ...]) -> str | None:
    """Why a bundle cannot hold these files; None when it can."""
    if not files:
        return "there are none"
    paths = [file.path for file in files]
    for path in paths:
        if (refusal := path_refusal(path)) is not None:
            return f"{path!r}: {refusal}"
    trouble = files_trouble((file.path, file.size) for file in files)
    return trouble or stem_refusal(model_stem(path) for path in paths)
