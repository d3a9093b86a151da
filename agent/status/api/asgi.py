# SPDX-License-Identifier: MulanPSL-2.0
"""As much of ASGI as the socket API needs: in what uvicorn's protocol hands on, out an answer.

Starlette would bring anyio, http.client, forms and cookies: 3 MiB in the resident agent
(docs/adr/0003).
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl

from agent.errors import AgentError, Code
from agent.status.api.bounded import WRITE_AHEAD_BYTES, App, Message, Receive, Send
from agent.status.api.peer import Peer

Lines = AsyncGenerator[bytes, None]
# Written at once; who does not read keeps no more than twice that waiting in our memory.
PIECE_BYTES = WRITE_AHEAD_BYTES
NUMBER = re.compile(r"\{(\w+):int\}")
WORD = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Request:
    """One request; `path` has what stands in braces in its route's."""

    peer: Peer
    headers: Mapping[str, str]  # by their names in lower case
    query: Mapping[str, str]
    path: Mapping[str, str]
    receive: Receive

    async def read_body(self, limit_bytes: int) -> bytes:
        """Raises AgentError."""
        body = bytearray()
        while True:
            part = await self.receive()
            if part["type"] != "http.request":
                raise AgentError(Code.REQUEST_INVALID, "cannot take a request that breaks off")
            body += part.get("body", b"")
            if len(body) > limit_bytes:
                raise AgentError(Code.REQUEST_INVALID, "cannot take a request as long as that")
            if not part.get("more_body", False):
                return bytes(body)


@dataclass(frozen=True, slots=True)
class Response:
    """An answer: whole, or in lines for as long as the other side listens."""

    content: bytes | Lines
    status: int = 200
    media_type: str = "application/json"
    allow: str = ""  # the methods that there are instead


Handler = Callable[[Request], Awaitable[Response]]
Refuse = Callable[[int, str], Response]


@dataclass(frozen=True, slots=True)
class Route:
    """`path`: a regular expression with a group for each part that stands for something."""

    path: "re.Pattern[str]"
    method: str
    handler: Handler


def route(path: str, method: str, handler: Handler) -> Route:
    """`{name}` stands for one part of a path, `{name:int}` for one that is a number."""
    pattern = NUMBER.sub(r"(?P<\1>[0-9]{1,15})", path)
    return Route(re.compile(WORD.sub(r"(?P<\1>[^/]+)", pattern)), method, handler)


def build(routes: Sequence[Route], refuse: Refuse) -> App:
    """`refuse` makes the answer where there is no route, and when one of them is broken."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        try:
            response = await _answer(routes, refuse, scope, receive)
        except Exception as error:
            await _send(refuse(500, repr(error)), receive, send)
            raise  # uvicorn logs it
        await _send(response, receive, send)

    return app


async def _answer(
    routes: Sequence[Route], refuse: Refuse, scope: Message, receive: Receive
) -> Response:
    found = [(one, match) for one in routes if (match := one.path.fullmatch(scope["path"]))]
    if not found:
        return refuse(404, "there is nothing at this path")
    method = "GET" if scope["method"] == "HEAD" else scope["method"]
    for one, match in found:
        if one.method == method:
            return await one.handler(_request(scope, match, receive))
    methods = sorted({one.method for one, _ in found})
    refusal = refuse(405, f"{scope['method']} is not for this path")
    return replace(refusal, allow=", ".join(methods))


def _request(scope: Message, match: "re.Match[str]", receive: Receive) -> Request:
    return Request(
        scope["state"]["peer"],
        {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]},
        dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)),
        match.groupdict(),
        receive,
    )


async def _send(response: Response, receive: Receive, send: Send) -> None:
    content, headers = response.content, []
    if isinstance(content, bytes):
        headers.append((b"content-length", b"%d" % len(content)))
    headers.append((b"content-type", response.media_type.encode()))
    if response.allow:
        headers.append((b"allow", response.allow.encode()))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    if isinstance(content, bytes):
        await _send_pieces(content, send)
        await send({"type": "http.response.body", "body": b""})
    else:
        await _stream(content, receive, send)


async def _stream(lines: Lines, receive: Receive, send: Send) -> None:
    """Ends with the lines, or when nobody listens any more."""
    sending = asyncio.create_task(_send_lines(lines, send))
    leaving = asyncio.create_task(_wait_gone(receive))
    try:
        await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sending, leaving):
            task.cancel()
        ended = await asyncio.gather(sending, leaving, return_exceptions=True)
    if isinstance(ended[0], Exception):
        raise ended[0]


async def _send_lines(lines: Lines, send: Send) -> None:
    async with aclosing(lines):
        async for line in lines:
            await _send_pieces(line, send)
    await send({"type": "http.response.body", "body": b""})


async def _send_pieces(content: bytes, send: Send) -> None:
    view = memoryview(content)  # many may wait with the same one
    for at in range(0, len(view), PIECE_BYTES):
        piece = view[at : at + PIECE_BYTES]
        await send({"type": "http.response.body", "body": piece, "more_body": True})


async def _wait_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
