# SPDX-License-Identifier: MulanPSL-2.0
"""Images in an archive: in comes a path, out the images that it holds.

Archives as `podman save`, `docker save` and skopeo write them, and OCI layouts. They are somebody's
files: only looked at, never changed or removed, and hostile until they have been seen to be whole.
"""

import itertools
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from agent.host.reading import read_regular
from agent.json_text import load_json
from agent.references import parse_reference
from agent.supply.tars import DOCUMENT_LIMIT_BYTES, NotNow, NotWhole, read_tar

ENTRIES_LIMIT = 1000
IMAGES_LIMIT = 100
LAYERS_LIMIT = 1000
NAME_KEYS = ("org.opencontainers.image.ref.name", "io.containerd.image.name")
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


class Kind(StrEnum):
    """What Podman calls them (containers-transports(5))."""

    DOCKER_ARCHIVE = "docker-archive"
    OCI_ARCHIVE = "oci-archive"
    OCI_LAYOUT = "oci"


@dataclass(frozen=True, slots=True)
class ArchiveImage:
    """One image in an archive."""

    path: str
    kind: Kind
    selector: str  # which one it is, in Podman's words; empty: there is one
    names: tuple[str, ...]  # references, complete
    size: int  # bytes of all files in the archive
    is_packed: bool  # the archive as a whole is compressed


def read_archive(path: Path) -> tuple[ArchiveImage, ...]:
    """The images in it. Raises NotWhole, and OSError."""
    before = os.lstat(path)
    if stat.S_ISDIR(before.st_mode):
        folder = _Folder(path)
        return tuple(_Held(path, Kind.OCI_LAYOUT, folder, folder.total(), False).oci())
    contents = read_tar(path)
    after = os.lstat(path)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise NotNow("it is still being copied")
    files = _Members(contents.sizes, contents.documents)
    size = sum(contents.sizes.values())
    if "manifest.json" in contents.sizes:
        return tuple(_Held(path, Kind.DOCKER_ARCHIVE, files, size, contents.is_packed).docker())
    return tuple(_Held(path, Kind.OCI_ARCHIVE, files, size, contents.is_packed).oci())


# --- what is in it -------------------------------------------------------------------------------


class _Members:
    """Files of a tar archive."""

    def __init__(self, sizes: Mapping[str, int], documents: Mapping[str, bytes]) -> None:
        self._sizes, self._documents = sizes, documents

    def size(self, name: str) -> int | None:
        return self._sizes.get(name)

    def document(self, name: str) -> object:
        """Raises NotWhole, and ValueError for what is no JSON."""
        if name not in self._documents:
            raise NotWhole(f"{name} is missing, or too large")
        return load_json(self._documents[name])


class _Folder:
    """Files of an OCI layout. Names come from digests and from us, never from its content."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def size(self, name: str) -> int | None:
        try:
            status = os.lstat(self._path / name)
        except OSError:
            return None
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def total(self) -> int:
        with os.scandir(self._path / "blobs/sha256") as blobs:
            files = (one for one in blobs if one.is_file(follow_symlinks=False))
            return sum(one.stat().st_size for one in itertools.islice(files, ENTRIES_LIMIT * 10))

    def document(self, name: str) -> object:
        if self.size(name) is None:
            raise NotWhole(f"{name} is missing")
        return load_json(read_regular(self._path / name, DOCUMENT_LIMIT_BYTES))


@dataclass(frozen=True, slots=True)
class _Held:
    path: Path
    kind: Kind
    files: _Members | _Folder
    size: int
    is_packed: bool

    def docker(self) -> Iterator[ArchiveImage]:
        """manifest.json of the Docker Image Specification v1.2."""
        for index, entry in enumerate(_list(self.files.document("manifest.json"), IMAGES_LIMIT)):
            image = _object(entry)
            parts = (image.get("Config"), *_list(image.get("Layers"), LAYERS_LIMIT))
            for part in parts:
                if not isinstance(part, str) or self.files.size(part) is None:
                    raise NotWhole(f"{part} is missing")
            names = _list(image.get("RepoTags") or [], IMAGES_LIMIT)
            yield self._image(f"@{index}", _complete(names))

    def oci(self) -> Iterator[ArchiveImage]:
        """index.json of the OCI image layout, version 1.0.0."""
        index = _object(self.files.document("index.json"))
        entries = _list(index.get("manifests"), IMAGES_LIMIT)
        for entry in entries:
            descriptor = _object(entry)
            self._check_manifest(descriptor)
            annotations = _object(descriptor.get("annotations") or {})
            selector = annotations.get(NAME_KEYS[0], "")
            if len(entries) > 1 and not selector:
                continue  # Podman could not be told which one
            names = _complete([annotations.get(key) for key in NAME_KEYS])
            yield self._image(str(selector), names)

    def _image(self, selector: str, names: tuple[str, ...]) -> ArchiveImage:
        path = str(self.path)
        return ArchiveImage(path, self.kind, selector, names, self.size, self.is_packed)

    def _check_manifest(self, descriptor: Mapping[str, object], depth: int = 0) -> None:
        name = self._check_blob(descriptor)
        manifest = _object(self.files.document(name))
        if "manifests" in manifest and depth == 0:  # of several architectures, not all may be there
            inner = [_object(one) for one in _list(manifest["manifests"], IMAGES_LIMIT)]
            there = [one for one in inner if self.files.size(_blob(one)) is not None]
            if not there:
                raise NotWhole(f"what {name} names is missing")
            for one in there:
                self._check_manifest(one, depth + 1)
            return
        for part in (manifest.get("config"), *_list(manifest.get("layers"), LAYERS_LIMIT)):
            self._check_blob(_object(part))

    def _check_blob(self, descriptor: Mapping[str, object]) -> str:
        name = _blob(descriptor)
        if self.files.size(name) != descriptor.get("size"):
            raise NotWhole(f"{name} is missing, or not as long as it should be")
        return name


def _blob(descriptor: Mapping[str, object]) -> str:
    found = _DIGEST.fullmatch(str(descriptor.get("digest")))
    if found is None:
        raise NotWhole("it names a blob by no sha256")
    return f"blobs/sha256/{found[1]}"


def _complete(names: list[object]) -> tuple[str, ...]:
    """What is no reference, such as a tag alone, names nothing."""
    texts = [name for name in names if isinstance(name, str) and ("/" in name or ":" in name)]
    return tuple(str(parsed) for name in texts if (parsed := parse_reference(name)))


def _object(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise NotWhole("its index is not what it should be")
    return value


def _list(value: object, limit: int) -> list[object]:
    if not isinstance(value, list) or len(value) > limit:
        raise NotWhole("its index is not what it should be")
    return value
