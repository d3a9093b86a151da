# SPDX-License-Identifier: MulanPSL-2.0
"""What of a listing is there already: in staging, or in a revision that lies in the store."""

import os
import resource
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from agent.host.atomic import sync_folder
from agent.supply.checksum import sha256_of
from agent.supply.disk import remove_tree, writing
from agent.supply.hub.listing import RemoteFile
from agent.supply.parts import KEYS, MAP, PART, Part, key_of
from agent.supply.place import Revision

SPARE_FILES = 256  # connections, libraries
OTHERS_LAST_S = 86_400.0


def tidy_staging(staging: Path, files: Iterable[RemoteFile]) -> list[Path]:
    """What is wanted stays; without a checksum nothing tells what it is. So does, for a day, what
    another source has begun, whose content is another one: it may go on when this one breaks off.
    That is told: it has to make way."""
    keys = {key_of(file) for file in files if file.sha256 or file.git_sha1}
    others = []
    with writing(f"write below {staging}"):
        for entry in staging.iterdir():
            key = entry.name.removesuffix(PART).removesuffix(MAP)
            if key in keys:
                continue
            if key.startswith(KEYS) and entry.is_file():
                others.append(entry)
            else:
                remove_tree(entry)
        if all(time.time() - entry.stat().st_mtime > OTHERS_LAST_S for entry in others):
            for entry in others:
                entry.unlink()
            return []
    return others


def take_over(
    staging: Path,
    files: Iterable[RemoteFile],
    revisions: Iterable[Revision],
    watch: Callable[[int], None],
) -> None:
    """Files that a revision in the store has as well get a second name, if they are still whole."""
    known = {
        one.sha256: (revision.folder / one.path, one.size)
        for revision in revisions
        for one in revision.manifest.files
    }
    for file in files:
        path, size = known.get(file.sha256, (None, -1))
        target = staging / key_of(file)
        if path is None or size != file.size or target.exists():
            continue
        with suppress(OSError):  # then it is fetched
            if sha256_of(path, watch) == file.sha256:
                os.link(path, target)
    with writing(f"write below {staging}"):
        sync_folder(staging)


@contextmanager
def open_parts(
    staging: Path, files: Iterable[RemoteFile]
) -> Iterator[list[tuple[RemoteFile, Part]]]:
    """Those that are not whole yet, each content once."""
    missing = {key_of(file): file for file in files if not (staging / key_of(file)).is_file()}
    _allow_open_files(len(missing))
    parts = [(file, Part(staging, key, file.size)) for key, file in missing.items()]
    try:
        with writing(f"write below {staging}"):
            for _, part in parts:
                part.open()
        yield parts
    finally:
        for _, part in parts:
            part.close()


def _allow_open_files(count: int) -> None:
    """systemd's soft limit is 1024; the hard one is far above."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count + SPARE_FILES:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(count + SPARE_FILES, hard), hard))
