# SPDX-License-Identifier: MulanPSL-2.0
"""A file that is being fetched: where its bytes go, and a record of which of them are there.

Staging is by content: `KEY` is a file that was checked and synced before it got this name, so the
name alone says that it is whole, also after a power cut. `KEY.part` grows in segments, each from
its start; `KEY.map` says how far they were when the data had been synced. Where the record is
behind or lost, more is fetched; where the disk has lied, the checksum in the end finds it.
"""

import hashlib
import json
import os
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from threading import Lock

from agent.host.atomic import sync_folder, write_atomically
from agent.supply.hub.listing import RemoteFile

SEGMENT_BYTES = 64 * 2**20
MAP_LIMIT_BYTES = 2**20
PART, MAP = ".part", ".map"
_SHA256, _GIT = KEYS = ("sha256-", "git-")  # by their content


def key_of(file: RemoteFile) -> str:
    """What the content is known by; two files with one key are the same."""
    if file.sha256:
        return _SHA256 + file.sha256
    if file.git_sha1:
        return _GIT + file.git_sha1
    return "unknown-" + hashlib.sha256(f"{file.url} {file.size}".encode()).hexdigest()


@dataclass(slots=True)
class Segment:
    """[start, end) of a file; what is before `done` is there."""

    start: int
    end: int
    done: int
    # A worker whose segment was given up (the source ignores ranges) notices here.
    live: bool = True
    failures: int = 0  # in a row, of tries that brought next to nothing
    best: int = 0  # `done` of the best of them


def split(size: int, *, ranges: bool) -> list[Segment]:
    """Even parts of at least SEGMENT_BYTES; one when there are to be no ranges."""
    count = max(size // SEGMENT_BYTES, 1) if ranges else 1
    edges = [size * number // count for number in range(count + 1)]
    return [Segment(start, end, start) for start, end in pairwise(edges)]


@dataclass(slots=True)
class Part:
    """The file, open for writing. `segments` are changed under the lock."""

    folder: Path
    key: str
    size: int
    handle: int = -1
    segments: list[Segment] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)
    recorded: int = 0  # bytes, in the map

    @property
    def path(self) -> Path:
        return self.folder / (self.key + PART)

    @property
    def map_path(self) -> Path:
        return self.folder / (self.key + MAP)

    def open(self) -> None:
        """Goes on where the record says. Raises OSError."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self.handle = os.open(self.path, flags, 0o600)
        self.segments = self._read_map() or split(self.size, ranges=True)

    def close(self) -> None:
        if self.handle >= 0:
            os.close(self.handle)
            self.handle = -1

    def start_over(self, *, ranges: bool) -> None:
        """Nothing of it counts any more. Raises OSError."""
        with self.lock:
            for segment in self.segments:
                segment.live = False
            self.segments = split(self.size, ranges=ranges)
            self.map_path.unlink(missing_ok=True)
            os.ftruncate(self.handle, 0)

    def write(self, segment: Segment, chunk: bytes | memoryview) -> None:
        """Raises OSError."""
        view = memoryview(chunk)
        while view:
            with self.lock:  # nothing is written after `start_over` has taken it away
                if not segment.live:
                    return
                written = os.pwrite(self.handle, view, segment.done)
                segment.done += written
            view = view[written:]

    @property
    def done_bytes(self) -> int:
        with self.lock:
            return sum(segment.done - segment.start for segment in self.segments)

    @property
    def frontier(self) -> int:
        """Everything before it is there."""
        with self.lock:
            for segment in self.segments:
                if segment.done < segment.end:
                    return segment.done
        return self.size

    def missing_bytes(self) -> int:
        """What of it has no room on the disk yet."""
        return max(self.size - os.fstat(self.handle).st_blocks * 512, 0)

    def record(self) -> None:
        """Called while others write: what is told to be there has been synced. Raises OSError."""
        with self.lock:
            segments = self.segments
            edges = [[one.start, one.end, one.done] for one in segments]
        there = sum(done - start for start, _, done in edges)
        if there == self.recorded:
            return
        os.fdatasync(self.handle)
        write_atomically(self.map_path, json.dumps({"size": self.size, "segments": edges}), 0o600)
        self.recorded = there
        if self.segments is not segments:  # started over meanwhile
            self.map_path.unlink(missing_ok=True)

    def finish(self) -> None:
        """It was checked: from now on it counts."""
        os.fchmod(self.handle, 0o644)
        os.fsync(self.handle)
        os.rename(self.path, self.folder / self.key)
        sync_folder(self.folder)
        self.map_path.unlink(missing_ok=True)

    def _read_map(self) -> list[Segment]:
        """Empty when there is none of use."""
        try:
            if self.map_path.stat().st_size > MAP_LIMIT_BYTES:
                return []
            record = json.loads(self.map_path.read_bytes())
            segments = [Segment(start, end, done) for start, end, done in record["segments"]]
            there = os.fstat(self.handle).st_size
            whole = record["size"] == self.size and _covers(segments, self.size)
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return []
        for segment in segments:  # the file may be shorter than its record: a lost write
            segment.done = max(min(segment.done, there), segment.start)
        return segments if whole else []


def _covers(segments: list[Segment], size: int) -> bool:
    at = 0
    for segment in segments:
        if segment.start != at or not segment.start <= segment.done <= segment.end:
            return False
        at = segment.end
    return at == size
