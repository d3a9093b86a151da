# SPDX-License-Identifier: MulanPSL-2.0
"""The import folder, looked through for an image: in come a folder and a reference, out the archive
that holds it.

An archive is read to its end once in a boot, not with each try: what was found in it is noted,
until the file changes.
"""

import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from agent.decoding import decode_json
from agent.host.atomic import write_atomically
from agent.host.reading import read_regular
from agent.references import parse_reference
from agent.supply.archives import ENTRIES_LIMIT, ArchiveImage, read_archive
from agent.supply.settling import is_any_recent
from agent.supply.tars import SUFFIXES, NotNow, NotWhole

SETTLED_S = 10.0  # a file that was written to since then is taken for one that is being copied
NOTES = Path("/run/deepseek-agent/supply/archives.json")
NOTES_LIMIT = 100
NOTE_LIMIT_BYTES = 32 * 1024


@dataclass(frozen=True, slots=True)
class Search:
    """What was found in the import folder."""

    image: ArchiveImage | None
    unusable: tuple[str, ...] = ()  # "NAME: why"
    is_settling: bool = False  # something is being copied into it


@dataclass(frozen=True, slots=True)
class Note:
    """What one file was found to be."""

    file: tuple[int, ...]  # device, inode, size, changed at, inode changed at (ns)
    images: tuple[ArchiveImage, ...] = ()
    why_not: str = ""  # it is not whole


def find_archive(
    folder: Path,
    reference: str,
    now: Callable[[], float] = time.time,
    notes: Path = NOTES,
) -> Search:
    """The first archive by name that holds that image, whole. Raises nothing."""
    wanted = str(parse_reference(reference))
    unusable: list[str] = []
    settling = False
    for path in _candidates(folder):
        try:
            if is_any_recent(_times(path), SETTLED_S, now()):
                settling = True
                unusable.append(f"{path.name}: it is still being copied")
                continue
            found = next((one for one in _read_once(path, notes) if wanted in one.names), None)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            unusable.append(f"{path.name}: {why}")
            continue
        if found:
            return Search(found, tuple(unusable), settling)
    return Search(None, tuple(unusable), settling)


def _candidates(folder: Path) -> list[Path]:
    try:
        names = sorted(os.listdir(folder))[:ENTRIES_LIMIT]
    except OSError:
        return []
    return [folder / name for name in names if _is_candidate(folder / name)]


def _is_candidate(path: Path) -> bool:
    """Links are not followed."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return False
    if stat.S_ISDIR(mode):
        return (path / "oci-layout").is_file()
    return stat.S_ISREG(mode) and path.name.endswith(SUFFIXES)


def _times(path: Path) -> list[float]:
    """Of a folder also its index, which is written last, and its folder of blobs."""
    places = (path, path / "index.json", path / "blobs/sha256") if path.is_dir() else (path,)
    return [os.lstat(one).st_mtime for one in places if one.exists()]


# --- once ----------------------------------------------------------------------------------------


def _read_once(path: Path, notes: Path) -> tuple[ArchiveImage, ...]:
    """Raises NotWhole, and OSError."""
    status = os.lstat(path)
    if stat.S_ISDIR(status.st_mode):
        return read_archive(path)
    times = (status.st_mtime_ns, status.st_ctime_ns)
    file = (status.st_dev, status.st_ino, status.st_size, *times)
    known = _read_notes(notes)
    note = next((one for one in known if one.file == file), None)
    if note is None:
        note = _read(path, file)
        _write_notes(notes, [*known, note])
    if note.why_not:
        raise NotWhole(note.why_not)
    return tuple(replace(one, path=str(path)) for one in note.images)


def _read(path: Path, file: tuple[int, ...]) -> Note:
    """Raises NotNow, and OSError."""
    try:
        return Note(file, read_archive(path))
    except NotNow:
        raise
    except ValueError as error:
        return Note(file, why_not=str(error))


def _read_notes(notes: Path) -> tuple[Note, ...]:
    """What is damaged, or of another version, was never noted."""
    with suppress(OSError, ValueError):
        return decode_json(read_regular(notes), tuple[Note, ...])
    return ()


def _write_notes(notes: Path, known: list[Note]) -> None:
    """Who cannot write it (a person, with deepseekctl) reads again the next time. A text that is
    none in UTF-8 is a ValueError."""
    if not notes.parent.is_dir():  # tmpfiles.d makes it
        return
    with suppress(OSError, ValueError):
        kept = [one for one in known if len(msgspec.json.encode(one)) <= NOTE_LIMIT_BYTES]
        write_atomically(notes, msgspec.json.encode(kept[-NOTES_LIMIT:]).decode(), mode=0o600)
