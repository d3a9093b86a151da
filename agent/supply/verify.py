# SPDX-License-Identifier: MulanPSL-2.0
"""A model on the disk against its manifest: in a folder, out what is wrong with which file."""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from agent.supplies import Manifest, ModelFile
from agent.supply.checksum import sha256_of


class Wrong(StrEnum):
    """What is the matter with a file."""

    MISSING = "missing"
    SIZE = "size"
    DAMAGED = "damaged"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that is not as it was."""

    path: str
    wrong: Wrong
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.detail or self.wrong}"


def find_problems(
    folder: Path, manifest: Manifest, watch: Callable[[int], None] | None = None
) -> list[Problem]:
    """Every file is read to its end. `watch` is told how many bytes more were read."""
    found: list[Problem] = []
    for file in manifest.files:
        problem = look_at(folder, file) or _read(folder, file, watch)
        if problem is not None:
            found.append(problem)
    return found


def look_at(folder: Path, file: ModelFile) -> Problem | None:
    """What can be seen without reading the content."""
    try:
        found = os.stat(folder / file.path)
    except (FileNotFoundError, NotADirectoryError):
        return Problem(file.path, Wrong.MISSING)
    except OSError as error:
        return Problem(file.path, Wrong.UNREADABLE, str(error.strerror))
    if not stat.S_ISREG(found.st_mode):
        return Problem(file.path, Wrong.UNREADABLE, "it is no regular file")
    if found.st_size != file.size:
        return Problem(file.path, Wrong.SIZE, f"{found.st_size} bytes, not {file.size}")
    return None


def is_all_there(folder: Path, manifest: Manifest) -> bool:
    """A quick look: names and sizes."""
    return all(look_at(folder, file) is None for file in manifest.files)


def _read(folder: Path, file: ModelFile, watch: Callable[[int], None] | None) -> Problem | None:
    try:
        if sha256_of(folder / file.path, watch) == file.sha256:
            return None
    except OSError as error:  # a bad block, for one
        return Problem(file.path, Wrong.UNREADABLE, str(error.strerror or error))
    return Problem(file.path, Wrong.DAMAGED, "its content is not what it was")
