# SPDX-License-Identifier: MulanPSL-2.0
"""Puts the parts of a file together again, checked while they are copied.

In: an opened bundle, the parts on record. Out: a file that is synced and is what its checksum says.
What a kill or a power cut has left is read again, from our disk and not from the stick.
"""

import hashlib
import os
from pathlib import Path

from agent.errors import AgentError
from agent.host.atomic import sync_folder
from agent.supply.bundle.files import forget_cached, open_for_writing, write_all
from agent.supply.bundle.format import Content, Part
from agent.supply.bundle.opened import read_named_part, read_part, require_sum
from agent.supply.bundle.records import Records
from agent.supply.disk import writing
from agent.supply.meter import Count


def is_copied(content: Content, target: Path, records: Records) -> bool:
    """All of it is on record, and the file has its length."""
    return _known(content, target, records) == content.parts


def copy_content(
    folder: Path, content: Content, target: Path, records: Records, count: Count
) -> None:
    if is_copied(content, target, records):
        count.skip(content.size)
        return
    with writing(f"write {target}"):
        handle = open_for_writing(target)
        try:
            os.fchmod(handle, 0o644)  # whatever our umask is
            _Joiner(folder, content, handle, records, count).join(_known(content, target, records))
            forget_cached(handle)
        finally:
            os.close(handle)
        sync_folder(target.parent)


def _known(content: Content, target: Path, records: Records) -> tuple[Part, ...]:
    """The first parts, as far as records and the length of the file agree about them."""
    try:
        length = os.lstat(target).st_size
    except OSError:
        return ()
    end = 0
    for index, part in enumerate(content.parts):
        end += part.size
        if records.find(part.name) != part or end > length:
            return content.parts[:index]
    return content.parts if end == length else ()


class _Joiner:
    """One file, while it grows."""

    def __init__(
        self, folder: Path, content: Content, handle: int, records: Records, count: Count
    ) -> None:
        self._folder, self._content, self._handle = folder, content, handle
        self._records, self._count = records, count
        self._whole = hashlib.sha256()

    def join(self, known: tuple[Part, ...]) -> None:
        kept = self._read_kept(known)
        for part in self._content.parts[kept:]:
            self._records.forget(part.name)
        end = sum(part.size for part in self._content.parts[:kept])
        os.ftruncate(self._handle, end)
        os.lseek(self._handle, end, os.SEEK_SET)
        for part in self._content.parts[kept:]:
            read_named_part(self._folder, part, self._take)
            os.fsync(self._handle)
            self._records.add(part)
        try:
            require_sum(self._content, self._whole.hexdigest())
        except AgentError:
            for part in self._content.parts:
                self._records.forget(part.name)
            raise

    def _read_kept(self, known: tuple[Part, ...]) -> int:
        """How many parts are what they should be; `_whole` has seen these and no others."""
        for index, part in enumerate(known):
            before = self._whole.copy()
            try:
                read_part(self._handle, part, self._whole.update)
            except AgentError:
                self._whole = before
                return index
            self._count.skip(part.size)
        return len(known)

    def _take(self, chunk: memoryview) -> None:
        write_all(self._handle, chunk)
        self._whole.update(chunk)
        self._count.add(len(chunk))
