# SPDX-License-Identifier: MulanPSL-2.0
"""`ports.Disks`: how much room there is (statvfs), and `deepseek-prune.service`, which makes more.

A look at a file system may hang for good (a dead NFS server), so each is in a thread of its own,
which is left alone then: nothing waits for it, and no other look begins there before it ends.
"""

import asyncio
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec

from agent.decoding import decode_json
from agent.disks import DiskFacts, PruneOrder, PruneReport, Role
from agent.errors import Code, HostError
from agent.host.atomic import write_atomically
from agent.host.reading import read_regular
from agent.model import PRUNE_UNIT, JobResult
from agent.ports import UnitManager
from agent.threads import in_thread

FOLDER = Path("/run/deepseek-agent/prune")
STATE, JOURNAL = "/var/lib/deepseek-agent", "/var/log/journal"
# containers-storage.conf(5): the first that is there counts.
STORAGE_FILES = (Path("/etc/containers/storage.conf"), Path("/usr/share/containers/storage.conf"))
STORAGE = "/var/lib/containers/storage"
_GRAPHROOT = re.compile(r'^\s*graphroot\s*=\s*"(/[^"\n]*)"', re.MULTILINE)
LOOK_DEADLINE_S = 5.0
# TimeoutStartSec= of the unit is 30 min.
PRUNE_DEADLINE_S = 1830.0
REPORT_LIMIT_BYTES = 16 * 2**20


class LocalDisks:
    """`ports.Disks` of this host."""

    def __init__(
        self,
        units: UnitManager,
        folder: Path = FOLDER,
        storage_files: Sequence[Path] = STORAGE_FILES,
        deadline_s: float = LOOK_DEADLINE_S,
    ) -> None:
        self._units = units
        self._folder = folder
        self._storage_files = storage_files
        self._deadline_s = deadline_s

    async def look(self, models_dirs: Sequence[str]) -> Sequence[DiskFacts]:
        places = [(Role.MODELS, one) for one in dict.fromkeys(models_dirs)]
        places += [(Role.IMAGES, ""), (Role.STATE, STATE), (Role.JOURNAL, JOURNAL)]
        found = await asyncio.gather(*(self._look(role, place) for role, place in places))
        return tuple(one for one in found if one is not None)

    async def prune(self, order: PruneOrder) -> PruneReport:
        order_file, report_file = self._folder / "order.json", self._folder / "report.json"
        try:
            report_file.unlink(missing_ok=True)
            write_atomically(order_file, msgspec.json.encode(order).decode(), mode=0o600)
        except OSError as error:
            raise HostError(
                Code.FILE_NOT_WRITTEN, f"cannot write the order for {PRUNE_UNIT}: {error}"
            ) from error
        try:
            result = await self._units.start(PRUNE_UNIT, PRUNE_DEADLINE_S)
            if result is not JobResult.DONE:
                await self._units.reset_failed(PRUNE_UNIT)
        finally:
            with suppress(OSError):  # what shall be kept may be something else by then
                order_file.unlink(missing_ok=True)
        return self._read(report_file, order, result)

    def _read(self, path: Path, order: PruneOrder, result: JobResult) -> PruneReport:
        why = f"job {result}, and no report"
        with suppress(FileNotFoundError):
            try:
                report = decode_json(read_regular(path, REPORT_LIMIT_BYTES), PruneReport)
            except (OSError, ValueError) as error:
                why = str(error)
            else:
                if report.number == order.number:
                    return report
                why = "its report is about another order"
        raise HostError(
            Code.UNIT_START_FAILED, f"cannot prune: {why}", f"journalctl -b -u {PRUNE_UNIT}"
        )

    async def _look(self, role: Role, place: str) -> DiskFacts | None:
        """None for what is not there, or does not answer."""
        look = partial(self._facts, role, place)
        with suppress(TimeoutError, RuntimeError):  # the latter: no thread can be started now
            async with asyncio.timeout(self._deadline_s):
                return await in_thread(look, key=(self, role, place))
        return None

    def _facts(self, role: Role, place: str) -> DiskFacts | None:
        """In a thread."""
        try:
            place = place or find_storage(self._storage_files)
            if role is Role.JOURNAL and not os.path.isdir(place):
                return None
            return look_at_room(role, place)
        except (OSError, ValueError):
            return None


def look_at_room(role: Role, place: str) -> DiskFacts:
    """Of the file system that holds `place`, or would. Raises OSError; may hang."""
    there = _nearest(place)
    room = os.statvfs(there)
    free, size = room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize
    return DiskFacts(role, place, os.stat(there).st_dev, free, size)


def find_storage(files: Sequence[Path] = STORAGE_FILES) -> str:
    """Where Podman keeps images (graphroot)."""
    for path in files:
        with suppress(FileNotFoundError):
            found = _GRAPHROOT.search(read_regular(path).decode(errors="replace"))
            return found[1] if found else STORAGE
    return STORAGE


def _nearest(place: str) -> str:
    """The place, or the closest folder above it that is there. Raises OSError."""
    path = Path(place)
    while not path.exists() and path != path.parent:
        path = path.parent
    return str(path)
