# SPDX-License-Identifier: MulanPSL-2.0
"""A model that lies in the import folder as it is, on a disk that somebody has mounted there.

In: the import folder. Out: the model in place, a copy that is whole from the moment in which it can
be seen. What a copy that was ended has copied is taken over, after its content has been read again.
"""

import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from agent.errors import AgentError, Code
from agent.host.atomic import sync_folder
from agent.supplies import Manifest, ModelFile, Stage
from agent.supply.checksum import sha256_of
from agent.supply.disk import check_room, only_one, remove_tree, writing
from agent.supply.hub.listing import CONFIG, WEIGHTS
from agent.supply.manifest import model_files, read_manifest
from agent.supply.meter import Count, Meter, Tell
from agent.supply.place import Home, list_revisions, place, switch_to

# A folder that was written to since then is taken for one that is being copied.
SETTLED_S = 10.0
PIECE_BYTES = 2**20


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


def find_model_folder(import_folder: Path, name: str) -> Path | None:
    """IMPORT/NAME, or one level deeper, as on a mounted disk; None when there is no model."""
    try:
        deeper = sorted(one for one in import_folder.iterdir() if one.is_dir())
    except OSError:
        return None
    places = (import_folder / name, *(folder / name for folder in deeper))
    return next((one for one in places if _is_model(one)), None)


def _is_model(folder: Path) -> bool:
    try:
        names = os.listdir(folder)
    except OSError:
        return False
    return CONFIG in names and any(name.endswith(WEIGHTS) for name in names)


def copy_model(folder: Path, directory: str, keep_free_mib: int, tell: Tell) -> Manifest:
    """Raises AgentError; a manifest beside the files is believed, and each file held against it."""
    home, meter = Home(directory), Meter(tell)
    with writing(f"read {folder}"):
        known = read_manifest(folder)
        paths = [one.path for one in known.files] if known else sorted(model_files(folder))
        files = [_look(folder, path) for path in paths]
    if time.time() - max(file.changed_at[0] for file in files) / 1e9 < SETTLED_S:
        raise AgentError(
            Code.SOURCE_UNREACHABLE,
            f"cannot use {folder} yet: it is still being copied",
            "it is looked at again by itself",
        )
    home.prepare()
    with only_one(home.lock, f"bring {home.link}"):
        home.tidy()
        return _Copy(home, folder, files, meter).run(known, keep_free_mib)


def _look(folder: Path, path: str) -> Found:
    status = (folder / path).stat()
    return Found(path, status.st_size, (status.st_mtime_ns, status.st_ctime_ns))


class _Copy:
    """Of one folder."""

    def __init__(self, home: Home, folder: Path, files: list[Found], meter: Meter) -> None:
        self._home, self._folder, self._files = home, folder, files
        self._before = list_revisions(str(home.link))
        total = sum(file.size for file in files)
        self._count = Count(meter, Stage.FETCHING, str(folder), total)

    def run(self, known: Manifest | None, keep_free_mib: int) -> Manifest:
        staging = self._home.staging
        self._forget_others(staging)
        missing = sum(one.size for one in self._files if not (staging / one.key).exists())
        check_room(f"copy {self._folder}", {staging: missing}, keep_free_mib)
        copied = tuple(self._copy(file, staging / file.key) for file in self._files)
        self._hold_against(known, copied)
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

    def _copy(self, file: Found, target: Path) -> ModelFile:
        with writing(f"copy {self._folder / file.path}"):
            if there := self._staged(target):
                return ModelFile(file.path, file.size, there)
            part, checksum = target.with_suffix(".part"), hashlib.sha256()
            with (self._folder / file.path).open("rb") as source, part.open("wb") as copy:
                while piece := source.read(PIECE_BYTES):
                    copy.write(piece)
                    checksum.update(piece)
                    self._count.add(len(piece))
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
