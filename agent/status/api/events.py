# SPDX-License-Identifier: MulanPSL-2.0
"""What is asked about the past, and what happens from now on."""

from dataclasses import dataclass

from agent.errors import AgentError, Code
from agent.ports import EventQuery
from agent.status.api.access import Access
from agent.status.api.asgi import Request, Response
from agent.status.api.control import Control
from agent.status.api.encoded import Encoded
from agent.status.api.frames import event_frames, status_frames
from agent.status.api.operation import Operation, Parameter, answer
from agent.status.history import EventPage
from agent.status.snapshot import Board, EventView, Snapshot

STREAM = "text/event-stream"
LIMIT = 1000
LIMIT_UNLESS_SAID = 100
BIGGEST = 2**63 - 1  # of SQLite
SINCE = Parameter("since", int, "the id of the latest event that is known already")


@dataclass(frozen=True, slots=True)
class Events:
    """Handlers of `/v1/events` and `/v1/watch`."""

    board: Board
    control: Control
    frames: Encoded  # of snapshots

    def operations(self) -> tuple[Operation, ...]:
        return (
            Operation(
                "events",
                "GET",
                "/v1/events",
                Access.ANYONE,
                "what happened in the last days, oldest first, a page at a time",
                self.show,
                answer=EventPage,
                query=(
                    SINCE,
                    Parameter("instance", str, "about this one alone"),
                    Parameter("kind", str, "of this kind alone"),
                    Parameter("npu", int, "about the NPU with this logic id"),
                    Parameter("limit", int, f"at most so many, the first of them; up to {LIMIT}"),
                    Parameter("newest", int, "1: the last of them"),
                ),
            ),
            Operation(
                "watch",
                "GET",
                "/v1/watch",
                Access.ANYONE,
                "events as they happen, as server-sent events; resumed by Last-Event-ID",
                self.watch,
                answer=EventView,
                query=(SINCE,),
                media_type=STREAM,
            ),
            Operation(
                "watch-status",
                "GET",
                "/v1/watch/status",
                Access.ANYONE,
                "the status, again when it has changed, as server-sent events",
                self.watch_status,
                answer=Snapshot,
                media_type=STREAM,
            ),
        )

    async def show(self, request: Request) -> Response:
        given = request.query
        query = EventQuery(
            after=_number(given.get("since"), "since") or 0,
            instance=given.get("instance", ""),
            kind=given.get("kind", ""),
            npu=_number(given.get("npu"), "npu"),
            limit=_number(given.get("limit"), "limit", 1, LIMIT) or LIMIT_UNLESS_SAID,
            newest=given.get("newest") == "1",
        )
        return answer(await self.control.events(query))

    async def watch(self, request: Request) -> Response:
        given = request.headers.get("last-event-id") or request.query.get("since")
        frames = event_frames(self.board, self.control.events, _number(given, "since"))
        return Response(frames, media_type=STREAM)

    async def watch_status(self, request: Request) -> Response:
        return Response(status_frames(self.board, self.frames), media_type=STREAM)


def _number(text: str | None, name: str, least: int = 0, most: int = BIGGEST) -> int | None:
    """Raises AgentError for what is no number within its bounds."""
    if text is None:
        return None
    # Not int() alone: it takes "1_000", and other scripts' digits.
    if text.isascii() and text.isdecimal() and len(text) < 20 and least <= int(text) <= most:
        return int(text)
    raise AgentError(
        Code.REQUEST_INVALID,
        f"cannot understand {name}={text[:40]!r}: it has to be a number from {least} to {most}",
    )
