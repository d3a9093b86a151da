# SPDX-License-Identifier: MulanPSL-2.0
"""What is asked about the past, and what happens from now on."""

from dataclasses import dataclass

from agent.ports import EventQuery
from agent.status.api.access import Access
from agent.status.api.asgi import Request, Response
from agent.status.api.control import Control
from agent.status.api.encoded import Encoded
from agent.status.api.frames import event_frames, status_frames
from agent.status.api.operation import Operation, Parameter, answer, read_number
from agent.status.history import EventPage
from agent.status.snapshot import Board, EventView, Snapshot

STREAM = "text/event-stream"
LIMIT = 1000
LIMIT_UNLESS_SAID = 100
SINCE = Parameter("since", int, "the id of the latest event that is known already")
NPU = Parameter("npu", int, "about the NPU with this logic id")
HOW_MANY = Parameter("limit", int, "at most so many, the first of them", 1, LIMIT)
NEWEST = Parameter("newest", int, "1: the last of them", most=1)


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
                    NPU,
                    HOW_MANY,
                    NEWEST,
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
            after=read_number(given.get("since"), SINCE) or 0,
            instance=given.get("instance", ""),
            kind=given.get("kind", ""),
            npu=read_number(given.get("npu"), NPU),
            limit=read_number(given.get("limit"), HOW_MANY) or LIMIT_UNLESS_SAID,
            newest=read_number(given.get("newest"), NEWEST) == 1,
        )
        return answer(await self.control.events(query))

    async def watch(self, request: Request) -> Response:
        given = request.headers.get("last-event-id") or request.query.get("since")
        frames = event_frames(self.board, self.control.events, read_number(given, SINCE))
        return Response(frames, media_type=STREAM)

    async def watch_status(self, request: Request) -> Response:
        return Response(status_frames(self.board, self.frames), media_type=STREAM)
