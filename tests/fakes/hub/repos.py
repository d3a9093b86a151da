# SPDX-License-Identifier: MulanPSL-2.0
"""Repositories in a folder: FOLDER/OWNER/NAME/... is what main, master and the commit show, and
FOLDER/.commits/COMMIT/OWNER/NAME/... what an earlier commit does."""

import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

BRANCHES = ("main", "master")
COMMITS = ".commits"
LFS_BYTES = 64 * 1024  # the real hubs take 10 MB, or what .gitattributes names
LFS_ENDS = (".safetensors", ".bin")


@dataclass(frozen=True)
class Blob:
    """A file of a repository."""

    path: str
    place: Path
    size: int
    sha256: str
    git_sha1: str

    @property
    def in_lfs(self) -> bool:
        return self.size >= LFS_BYTES or self.path.endswith(LFS_ENDS)


@dataclass(frozen=True)
class Tree:
    """A repository at its one commit."""

    name: str
    commit: str
    blobs: tuple[Blob, ...]

    def find(self, path: str) -> Blob | None:
        return next((blob for blob in self.blobs if blob.path == path), None)

    def has(self, revision: str) -> bool:
        return revision in (*BRANCHES, self.commit)


def read_tree(folder: Path, name: str, revision: str = "") -> Tree | None:
    """The head of `name`, unless `revision` is an earlier commit that is kept."""
    if revision.isalnum() and (folder / COMMITS / revision / name).is_dir():
        folder = folder / COMMITS / revision
    root = (folder / name).resolve()
    if not root.is_dir() or not root.is_relative_to(folder.resolve()) or name.count("/") != 1:
        return None
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    blobs = tuple(_read(path, str(path.relative_to(root))) for path in paths)
    text = "".join(f"{one.path}{one.sha256}" for one in blobs)
    digest = hashlib.sha1(text.encode(), usedforsecurity=False)
    return Tree(name, digest.hexdigest(), blobs)


def read_trees(folder: Path, name: str) -> list[Tree]:
    """The head and earlier commits."""
    kept = folder / COMMITS
    revisions = ["", *os.listdir(kept)] if kept.is_dir() else [""]
    found = (read_tree(folder, name, revision) for revision in revisions)
    return [tree for tree in found if tree is not None]


def _read(place: Path, path: str) -> Blob:
    found = place.stat()
    sha256, git_sha1 = _digests(place, found.st_size, found.st_mtime_ns)
    return Blob(path, place, found.st_size, sha256, git_sha1)


@lru_cache(maxsize=10_000)
def _digests(place: Path, size: int, _changed_at: int) -> tuple[str, str]:
    sha256, git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with place.open("rb") as stream:
        while chunk := stream.read(2**20):
            sha256.update(chunk)
            git.update(chunk)
    return sha256.hexdigest(), git.hexdigest()
