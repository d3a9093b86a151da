# SPDX-License-Identifier: MulanPSL-2.0
"""Server-sent events: what happens, as it happens (html.spec.whatwg.org, 9.2).

A reader that was cut off names the last id that it has seen, and misses nothing.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import msgspec

from agent.errors import AgentError
from agent.ports import EventQuery
from agent.status.api.asgi import Lines
from agent.status.api.encoded import Encoded
from agent.status.history import EventPage
from agent.status.snapshot import Board, EventView, Snapshot

# A reader can tell a quiet agent from a dead connection.
ALIVE_S = 15.0
ALIVE = b": nothing new\n\n"
# A snapshot changes with every turn of the writer; nobody reads faster than this.
STATUS_EVERY_S = 1.0
PAGE = 200

ReadEvents = Callable[[EventQuery], Awaitable[EventPage]]


async def event_frames(board: Board, read: ReadEvents, after: int | None) -> Lines:
    """Events with an id above `after`; without one, those from now on. Ends with the agent."""
    last = _last_id(board.snapshot) if after is None else after
    quiet_until = time.monotonic() + ALIVE_S
    while not board.closed:
        seen = board.snapshot
        frames, last = await _news(seen, read, last)
        if not frames:
            await board.wait(seen, quiet_until - time.monotonic())
            frames = ALIVE if time.monotonic() >= quiet_until else b""
        if frames:
            yield frames
            quiet_until = time.monotonic() + ALIVE_S


def status_frame(raw: bytes) -> bytes:
    """A whole snapshot."""
    return b"event: status\ndata: " + raw + b"\n\n"


async def status_frames(board: Board, frames: Encoded) -> Lines:
    """The newest of `frames`, and again when the snapshot has changed. Ends with the agent."""
    seen = board.snapshot
    while not board.closed:
        yield frames.newest()
        await asyncio.sleep(STATUS_EVERY_S)
        before, seen = seen, await board.wait(seen, ALIVE_S)
        while not board.closed and seen is before:
            yield ALIVE
            seen = await board.wait(before, ALIVE_S)


async def _news(seen: Snapshot, read: ReadEvents, last: int) -> tuple[bytes, int]:
    """Frames of what came after `last`, and the id up to which that is all."""
    news = [one for one in seen.events if one.id > last]
    if not news:
        return b"", last
    if len(news) == len(seen.events):  # there may be others before them
        with suppress(AgentError):
            page = await read(EventQuery(after=last, limit=PAGE))
            return b"".join(map(_frame, page.events)), page.next
    return b"".join(map(_frame, news)), news[-1].id


def _frame(event: EventView) -> bytes:
    return b"id: %d\nevent: event\ndata: %b\n\n" % (event.id, msgspec.json.encode(event))


def _last_id(snapshot: Snapshot) -> int:
    return snapshot.events[-1].id if snapshot.events else 0
