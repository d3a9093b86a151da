# SPDX-License-Identifier: MulanPSL-2.0
"""Checksums of files, by reading them from the start. Ours is sha256, whatever the hub tells."""

import hashlib
import os
from collections.abc import Callable

from agent.supply.hub.listing import RemoteFile

READ_BYTES = 2**18


class Checksum:
    """Follows a file as it grows."""

    def __init__(self, size: int, *, as_git_blob: bool = False) -> None:
        self.at = 0
        self._sha256 = hashlib.sha256()
        self._git = (
            hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False) if as_git_blob else None
        )

    def read(self, handle: int, end: int, limit_bytes: int = 2**62) -> int:
        """Goes on to `end`, by at most the limit; how much it was. Raises OSError, EOFError."""
        before, buffer = self.at, memoryview(bytearray(min(READ_BYTES, max(end - self.at, 0))))
        while self.at < end and self.at - before < limit_bytes:
            view = buffer[: min(READ_BYTES, end - self.at)]
            got = os.preadv(handle, [view], self.at)
            if got == 0:
                raise EOFError
            self._sha256.update(view[:got])
            if self._git is not None:
                self._git.update(view[:got])
            self.at += got
        return self.at - before

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    def agrees(self, file: RemoteFile) -> bool:
        """Also when the hub tells no checksum: then there is nothing to disagree with."""
        if file.sha256:
            return self.sha256 == file.sha256
        return self._git is None or self._git.hexdigest() == file.git_sha1


def checksum_for(file: RemoteFile) -> Checksum:
    return Checksum(file.size, as_git_blob=bool(file.git_sha1 and not file.sha256))


def sha256_of(path: str | os.PathLike[str], watch: Callable[[int], None] | None = None) -> str:
    """`watch` is told how many bytes more were read. Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        size = os.fstat(handle).st_size
        checksum = Checksum(size)
        while checksum.at < size:
            read = checksum.read(handle, size, READ_BYTES * 8)
            if watch is not None:
                watch(read)
        return checksum.sha256
    except EOFError as error:
        raise OSError(f"{path} became shorter while it was read") from error
    finally:
        os.close(handle)
