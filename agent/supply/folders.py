# SPDX-License-Identifier: MulanPSL-2.0
"""A model that lies in the import folder as it is, on a disk that somebody has mounted there.

In: the import folder. Out: the model in place, a copy that is whole from the moment in which it can
be seen; nothing of one that lacks something, or that somebody is still bringing (`whole`,
`settling`). What a copy that was ended has copied is taken over, after its content has been read
again.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.errors import AgentError, Code
from agent.host.atomic import sync_folder
from agent.supplies import MANIFEST_NAME, Manifest, ModelFile, Stage
from agent.supply.checksum import sha256_of
from agent.supply.disk import only_one, remove_tree, writing
from agent.supply.hub.listing import CONFIG
from agent.supply.inside import open_inside, require_inside
from agent.supply.manifest import model_files, read_manifest
from agent.supply.meter import Count, Meter, Tell
from agent.supply.place import Home, list_revisions, place, switch_to
from agent.supply.room import Room, claim_room
from agent.supply.settling import find_unfinished, is_being_copied
from agent.supply.verify import look_at
from agent.supply.whole import find_lacking, is_weights, name_some

# A folder in which something has changed since then is taken for one that is being copied.
SETTLED_S = 60.0
PIECE_BYTES = 2**20
SERVED = (".safetensors", ".bin")  # as host/machine.py looks for weights


@dataclass(frozen=True, slots=True)
class Found:
    """A file of it."""

    path: str
    size: int
    # Nanoseconds: of its content, as told, and of anything about it, which copies cannot set back.
    changed_at: tuple[int, int]

    @property
    def key(self) -> str:
        """Another one when the file has changed: a copy of it is found by this name."""
        text = f"{self.path}\0{self.size}\0{self.changed_at}"
        return f"copy-{hashlib.sha256(text.encode(errors='surrogateescape')).hexdigest()}"


def find_model_folders(import_folder: Path, name: str) -> tuple[Path, ...]:
    """IMPORT/NAME, and one level deeper, as on a mounted disk: those that look like a model."""
    try:
        inner = sorted(one for one in import_folder.iterdir() if not one.name.startswith("."))
    except OSError:
        return ()
    places = (import_folder / name, *(folder / name for folder in inner))
    return tuple(one for one in places if _is_model(one))


def _is_model(folder: Path) -> bool:
    try:
        names = os.listdir(folder)
    except OSError:
        return False
    return CONFIG in names and any(is_weights(name) and name.endswith(SERVED) for name in names)


def copy_model(
    folder: Path,
    directory: str,
    keep_free_mib: int,
    tell: Tell,
    *,
    within: Path,
    settled_s: float = SETTLED_S,
) -> Manifest:
    """Raises AgentError; a manifest beside the files is believed, and each file held against it.
    No link is followed out of `within`."""
    home, meter = Home(directory), Meter(tell)
    with writing(f"read {folder}"):
        require_inside(folder, within, _names(folder))
        if is_being_copied(folder, settled_s):
            raise _not_yet(f"cannot use {folder} yet: it is still being copied")
        known = read_manifest(folder)
        require_inside(folder, within, (one.path for one in known.files) if known else ())
        if lacking := _find_lacking(folder, known):
            raise _not_yet(f"cannot use {folder} yet: {name_some(lacking)}")
        files = _look(folder, known)
    home.require_ours()
    home.prepare()
    with only_one(home.lock, f"bring {home.link}"):
        home.tidy()
        return _Copy(home, folder, within, files, meter).run(known, keep_free_mib)


def _names(folder: Path) -> Iterator[str]:
    """Of all that may be read."""
    yield MANIFEST_NAME
    yield from model_files(folder)


def _not_yet(message: str) -> AgentError:
    return AgentError(Code.SOURCE_UNREACHABLE, message, "it is looked at again by itself")


def _find_lacking(folder: Path, known: Manifest | None) -> list[str]:
    if known is None:
        return find_lacking(folder) + find_unfinished(folder)
    return [str(wrong) for file in known.files if (wrong := look_at(folder, file))]


def _look(folder: Path, known: Manifest | None) -> list[Found]:
    paths = [one.path for one in known.files] if known else sorted(model_files(folder))
    return [_look_at(folder, path) for path in paths]


def _look_at(folder: Path, path: str) -> Found:
    status = (folder / path).stat()
    return Found(path, status.st_size, (status.st_mtime_ns, status.st_ctime_ns))


class _Copy:
    """Of one folder."""

    def __init__(
        self, home: Home, folder: Path, within: Path, files: list[Found], meter: Meter
    ) -> None:
        self._home, self._folder, self._within, self._files = home, folder, within, files
        self._before = list_revisions(str(home.link))
        total = sum(file.size for file in files)
        self._count = Count(meter, Stage.FETCHING, str(folder), total)

    def run(self, known: Manifest | None, keep_free_mib: int) -> Manifest:
        staging = self._home.staging
        self._forget_others(staging)
        missing = sum(one.size for one in self._files if not (staging / one.key).exists())
        with claim_room(f"copy {self._folder}", staging, missing, keep_free_mib) as room:
            copied = tuple(self._copy(file, staging / file.key, room) for file in self._files)
        self._hold_against(known, copied)
        with writing(f"read {self._folder}"):
            if _look(self._folder, known) != self._files:
                raise _not_yet(f"cannot use {self._folder}: it has changed while it was copied")
        manifest = known or Manifest("", "", "", copied)
        contents = [(file.path, staging / file.key) for file in self._files]
        switch_to(self._home, place(self._home, manifest, contents, self._before))
        with writing(f"remove {staging}"):
            remove_tree(staging)
        return manifest

    def _forget_others(self, staging: Path) -> None:
        keys = {file.key for file in self._files}
        with writing(f"write below {staging}"):
            for left in staging.iterdir():
                if left.name not in keys:
                    remove_tree(left)

    def _copy(self, file: Found, target: Path, room: Room) -> ModelFile:
        with writing(f"copy {self._folder / file.path}"):
            if there := self._staged(target):
                return ModelFile(file.path, file.size, there)
            part, checksum = target.with_suffix(".part"), hashlib.sha256()
            source = open_inside(self._folder, file.path, self._within)
            with source as handle, part.open("wb") as copy:
                while piece := os.read(handle, PIECE_BYTES):
                    copy.write(piece)
                    checksum.update(piece)
                    self._count.add(len(piece))
                    room.wrote(len(piece))
                copy.flush()
                os.fchmod(copy.fileno(), 0o644)
                os.fsync(copy.fileno())
            os.rename(part, target)
            sync_folder(target.parent)
        return ModelFile(file.path, file.size, checksum.hexdigest())

    def _staged(self, target: Path) -> str:
        """Its checksum; empty when it is not there, or cannot be read: then it is copied anew."""
        try:
            return sha256_of(target, self._count.add)
        except OSError:
            return ""

    def _hold_against(self, known: Manifest | None, copied: tuple[ModelFile, ...]) -> None:
        """What is wrong does not stay: the next try reads it anew, whoever was at fault."""
        if known is None:
            return
        told = zip(self._files, copied, known.files, strict=True)
        wrong = [file for file, one, right in told if one != right]
        if not wrong:
            return
        with writing(f"write below {self._home.staging}"):
            for file in wrong:
                (self._home.staging / file.key).unlink(missing_ok=True)
        raise AgentError(
            Code.CONTENT_DAMAGED,
            f"cannot use {self._folder}: {', '.join(one.path for one in wrong[:5])} is not what "
            "its manifest says",
            "copy the model to the disk anew",
        )
