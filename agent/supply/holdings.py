# SPDX-License-Identifier: MulanPSL-2.0
"""What of ours lies on the disks: in come folders, out what `pruning.choose` decides about.

Only looks. What cannot be looked at is told as a failure, and is not there then: nobody decides
about it.
"""

import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from agent.disks import Keep, KeptModel
from agent.errors import AgentError
from agent.model import is_instance_name
from agent.supplies import STORE
from agent.supply.manifest import read_manifest
from agent.supply.place import BUNDLE, INCOMING
from agent.supply.pruning import EvidenceFile, Staging, StoredRevision

LINKS_LIMIT = 10_000  # beside a model
_EVIDENCE = re.compile(r"(?P<instance>.+)-(?P<at>[0-9]{8}T[0-9]{6}Z)\.txt")  # evidence/files.py


@dataclass(frozen=True, slots=True)
class Size:
    """Of a folder and all that is in it."""

    size_bytes: int  # that its removal would bring
    changed_at: float


def canonical(keep: Keep) -> Keep:
    """Two spellings of one folder are the same model."""
    return replace(
        keep,
        models=tuple(KeptModel(_canonical(one.directory), one.revisions) for one in keep.models),
        fetching=tuple(_canonical(one) for one in keep.fetching),
        without_room=tuple(_canonical(one) for one in keep.without_room),
    )


def _canonical(directory: str) -> str:
    """The folder above it resolved; the model itself is a link that says which revision it is."""
    path = Path(directory)
    return str(Path(os.path.realpath(path.parent)) / path.name)


def canonical_folders(models_dirs: Iterable[str]) -> tuple[Path, ...]:
    """Each once. The root is nobody's folder of models."""
    found = {Path(os.path.realpath(one)) for one in models_dirs if os.path.isabs(one)}
    return tuple(sorted(one for one in found if one != Path("/")))


def find_revisions(models_dir: Path, keep: Keep) -> Iterator[StoredRevision]:
    """Whole ones by their manifest; what has none was not made by us. Raises OSError."""
    store = models_dir / STORE
    linked = set(_resolved(models_dir, keep))
    for model in _folders(store):
        if model.name.startswith("."):
            continue
        for folder in _folders(model):
            if folder.name.startswith(".") or not _has_manifest(folder):
                continue
            size = measure(folder)
            yield StoredRevision(
                directory=str(models_dir / model.name),
                name=folder.name,
                path=str(folder),
                size_bytes=size.size_bytes,
                placed_at=max(folder.stat().st_mtime, folder.stat().st_ctime),
                is_linked=any(one == folder or folder in one.parents for one in linked),
            )


def find_stagings(models_dir: Path) -> Iterator[Staging]:
    """Half models, half bundles, and revisions whose making or removal was cut off. Raises
    OSError."""
    for folder in _folders(models_dir / INCOMING):
        name = folder.name.removeprefix(BUNDLE)
        yield _staging(folder, str(models_dir / name))
    for model in _folders(models_dir / STORE):
        for folder in _folders(model):
            if folder.name.startswith("."):
                yield _staging(folder, str(models_dir / model.name))


def find_evidence(folder: Path) -> Iterator[EvidenceFile]:
    """Raises OSError."""
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            named = _EVIDENCE.fullmatch(entry.name)
            if not named or not entry.is_file(follow_symlinks=False):
                continue
            if is_instance_name(named["instance"]):
                size = entry.stat(follow_symlinks=False).st_size
                yield EvidenceFile(entry.path, named["instance"], size, named["at"])


def suffix_of(path: str) -> str:
    """The end of a path of ours that no other has: ".store/8b/abc", ".incoming/8b"."""
    parts = Path(path).parts
    first = max(at for at, part in enumerate(parts) if part in (STORE, INCOMING))
    return "/".join(parts[first:])


def measure(folder: Path) -> Size:
    """Links are not followed; what has a second name elsewhere brings nothing. Raises OSError."""
    size_bytes, changed_at = 0, 0.0
    for inner, _, names in os.walk(folder, onerror=_raise):
        for path in (inner, *(os.path.join(inner, name) for name in names)):
            with suppress(FileNotFoundError):
                status = os.lstat(path)
                changed_at = max(changed_at, status.st_mtime, status.st_ctime)
                if stat.S_ISDIR(status.st_mode) or status.st_nlink == 1:
                    size_bytes += status.st_blocks * 512
    return Size(size_bytes, changed_at)


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _staging(folder: Path, model: str) -> Staging:
    size = measure(folder)
    return Staging(str(folder), model, size.size_bytes, size.changed_at)


def _resolved(models_dir: Path, keep: Keep) -> Iterator[Path]:
    """Where links beside the models lead, those of people among them, and models of profiles."""
    with suppress(FileNotFoundError), os.scandir(models_dir) as entries:
        for count, entry in enumerate(entries):
            if count >= LINKS_LIMIT:
                raise OSError(f"there are more than {LINKS_LIMIT} entries in {models_dir}")
            if entry.is_symlink():
                yield Path(os.path.realpath(entry.path))
    for model in keep.models:
        yield Path(os.path.realpath(model.directory))


def _folders(folder: Path) -> list[Path]:
    """No links. Raises OSError; a folder that is not there has none."""
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(one.path) for one in entries if one.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return []


def _has_manifest(folder: Path) -> bool:
    try:
        return read_manifest(folder) is not None
    except AgentError:
        return False
