# SPDX-License-Identifier: MulanPSL-2.0
"""Events that outlive the agent: written behind the loop, by one thread.

The disk may be full, slow or hung, and the file damaged. None of that stops the agent: what could
not be written waits, up to a limit, and is tried again; a damaged file is set aside, and said.
"""

import asyncio
import itertools
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from agent.errors import Code, Failure, HostUnavailable
from agent.host.event_file import EventFile, is_damage
from agent.ports import EventQuery, StoredEvent

LIMIT_BYTES = 50_000_000
KEPT_S = 14 * 86400.0
AT_LEAST = 1000
# Of what is not written yet; then the oldest of it go.
WAITING_LIMIT = 5000
BATCH = 500
AGAIN_S = 60.0
READ_DEADLINE_S = 5.0
OPEN_DEADLINE_S = 5.0
CLOSE_DEADLINE_S = 2.0

Result = TypeVar("Result")


class EventStore:
    """`ports.EventKeeper`. `open`, then `run` until the end, then `close`."""

    def __init__(self, path: Path, limit_bytes: int = LIMIT_BYTES) -> None:
        self._path = path
        self._untold: list[Failure | None] = []
        self._tell: Callable[[Failure | None], None] = self._untold.append
        self._file = EventFile(path, limit_bytes, KEPT_S, AT_LEAST)
        self._thread = ThreadPoolExecutor(1, "events")
        # Its queue has no bound: what waits for a disk that hangs waits here, and not for ever.
        self._turn = asyncio.Lock()
        self._waiting: deque[StoredEvent] = deque()
        self._wake = asyncio.Event()
        self._failed = False

    async def open(self, latest: int) -> Sequence[StoredEvent]:
        """The latest events that are kept, oldest first; none when the disk does not give them
        within a deadline."""
        try:
            query = EventQuery(limit=latest, newest=True)
            return await self._in_thread(lambda: self._file.read(query), OPEN_DEADLINE_S)
        except HostUnavailable as error:
            self._fail(error.failure)
            return ()

    def add(self, event: StoredEvent) -> None:
        if len(self._waiting) >= WAITING_LIMIT:
            self._waiting.popleft()
        self._waiting.append(event)
        self._wake.set()

    async def read(self, query: EventQuery) -> Sequence[StoredEvent]:
        """Raises HostUnavailable when the file cannot be read now."""
        waiting = {one.id: one for one in self._waiting if is_wanted(one, query)}
        written = await self._in_thread(lambda: self._file.read(query), READ_DEADLINE_S)
        found = {one.id: one for one in written} | waiting
        return cut([found[key] for key in sorted(found)], query)

    async def oldest(self) -> int:
        """Raises HostUnavailable when the file cannot be read now."""
        waiting = self._waiting[0].id if self._waiting else 0
        return await self._in_thread(self._file.oldest, READ_DEADLINE_S) or waiting

    async def run(self, tell: Callable[[Failure | None], None]) -> None:
        """Ends only by cancellation. `tell` hears of what is wrong, and None when that is over."""
        self._tell = tell
        for one in self._untold:
            tell(one)
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                if not await self._write():
                    await asyncio.sleep(AGAIN_S)

    async def close(self) -> None:
        """Writes what is left, within a deadline."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_DEADLINE_S):
                while self._waiting and await self._write():
                    pass
        self._thread.submit(self._file.close)
        self._thread.shutdown(wait=False)

    async def _write(self) -> bool:
        """Whether that went well; what is written does not wait any more."""
        batch = list(itertools.islice(self._waiting, BATCH))
        try:
            await self._in_thread(lambda: self._file.add(batch, time.time()), None)
        except HostUnavailable as error:
            self._fail(error.failure)
            return False
        last = batch[-1].id
        while self._waiting and self._waiting[0].id <= last:
            self._waiting.popleft()
        if self._failed:
            self._failed = False
            self._tell(None)
        return True

    def _fail(self, failure: Failure) -> None:
        """Said once, until it is over."""
        if not self._failed:
            self._failed = True
            self._tell(failure)

    async def _in_thread(self, work: Callable[[], Result], deadline_s: float | None) -> Result:
        """Raises HostUnavailable. The thread goes on with what was not waited for."""
        limit = asyncio.timeout(deadline_s)
        try:
            async with limit:
                await self._turn.acquire()
                result, damage = await asyncio.shield(self._begin(work))
        except (sqlite3.Error, OSError) as error:
            if limit.expired():  # a disk may say ETIMEDOUT itself, which is a TimeoutError too
                raise HostUnavailable(
                    Code.DISK_SILENT,
                    f"cannot use {self._path}: its disk does not answer within {deadline_s:g} s",
                    f"see: df -h {self._path.parent}; dmesg",
                ) from None
            raise HostUnavailable(
                Code.FILE_NOT_WRITTEN,
                f"cannot use {self._path}: {error}",
                f"see: ls -l {self._path}; df -h {self._path.parent}",
            ) from error
        if damage is not None:
            self._tell(damage)
        return result

    def _begin(self, work: Callable[[], Result]) -> "asyncio.Future[tuple[Result, Failure | None]]":
        """It is the next one's turn when this has ended, whether or not somebody still waits."""
        loop = asyncio.get_running_loop()
        try:
            future = loop.run_in_executor(self._thread, self._mending, work)
        except RuntimeError:  # no thread can be started now, or it is closed
            self._turn.release()
            raise
        future.add_done_callback(self._ended)
        return future

    def _ended(self, future: "asyncio.Future[tuple[Result, Failure | None]]") -> None:
        self._turn.release()
        if not future.cancelled():
            future.exception()  # so that nobody is told of an error that nobody waits for

    def _mending(self, work: Callable[[], Result]) -> tuple[Result, Failure | None]:
        """In the thread: a damaged file is set aside, and a new one begun."""
        try:
            return work(), None
        except sqlite3.Error as error:
            if not is_damage(error):
                raise
            aside = self._file.set_aside()
            damage = Failure(
                Code.STATE_DAMAGED,
                f"cannot use {self._path}: {error}; events are kept from now on",
                f"it was set aside as {aside}, which may be removed",
            )
            return work(), damage


def cut(events: Sequence[StoredEvent], query: EventQuery) -> Sequence[StoredEvent]:
    """As many of them as are asked for."""
    return events[-query.limit :] if query.newest else events[: query.limit]


def is_wanted(event: StoredEvent, query: EventQuery) -> bool:
    """Whether it is one of those that are looked for, whatever the limit."""
    return (
        event.id > query.after
        and query.instance in ("", event.instance)
        and query.kind in ("", event.kind)
        and query.npu in (None, event.npu)
    )
