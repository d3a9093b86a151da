# SPDX-License-Identifier: MulanPSL-2.0
"""Other copies of a damaged model, in the import folder: a bundle or folder that it came from.

In: its manifest, and which of its files are wrong. Out: in staging those that a copy has as they
should be, and why a copy was of no use. Of a copy only that is read: what counts is the sha256.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from agent.errors import AgentError, Code, Failure
from agent.host.atomic import sync_folder
from agent.supplies import Manifest, Stage
from agent.supply.bundle.find import find_bundles
from agent.supply.disk import check_room, writing
from agent.supply.folders import PIECE_BYTES, find_model_folders
from agent.supply.hub.listing import RemoteFile
from agent.supply.inside import open_inside
from agent.supply.meter import Count
from agent.supply.model import Errand
from agent.supply.parts import key_of
from agent.supply.verify import is_all_there

Take = Callable[[memoryview], None]
# Of these another copy, or a hub, may do better; all others are about this host.
OF_A_COPY = (
    Code.BUNDLE_DAMAGED,
    Code.CONTENT_DAMAGED,
    Code.MODEL_INVALID,
    Code.SOURCE_UNREACHABLE,
)
_HALF = ".copy"  # no name that a fetch goes on with


@dataclass(frozen=True, slots=True)
class Copy:
    """It has all files of the manifest, as far as names and sizes tell."""

    folder: Path
    read: Callable[[str, Take], None]  # the file of that path; raises AgentError


@dataclass(frozen=True, slots=True)
class Search:
    """`pass_over` is told what was of no use."""

    import_folder: str = ""  # empty: nowhere
    pass_over: Callable[[Failure], None] = lambda failure: None

    def find(self, name: str, manifest: Manifest) -> list[Copy]:
        """`name`: of the model's folder."""
        if not self.import_folder:
            return []
        folder = Path(self.import_folder)
        folders = (one for one in find_model_folders(folder, name) if is_all_there(one, manifest))
        return [
            *self._find_bundles(folder, manifest),
            *(Copy(one, partial(_read_file, one, folder)) for one in folders),
        ]

    def _find_bundles(self, folder: Path, manifest: Manifest) -> Iterator[Copy]:
        for one in find_bundles(folder):
            from agent.supply.bundle.matching import match_bundle

            try:
                read = match_bundle(one, manifest)
            except AgentError as error:
                self.pass_over(error.failure)
            else:
                if read is not None:
                    yield Copy(one, read)

    def stage(
        self, copies: Iterable[Copy], errand: Errand, wrong: Sequence[RemoteFile]
    ) -> list[Path]:
        """The copies that something was taken from. Raises AgentError where this host has no room
        for it, or cannot write."""
        staging, used = errand.home.staging, list[Path]()
        missing = find_missing(staging, wrong)
        needed = sum(one.size for one in missing)
        what = f"mend {errand.home.link}"
        check_room(what, {staging: needed}, errand.keep_free_mib, errand.image.size_bytes)
        for copy in copies:
            if missing:
                count = Count(errand.meter, Stage.FETCHING, str(copy.folder), needed)
                left = self._take_from(copy, missing, staging, count)
                used += [copy.folder] if len(left) < len(missing) else []
                missing = left
        return used

    def _take_from(
        self, copy: Copy, files: Iterable[RemoteFile], staging: Path, count: Count
    ) -> list[RemoteFile]:
        """Those that it could not give."""
        failures: list[tuple[RemoteFile, Failure]] = []
        for file in files:
            try:
                _stage(copy, file, staging, count)
            except AgentError as error:
                with suppress(OSError):
                    (staging / _HALF).unlink(missing_ok=True)
                if error.failure.code not in OF_A_COPY:
                    raise
                failures.append((file, error.failure))
        if failures:
            self.pass_over(failures[0][1])  # the others say the same of other files
        return [file for file, _ in failures]


def find_missing(staging: Path, files: Iterable[RemoteFile]) -> list[RemoteFile]:
    """Each content once."""
    found = {key_of(one): one for one in files if not (staging / key_of(one)).is_file()}
    return list(found.values())


def _stage(copy: Copy, file: RemoteFile, staging: Path, count: Count) -> None:
    """It gets its name there when it has been checked and synced."""
    target, checksum = staging / key_of(file), hashlib.sha256()
    part, what = staging / _HALF, f"write {target}"
    with writing(what), part.open("wb") as stream:

        def take(piece: memoryview) -> None:
            with writing(what):  # it must not look as if the copy could not be read
                stream.write(piece)
            checksum.update(piece)
            count.add(len(piece))

        copy.read(file.path, take)
        if checksum.hexdigest() != file.sha256:
            raise _useless(copy.folder, f"{file.path} is not what its manifest says")
        stream.flush()
        os.fchmod(stream.fileno(), 0o644)
        os.fsync(stream.fileno())
    with writing(what):
        os.rename(part, target)
        sync_folder(staging)


def _read_file(folder: Path, within: Path, path: str, take: Take) -> None:
    buffer = memoryview(bytearray(PIECE_BYTES))
    try:
        with open_inside(folder, path, within) as handle:
            while size := os.readv(handle, (buffer,)):
                take(buffer[:size])
    except OSError as error:  # a bad block, or the disk was pulled out
        raise _useless(folder, f"{path}: {error.strerror}") from error


def _useless(folder: Path, why: str) -> AgentError:
    return AgentError(
        Code.CONTENT_DAMAGED, f"cannot use {folder}: {why}", "copy the model to the disk anew"
    )
