# SPDX-License-Identifier: MulanPSL-2.0
"""The socket API under /v1/: reads the board, hands requests to the writer.

Every route carries who may use it; the caller is known by the kernel's word (`peer`).
"""

import grp
import pwd
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from enum import Enum, auto
from typing import Annotated, Protocol, TypeVar, assert_never

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from agent import exits
from agent.errors import HTTP_STATUS, AgentError, Code, Failure, Remedy
from agent.model import Phase
from agent.status.peer import Peer
from agent.status.snapshot import SCHEMA, Board, InstanceView, npus_answer

GROUP = "deepseek"
# A line at least this often, so that attach can tell a silent agent from a quiet one.
ATTACH_LINE_S = 5.0
BODY_LIMIT_BYTES = 4096


class Control(Protocol):
    """What the API asks of the writer. Each raises AgentError when it refuses."""

    async def attach(self, instance: str, resumed: bool) -> None:
        """attach has connected: its front unit wishes the instance now. `resumed`: not for the
        first time."""
        ...

    async def restart(self, instance: str) -> None: ...

    async def replan(self, instance: str) -> None:
        """A restart, when it brings more or better NPUs than it has."""
        ...

    async def refresh_npus(self) -> None: ...

    async def quarantine(self, npus: tuple[int, ...], by: str, reason: str) -> None: ...

    async def clear(self, npus: tuple[int, ...], by: str) -> None:
        """No quarantine, and no reason for one, until a fault comes again."""
        ...

    async def trust_host(self, by: str) -> None:
        """It is not suspected any more."""
        ...

    def start_wait_s(self) -> float: ...


class Access(Enum):
    """Who may use a route."""

    ANYONE = auto()
    OPERATOR = auto()  # root, and group deepseek
    ROOT = auto()


class AttachLine(msgspec.Struct):
    """One line of the attach stream; attach.py reads it with the standard library alone."""

    phase: Phase
    status: str
    ready: bool
    progress: int  # grows when the start has come further than ever; start_wait is measured by it
    start_wait_s: float
    exit: int | None = None  # leave with this status


class QuarantineRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Why an NPU shall not be used."""

    reason: Annotated[str, msgspec.Meta(max_length=200)] = ""


def build_app(board: Board, control: Control) -> Starlette:
    """The ASGI application."""

    async def show_status(request: Request) -> Response:
        return _json(board.snapshot)

    async def show_health(request: Request) -> Response:
        return _json({"schema": SCHEMA, "status": "ok"})

    async def restart(request: Request) -> Response:
        await control.restart(request.path_params["name"])
        return _json({"schema": SCHEMA, "accepted": True}, 202)

    async def replan(request: Request) -> Response:
        await control.replan(request.path_params["name"])
        return _json({"schema": SCHEMA, "accepted": True}, 202)

    async def show_npus(request: Request) -> Response:
        await control.refresh_npus()
        return _json(npus_answer(board.snapshot))

    async def quarantine(request: Request) -> Response:
        asked = await _body(request, QuarantineRequest)
        await control.quarantine((request.path_params["npu"],), _caller(request), asked.reason)
        return _json({"schema": SCHEMA, "accepted": True})

    async def clear(request: Request) -> Response:
        await control.clear((request.path_params["npu"],), _caller(request))
        return _json({"schema": SCHEMA, "accepted": True})

    async def trust_host(request: Request) -> Response:
        await control.trust_host(_caller(request))
        return _json({"schema": SCHEMA, "accepted": True})

    async def attach(request: Request) -> Response:
        name = request.path_params["name"]
        await control.attach(name, request.query_params.get("resumed") == "1")
        lines = _attach_lines(board, name, control.start_wait_s())
        return StreamingResponse(lines, media_type="application/x-ndjson")

    one = "/v1/instances/{name}"
    return Starlette(
        routes=[
            _route("/v1/status", "GET", Access.ANYONE, show_status),
            _route("/v1/health", "GET", Access.ANYONE, show_health),
            _route(f"{one}/attach", "GET", Access.ROOT, attach),
            _route(f"{one}/restart", "POST", Access.OPERATOR, restart),
            _route(f"{one}/replan", "POST", Access.OPERATOR, replan),
            _route("/v1/npus", "GET", Access.ANYONE, show_npus),
            _route("/v1/npus/{npu:int}/quarantine", "POST", Access.OPERATOR, quarantine),
            _route("/v1/npus/{npu:int}/clear", "POST", Access.OPERATOR, clear),
            _route("/v1/host/trust", "POST", Access.OPERATOR, trust_host),
        ]
    )


Handler = Callable[[Request], Awaitable[Response]]


def _route(path: str, method: str, access: Access, handler: Handler) -> Route:
    async def guarded(request: Request) -> Response:
        try:
            _permit(request, access)
            return await handler(request)
        except AgentError as error:
            return _refuse(error.failure)

    return Route(path, guarded, methods=[method])


def _permit(request: Request, access: Access) -> None:
    # No browser has any business here (DNS rebinding through a forwarded socket).
    if "origin" in request.headers or "referer" in request.headers:
        raise AgentError(Code.NOT_PERMITTED, "cannot answer a request that comes from a web page")
    peer = request.state.peer
    if not isinstance(peer, Peer) or not is_permitted(peer, access):
        raise AgentError(
            Code.NOT_PERMITTED,
            f"cannot do this for uid {peer.uid}",
            f"run it as root, or as a member of the group {GROUP}",
        )


def is_permitted(peer: Peer, access: Access) -> bool:
    """Whether the kernel's word on the caller is enough for `access`."""
    match access:
        case Access.ANYONE:
            return True
        case Access.ROOT:
            return peer.uid == 0
        case Access.OPERATOR:
            return peer.uid == 0 or _group_id() in _groups(peer)


def _caller(request: Request) -> str:
    """The user's name, by the kernel's word."""
    uid = request.state.peer.uid
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


Body = TypeVar("Body")


async def _body(request: Request, kind: type[Body]) -> Body:
    """What a request asks for; without a body, the defaults."""
    raw = b""
    async for part in request.stream():
        raw += part
        if len(raw) > BODY_LIMIT_BYTES:
            raise AgentError(Code.REQUEST_INVALID, "cannot take a request as long as that")
    try:
        return msgspec.json.decode(raw or b"{}", type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise AgentError(Code.REQUEST_INVALID, f"cannot understand the request: {error}") from error


def _group_id() -> int | None:
    try:
        return grp.getgrnam(GROUP).gr_gid
    except KeyError:
        return None


def _groups(peer: Peer) -> set[int]:
    """The caller's groups from /proc while it lives; SO_PEERCRED alone has the primary one."""
    groups = {peer.gid}
    with suppress(OSError, ValueError), open(f"/proc/{peer.pid}/status", encoding="ascii") as lines:
        fields = dict(line.split(":", 1) for line in lines if ":" in line)
        if int(fields["Uid"].split()[0]) == peer.uid:  # not another process with a reused pid
            groups |= {int(word) for word in fields["Groups"].split()}
    return groups


async def _attach_lines(board: Board, name: str, start_wait_s: float) -> AsyncIterator[bytes]:
    seen = board.snapshot
    while not board.closed:
        view = seen.instance(name)
        if view is None:
            gone = f"cannot serve {name}: its profile is gone"
            yield _line(AttachLine(Phase.HELD, gone, False, 0, start_wait_s, exits.PERSON))
            return
        line = _attach_line(view, start_wait_s)
        yield _line(line)
        if line.exit is not None:
            return
        seen = await board.wait(seen, ATTACH_LINE_S)


def _attach_line(view: InstanceView, start_wait_s: float) -> AttachLine:
    leave: int | None = None
    if view.phase is Phase.HELD:
        person = view.failure is not None and view.failure.remedy is Remedy.PERSON
        leave = exits.PERSON if person else exits.HELD
    ready = view.phase is Phase.SERVING
    return AttachLine(view.phase, view.status, ready, _progress(view.phase), start_wait_s, leave)


def _progress(phase: Phase) -> int:
    """How far a start has come. A loop of dying and starting again gets no further."""
    match phase:
        case Phase.IDLE | Phase.HELD | Phase.STOPPING | Phase.BACKOFF:
            return 0
        case Phase.WAITING:
            return 1
        case Phase.STARTING:
            return 2
        case Phase.LOADING:
            return 3
        case Phase.SERVING:
            return 4
        case _:
            assert_never(phase)


def _line(line: AttachLine) -> bytes:
    return msgspec.json.encode(line) + b"\n"


def _json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def _refuse(failure: Failure) -> Response:
    status = HTTP_STATUS.get(failure.code, 500)
    return _json({"schema": SCHEMA, "error": failure}, status)
