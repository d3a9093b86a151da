# SPDX-License-Identifier: MulanPSL-2.0
"""Which parts are whole on the disk: what an interrupted creation or import goes on from.

In: a part, after its content was synced. Out: the same part, after a kill or a power cut. One line
of JSON for each, synced; a last line that was cut off counts for nothing. The file is locked while
it is open, so that two do not write the same bundle.
"""

import fcntl
import json
import os
from pathlib import Path

from agent.errors import AgentError, Code
from agent.host.atomic import sync_folder
from agent.json_text import load_json
from agent.supply.bundle.fields import as_fields
from agent.supply.bundle.files import open_for_writing, write_all
from agent.supply.bundle.format import Part

RECORDS = "records"  # how an import calls them, in its staging
LIMIT_BYTES = 16 * 1024 * 1024


class Records:
    """Parts by name; the last word about a name counts."""

    def __init__(self, path: Path) -> None:
        self._parts: dict[str, Part] = {}
        self._handle = open_for_writing(path)
        try:
            self._lock(path)
            sync_folder(path.parent)
            self._read()
        except BaseException:
            os.close(self._handle)
            raise

    def _lock(self, path: Path) -> None:
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(self._handle).st_nlink == 0:  # who had the lock has just ended its work
                raise BlockingIOError
        except BlockingIOError as error:
            raise AgentError(
                Code.FILE_NOT_WRITTEN,
                f"cannot work in {path.parent}: another process does the same there",
                "wait until it has ended",
            ) from error

    def _read(self) -> None:
        content = os.read(self._handle, LIMIT_BYTES)
        whole = content[: content.rfind(b"\n") + 1]
        try:
            for line in whole.splitlines():
                row = as_fields(load_json(line), "")
                name = row.text("name")
                self._parts.pop(name, None)
                if "sha256" in row.values:
                    self._parts[name] = Part(name, row.whole("size"), row.sha256("sha256"))
        except ValueError:  # not ours, or a disk's rubbish: nothing is known
            self._parts.clear()
            whole = b""
        os.ftruncate(self._handle, len(whole))
        os.lseek(self._handle, 0, os.SEEK_END)

    @property
    def size(self) -> int:
        """Bytes of all parts on record."""
        return sum(part.size for part in self._parts.values())

    def find(self, name: str) -> Part | None:
        return self._parts.get(name)

    def add(self, part: Part) -> None:
        """Its content has to be synced already."""
        self._write({"name": part.name, "size": part.size, "sha256": part.sha256})
        self._parts[part.name] = part

    def forget(self, name: str) -> None:
        """Before its content is written anew."""
        if name in self._parts:
            self._write({"name": name})
            del self._parts[name]

    def _write(self, row: dict[str, object]) -> None:
        write_all(self._handle, memoryview(json.dumps(row).encode() + b"\n"))
        os.fsync(self._handle)

    def close(self) -> None:
        os.close(self._handle)

    def __enter__(self) -> "Records":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
