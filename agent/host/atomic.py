# SPDX-License-Identifier: MulanPSL-2.0
"""Writes files that a power cut leaves whole: the old content, or the new one."""

import os
from contextlib import suppress
from pathlib import Path


def unfinished(path: Path) -> Path:
    """Where `path` is written before it takes its place. One name, so that nothing piles up when
    the writer is killed again and again."""
    return path.with_name(f".{path.name}.new")


def remove_unfinished(path: Path) -> None:
    """What a writer that was killed, or a power cut, has left of `path`."""
    with suppress(OSError):
        unfinished(path).unlink()


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """Replaces `path` by a file with `text`; readers see the old or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = unfinished(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(temporary, flags, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """The names in it last over a power cut. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
