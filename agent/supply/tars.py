# SPDX-License-Identifier: MulanPSL-2.0
"""Looks through a tar archive from end to end: in comes a path, out what it holds.

Hostile input: nothing is unpacked, no name is followed, and everything that is kept in memory has a
limit. Read to its end, so that a copy that was cut off is seen, and so is a wrong checksum of gzip,
xz or zstd. Standard library, and the zstd command (Python 3.11 has no zstd).
"""

import gzip
import io
import lzma
import os
import subprocess
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.xz")
MEMBERS_LIMIT = 100_000
BYTES_LIMIT = 1 << 40
HEADER_LIMIT_BYTES = 64 * 1024  # a name, or the fields of pax(5)
DOCUMENT_LIMIT_BYTES = 1024 * 1024
DOCUMENTS_LIMIT_BYTES = 32 * 1024 * 1024
PIECE_BYTES = 1024 * 1024
ZSTD_DAMAGED = 1  # its exit status then; of trouble with reading another one (1.5, fileio.c)
GZIP, XZ, ZSTD = b"\x1f\x8b", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"


class NotWhole(ValueError):
    """It cannot be read to its end, or is no such archive. The text says why."""


class NotNow(NotWhole):
    """Of this try: the file may be as it should."""


@dataclass(slots=True)
class Contents:
    """Sizes of all files, by name; and what is in those that are small, and can be JSON."""

    sizes: dict[str, int] = field(default_factory=dict)
    documents: dict[str, bytes] = field(default_factory=dict)
    is_packed: bool = False  # the archive as a whole is compressed


class _Header(tarfile.TarInfo):
    """tarfile reads a long name, or pax fields, into memory as long as the header says."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        plain = self.type in _PLAIN
        if not plain and (self.type not in _LONG or self.size > HEADER_LIMIT_BYTES):
            raise NotWhole(f"it holds an entry of kind {self.type!r} with {self.size} bytes")
        if self.size < 0:
            raise NotWhole("it holds an entry of less than no bytes")
        proceed = super()._proc_member  # type: ignore[misc]
        found: tarfile.TarInfo = proceed(tar)
        return found

    def _proc_gnusparse(self, *_: object) -> None:
        """A map of holes, as long as the archive says; no image has one."""
        raise NotWhole("it holds a sparse file")

    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _proc_gnusparse


_PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE)
_LONG = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE)
_BROKEN = (tarfile.TarError, OSError, EOFError, lzma.LZMAError, zlib.error)


def read_tar(path: Path) -> Contents:
    """Raises NotWhole, and OSError when the file cannot be opened."""
    with path.open("rb") as raw:
        kind = raw.read(8)
        raw.seek(0)
        try:
            with _opened(raw, kind) as stream:
                contents = _look_through(stream)
                _drain(stream)
                contents.is_packed = stream is not raw
        except NotWhole:
            raise
        except _BROKEN as error:
            is_disk = isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile)
            kind_of = NotNow if is_disk else NotWhole
            raise kind_of(str(error) or type(error).__name__) from error
    return contents


@contextmanager
def _opened(raw: IO[bytes], kind: bytes) -> Iterator[IO[bytes]]:
    with ExitStack() as stack:
        if kind.startswith(GZIP):
            stream = gzip.GzipFile(fileobj=raw)
            stack.callback(stream.close)
            yield cast("IO[bytes]", stream)
        elif kind.startswith(XZ):
            yield stack.enter_context(lzma.LZMAFile(raw))
        elif kind.startswith(ZSTD):
            yield stack.enter_context(_zstd(raw))
        else:
            yield raw


@contextmanager
def _zstd(raw: IO[bytes]) -> Iterator[IO[bytes]]:
    os.lseek(raw.fileno(), 0, os.SEEK_SET)  # what is buffered here does not reach the child
    try:
        child = subprocess.Popen(
            ("zstd", "--decompress", "--stdout", "--quiet"),
            stdin=raw,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError as error:
        raise NotNow(f"cannot run zstd: {error.strerror} (dnf install zstd)") from error
    try:
        stream = cast("IO[bytes]", child.stdout)
        with stream:
            yield stream
        status = child.wait()
        if status != 0:
            kind = NotWhole if status == ZSTD_DAMAGED else NotNow
            raise kind("zstd cannot decompress it to its end")
    finally:
        child.kill()
        child.wait()


def _look_through(stream: IO[bytes]) -> Contents:
    contents = Contents()
    read = kept = 0
    seekable = isinstance(stream, io.BufferedReader) and stream.seekable()
    mode = "r:" if seekable else "r|"
    with tarfile.open(fileobj=stream, mode=mode, tarinfo=_Header) as tar:  # type: ignore[call-overload]
        for number, member in enumerate(tar):
            read += member.size
            if number >= MEMBERS_LIMIT or read > BYTES_LIMIT:
                raise NotWhole("it holds too much")
            name = member.name.removeprefix("./")
            contents.sizes[name] = member.size if member.isreg() else 0
            if not member.isreg() or not 0 < member.size <= DOCUMENT_LIMIT_BYTES:
                continue
            file = tar.extractfile(member)
            content = file.read() if file else b""
            kept += len(content)
            if kept > DOCUMENTS_LIMIT_BYTES:
                raise NotWhole("it holds too many small files")
            if content.lstrip()[:1] in (b"{", b"["):
                contents.documents[name] = content
            else:
                kept -= len(content)
    if not contents.sizes:
        raise NotWhole("it is no tar archive, or an empty one")
    return contents


def _drain(stream: IO[bytes]) -> None:
    """What compresses it has its checksum at the end."""
    for _ in range(BYTES_LIMIT // PIECE_BYTES):
        if not stream.read(PIECE_BYTES):
            return
    raise NotWhole("it holds too much")
