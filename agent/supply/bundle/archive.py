# SPDX-License-Identifier: MulanPSL-2.0
"""Looks into an image's archive before Podman does.

In: a docker-archive whose bytes are those of the bundle. Out: nothing, or ValueError when loading
it would bring other images, or give other images' names away.

Podman loads every image that an archive names and gives it every name that stands there; an image's
id is the sha256 of its configuration (containers/image, docker/internal/tarfile).
"""

import hashlib
import tarfile
from pathlib import Path

from agent.json_text import load_json
from agent.supply.bundle.fields import as_fields
from agent.supply.bundle.format import BundledImage

MANIFEST_LIMIT_BYTES = 1024 * 1024
MAX_MEMBERS = 2048  # an image has at most 128 layers, each with a few entries


def require_archive_of(path: Path, image: BundledImage) -> None:
    try:
        with tarfile.open(path, "r:") as archive:
            _check(archive, image)
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"it is no archive of an image: {error}") from error


def _check(archive: tarfile.TarFile, image: BundledImage) -> None:
    members = _members(archive)
    rows = load_json(_content(archive, members, "manifest.json"))
    if not isinstance(rows, list) or len(rows) != 1:
        raise ValueError("it does not hold one image")
    fields = as_fields(rows[0], "manifest.json")
    tags = fields.values.get("RepoTags") or []
    if not isinstance(tags, list) or any(tag != image.reference for tag in tags):
        raise ValueError(f"it names its image otherwise than {image.reference}")
    config = _content(archive, members, fields.text("Config"))
    if hashlib.sha256(config).hexdigest() != image.image_id:
        raise ValueError(f"the image in it is not {image.image_id[:12]}")


def _members(archive: tarfile.TarFile) -> dict[str, tarfile.TarInfo]:
    members: dict[str, tarfile.TarInfo] = {}
    count = 0
    while (member := archive.next()) is not None:
        count += 1
        if count > MAX_MEMBERS:
            raise ValueError(f"it has more than {MAX_MEMBERS} entries")
        if member.name in members:
            raise ValueError(f"{member.name} is in it twice")
        members[member.name] = member
    return members


def _content(archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo], name: str) -> bytes:
    member = members.get(name)
    if member is None or not member.isreg() or member.size > MANIFEST_LIMIT_BYTES:
        raise ValueError(f"{name} is not in it as a small file")
    stream = archive.extractfile(member)
    if stream is None:
        raise ValueError(f"{name} cannot be read")
    with stream:
        return stream.read(MANIFEST_LIMIT_BYTES)
