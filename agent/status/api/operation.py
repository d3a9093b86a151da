# SPDX-License-Identifier: MulanPSL-2.0
"""One thing that may be asked over the socket, and how it becomes a route."""

from dataclasses import dataclass
from typing import TypeVar

import msgspec

from agent.decoding import decode_json
from agent.errors import AgentError, Code, Failure, http_status
from agent.status.api import asgi
from agent.status.api.access import Access, permit
from agent.status.api.asgi import Handler, Request, Response, Route
from agent.status.snapshot import SCHEMA

BODY_LIMIT_BYTES = 4096
NO_SUCH = {"image": "that is no name of an image", "revision": "that is no revision of a model"}
JSON = "application/json"
BIGGEST = 2**63 - 1  # of SQLite


class Accepted(msgspec.Struct, frozen=True):
    """What was asked for will be done, or has been."""

    schema: int = SCHEMA
    accepted: bool = True
    change: int = 0  # how far it has come: /v1/changes/ID


class Refusal(msgspec.Struct, frozen=True):
    """Why something is not answered or not done."""

    error: Failure
    schema: int = SCHEMA


@dataclass(frozen=True, slots=True)
class Parameter:
    """What may stand in the query: text, or a number within its bounds."""

    name: str
    kind: type
    summary: str
    least: int = 0
    most: int = BIGGEST


@dataclass(frozen=True, slots=True)
class Operation:
    """`path` with what stands in it in braces, `{npu:int}` for a number; `answer` and `body` are
    the types of the JSON that goes out and comes in."""

    name: str
    method: str
    path: str
    access: Access
    summary: str
    handler: Handler
    answer: type = Accepted
    body: type | None = None
    status: int = 200
    query: tuple[Parameter, ...] = ()
    media_type: str = JSON


def route(operation: Operation) -> Route:
    """Answers whoever may ask; each AgentError becomes its status, with code and hint."""

    async def guarded(request: Request) -> Response:
        try:
            permit(request, operation.access)
            return await operation.handler(request)
        except AgentError as error:
            return refuse(error.failure)

    return asgi.route(operation.path, operation.method, guarded)


def read_number(text: str | None, one: Parameter) -> int | None:
    """Raises AgentError for what is no number, or beyond the bounds of `one`."""
    if text is None:
        return None
    # Not int() alone: it takes "1_000", and other scripts' digits.
    if text.isascii() and text.isdecimal() and len(text) < 20:
        number = int(text)
        if one.least <= number <= one.most:
            return number
    raise AgentError(
        Code.REQUEST_INVALID,
        f"cannot understand {one.name}={text[:40]!r}: "
        f"it has to be a number from {one.least} to {one.most}",
    )


Body = TypeVar("Body")


async def read_body(request: Request, kind: type[Body]) -> Body:
    """What a request asks for; without a body, the defaults."""
    raw = await request.read_body(BODY_LIMIT_BYTES)
    try:
        return decode_json(raw or b"{}", kind)
    except msgspec.MsgspecError as error:
        known = (words for field, words in NO_SUCH.items() if f"`$.{field}`" in str(error))
        why = next(known, str(error))
        raise AgentError(Code.REQUEST_INVALID, f"cannot understand the request: {why}") from error


def answer(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, JSON)


def refuse(failure: Failure) -> Response:
    return answer(Refusal(failure), http_status(failure.code))
