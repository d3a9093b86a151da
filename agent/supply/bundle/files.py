# SPDX-License-Identifier: MulanPSL-2.0
"""Files on a stick that somebody has carried: opened without leaving their folder, written so that
they last on FAT too, past the page cache. Room and refusals are `supply.disk`'s.

In: names, which may be hostile, and bytes. Out: descriptors and files.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from agent.host.atomic import sync_folder, unfinished

CHUNK_BYTES = 1024 * 1024
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without waiting: a pipe of that name would never be opened.
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@contextmanager
def open_below(folder: Path, name: str) -> Iterator[int]:
    """A regular file below `folder`, with no symbolic link on the way. Raises OSError, and
    ValueError for what is no regular file."""
    current = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        *parents, last = name.split("/")
        for parent in parents:
            inner = os.open(parent, _FOLDER_FLAGS, dir_fd=current)
            os.close(current)
            current = inner
        handle = os.open(last, _FILE_FLAGS, dir_fd=current)
    finally:
        os.close(current)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ValueError("it is no regular file")
        yield handle
    finally:
        os.close(handle)


def read_below(folder: Path, name: str, limit_bytes: int) -> bytes:
    """The whole content. Raises OSError, and ValueError for what is too large."""
    with open_below(folder, name) as handle:
        content = bytearray()
        while chunk := os.read(handle, min(CHUNK_BYTES, limit_bytes + 1 - len(content))):
            content += chunk
    if len(content) > limit_bytes:
        raise ValueError(f"it is larger than {limit_bytes} bytes")
    return bytes(content)


def size_below(folder: Path, name: str) -> int | None:
    """None when there is no such file that could be read. Raises OSError for a disk that fails."""
    try:
        with open_below(folder, name) as handle:
            return os.fstat(handle).st_size
    except ValueError:
        return None
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO):
            return None
        raise


def open_for_writing(path: Path) -> int:
    """To be read and written; a symbolic link is refused; what is there already is kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)


def write_all(handle: int, content: memoryview) -> None:
    while content:
        content = content[os.write(handle, content) :]


def write_lasting(path: Path, content: bytes) -> None:
    """Whole or not at all, also over a power cut; `host.atomic`, for a disk that has no modes."""
    temporary = unfinished(path)
    handle = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644
    )
    try:
        write_all(handle, memoryview(content))
        with suppress(PermissionError):  # FAT has one mode for all
            os.fchmod(handle, 0o644)
        os.fsync(handle)
    finally:
        os.close(handle)
    os.replace(temporary, path)
    sync_folder(path.parent)


def sync_tree(folder: Path) -> None:
    """The names of all files below it; their content was synced when it was written."""
    for inner, _, _ in os.walk(folder):
        sync_folder(Path(inner))


def forget_cached(handle: int) -> None:
    """What is read next comes from the disk itself; and a stick does not push out the engine's
    pages. Dirty pages stay, so this follows an fsync."""
    with suppress(OSError):
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)


def prune_files(folder: Path, wanted: frozenset[str]) -> None:
    """Removes each file below `folder` whose relative name is not wanted; empty folders too."""
    for inner, _, files in os.walk(folder, topdown=False):
        for name in files:
            if str((Path(inner) / name).relative_to(folder)) not in wanted:
                (Path(inner) / name).unlink()
        with suppress(OSError):  # not empty
            os.rmdir(inner)
