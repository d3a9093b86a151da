# SPDX-License-Identifier: MulanPSL-2.0
"""Texts -> the bytes of a .tar.gz that is no longer than its limit. Pure, but for the clock's time
that it is given.

Each file is compressed alone, so that its size is known before it is taken: one gzip file after the
other is a gzip file as well (RFC 1952, 2.2).
"""

import gzip
import io
import tarfile
from dataclasses import dataclass, field

MANIFEST = "MANIFEST.txt"
# For MANIFEST.txt and the end of the archive.
RESERVE_BYTES = 64 * 1024
END = bytes(2 * tarfile.BLOCKSIZE)


@dataclass
class Packing:
    """All files stand in `folder`; their members are kept until the manifest is known."""

    folder: str
    limit_bytes: int
    at: float  # seconds since the epoch
    _members: list[bytes] = field(default_factory=list)
    _size: int = 0

    def add(self, name: str, text: str) -> bool:
        """False where there is no room for it."""
        member = self._member(name, text)
        if self._size + len(member) > self.limit_bytes - RESERVE_BYTES:
            return False
        self._members.append(member)
        self._size += len(member)
        return True

    def finish(self, manifest: str) -> bytes:
        """With the manifest before all others."""
        first = self._member(MANIFEST, manifest)
        return b"".join((first, *self._members, gzip.compress(END, mtime=0)))

    def _member(self, name: str, text: str) -> bytes:
        content = text.encode(errors="replace")
        info = tarfile.TarInfo(f"{self.folder}/{name}")
        info.size, info.mtime, info.mode = len(content), int(self.at), 0o600
        head = info.tobuf(tarfile.PAX_FORMAT)
        padding = bytes(-len(content) % tarfile.BLOCKSIZE)
        raw = io.BytesIO()
        with gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
            packed.write(head + content + padding)
        return raw.getvalue()
