# SPDX-License-Identifier: MulanPSL-2.0
"""The manifest beside a model: read (it may have been damaged as well), written, made anew."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

from agent.errors import AgentError, Code
from agent.host.atomic import write_atomically
from agent.host.reading import read_regular
from agent.json_text import load_json
from agent.supplies import MANIFEST_NAME, SCHEMA, Manifest, ModelFile
from agent.supply.checksum import sha256_of
from agent.supply.disk import writing
from agent.supply.hub.listing import (
    SHA256,
    checksum,
    field,
    files_trouble,
    size_field,
    text_field,
)

LIMIT_BYTES = 16 * 2**20
DEPTH_LIMIT = 16


def read_manifest(folder: Path) -> Manifest | None:
    """None when there is none. Raises AgentError (MODEL_INVALID) for one that cannot be used."""
    path = folder / MANIFEST_NAME
    try:
        return parse_manifest(read_regular(path, LIMIT_BYTES))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise AgentError(
            Code.MODEL_INVALID,
            f"cannot use {path}: {error}",
            "remove this file when you know the model to be right; it is made anew",
        ) from error


def parse_manifest(content: bytes) -> Manifest:
    """Raises ValueError."""
    value = load_json(content)
    if field(value, "schema") != SCHEMA:
        raise ValueError(f"it is not of schema {SCHEMA}")
    entries = field(value, "files")
    if not isinstance(entries, list):
        raise ValueError("there are no files in it")
    files = tuple(
        ModelFile(
            path=text_field(entry, "path"),
            size=size_field(entry, "size"),
            sha256=checksum(text_field(entry, "sha256"), SHA256),
        )
        for entry in entries
    )
    if not all(file.sha256 for file in files):
        raise ValueError("a file has no sha256")
    if trouble := files_trouble((file.path, file.size) for file in files):
        raise ValueError(trouble)
    hub, repo = text_field(value, "hub"), text_field(value, "repo")
    return sort_files(Manifest(hub, repo, text_field(value, "revision"), files))


def sort_files(manifest: Manifest) -> Manifest:
    """As every manifest has them: two of the same model are equal."""
    return replace(manifest, files=tuple(sorted(manifest.files, key=lambda file: file.path)))


def write_manifest(folder: Path, manifest: Manifest) -> None:
    with writing(f"write {folder / MANIFEST_NAME}"):
        write_atomically(folder / MANIFEST_NAME, json.dumps(asdict(manifest), indent=1) + "\n")


def digest_of(manifest: Manifest) -> str:
    """Names a revision where the hub tells no commit: 40 digits, as a commit has."""
    lines = "".join(f"{file.sha256} {file.path}\n" for file in manifest.files)
    return hashlib.sha256(lines.encode(errors="replace")).hexdigest()[:40]


def make_manifest(folder: Path, watch: Callable[[int], None] | None = None) -> Manifest:
    """Of a model that was copied from elsewhere: what is there now counts as right. `watch` is told
    how many bytes more were read. Raises AgentError."""
    with writing(f"read {folder}"):
        paths = sorted(model_files(folder))
        files = tuple(
            ModelFile(path, (folder / path).stat().st_size, sha256_of(folder / path, watch))
            for path in paths
        )
    return Manifest(hub="", repo="", revision="", files=files)


def model_files(folder: Path, prefix: str = "", depth: int = DEPTH_LIMIT) -> Iterator[str]:
    """Files, and links to files; hidden ones (.git, .cache, our own) are no part of a model."""
    with os.scandir(folder / prefix) as entries:
        for entry in entries:
            path = f"{prefix}{entry.name}"
            if entry.name.startswith(".") or path == MANIFEST_NAME:
                continue
            if entry.is_dir(follow_symlinks=False):
                if depth > 0:
                    yield from model_files(folder, f"{path}/", depth - 1)
            elif entry.is_file():
                yield path
