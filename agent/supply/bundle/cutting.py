# SPDX-License-Identifier: MulanPSL-2.0
"""Cuts a stream into parts on a disk, hashed while it passes.

In: a source of bytes that can be opened again; the parts on record. Out: files, synced and on
record one by one, and the `Content` that they are.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from agent.errors import AgentError, Code
from agent.supply.bundle.files import (
    CHUNK_BYTES,
    forget_cached,
    open_for_writing,
    write_all,
)
from agent.supply.bundle.format import Content, Part
from agent.supply.bundle.names import part_name
from agent.supply.bundle.records import Records
from agent.supply.meter import Count


class Source(Protocol):
    """Bytes in order; 0 at the end."""

    def read_into(self, buffer: memoryview) -> int: ...


class FileSource:
    """A file of the model, as it is on this machine's disk."""

    def __init__(self, handle: int, path: Path) -> None:
        self._handle, self._path = handle, path

    def read_into(self, buffer: memoryview) -> int:
        try:
            return os.readv(self._handle, (buffer,))
        except OSError as error:
            raise _unreadable(self._path, error) from error


@contextmanager
def file_source(path: Path) -> Iterator[Source]:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        yield FileSource(handle, path)
    finally:
        os.close(handle)


def _unreadable(path: Path, error: OSError) -> AgentError:
    return AgentError(
        Code.CONTENT_DAMAGED,
        f"cannot read {path}: {error.strerror}",
        "see: deepseekctl verify INSTANCE",
    )


class _Changed(Exception):
    """The source does not give again what is on record."""


class _Stream:
    """A source, read ahead by one chunk so that its end is known."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._buffer = memoryview(bytearray(CHUNK_BYTES))
        self._ahead = self._buffer[:0]
        self.size = 0
        self.digest = hashlib.sha256()

    def at_end(self) -> bool:
        if not self._ahead:
            self._ahead = self._buffer[: self._source.read_into(self._buffer)]
        return not self._ahead

    def take(self, limit: int) -> memoryview:
        """At most `limit` bytes, and none at the end."""
        if limit == 0 or self.at_end():
            return self._buffer[:0]
        chunk, self._ahead = self._ahead[:limit], self._ahead[limit:]
        self.size += len(chunk)
        self.digest.update(chunk)
        return chunk


class Cutter:
    """Writes below one folder."""

    def __init__(self, folder: Path, part_bytes: int, records: Records) -> None:
        self._folder, self._part_bytes, self._records = folder, part_bytes, records

    def cut(
        self,
        path: str,
        stem: str,
        open_source: Callable[[], AbstractContextManager[Source]],
        count: Count,
    ) -> Content:
        try:
            return self._cut(path, stem, open_source, count)
        except _Changed:  # from its beginning, once: with no records it cannot happen again
            self._forget_all(stem)
            return self._cut(path, stem, open_source, count)

    def _cut(
        self,
        path: str,
        stem: str,
        open_source: Callable[[], AbstractContextManager[Source]],
        count: Count,
    ) -> Content:
        parts: list[Part] = []
        with open_source() as source:
            stream = _Stream(source)
            while not parts or not stream.at_end():
                parts.append(self._part(part_name(stem, len(parts)), stream, count))
        return Content(path, stream.size, stream.digest.hexdigest(), tuple(parts))

    def forget(self, content: Content) -> None:
        for part in content.parts:
            self._records.forget(part.name)

    def _forget_all(self, stem: str) -> None:
        index = 0
        while self._records.find(part_name(stem, index)) is not None:
            self._records.forget(part_name(stem, index))
            index += 1

    def _part(self, name: str, stream: _Stream, count: Count) -> Part:
        known = self._records.find(name)
        if known is not None and self._is_kept(known):
            return _skim(known, stream, count)
        self._records.forget(name)
        return self._write(name, stream, count)

    def _is_kept(self, part: Part) -> bool:
        try:
            size = os.lstat(self._folder / part.name).st_size
        except OSError:
            return False
        return size == part.size <= self._part_bytes

    def _write(self, name: str, stream: _Stream, count: Count) -> Part:
        path = self._folder / name
        handle = open_for_writing(path)
        try:
            os.ftruncate(handle, 0)
            digest, size = hashlib.sha256(), 0
            while chunk := stream.take(self._part_bytes - size):
                write_all(handle, chunk)
                digest.update(chunk)
                size += len(chunk)
                count.add(len(chunk))
            os.fsync(handle)
            forget_cached(handle)
        finally:
            os.close(handle)
        part = Part(name, size, digest.hexdigest())
        self._records.add(part)
        return part


def _skim(known: Part, stream: _Stream, count: Count) -> Part:
    """Passes by what is on the disk already."""
    digest, size = hashlib.sha256(), 0
    while chunk := stream.take(known.size - size):
        digest.update(chunk)
        size += len(chunk)
        count.skip(len(chunk))
    if size != known.size or digest.hexdigest() != known.sha256:
        raise _Changed
    return known
