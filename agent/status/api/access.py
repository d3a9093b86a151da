# SPDX-License-Identifier: MulanPSL-2.0
"""Who may use a route: by the kernel's word on the caller (`peer`)."""

import grp
import pwd
from contextlib import suppress
from enum import Enum, auto

from agent.errors import AgentError, Code
from agent.status.api.asgi import Request
from agent.status.api.peer import Peer

GROUP = "deepseek"


class Access(Enum):
    """Who may use a route."""

    ANYONE = auto()
    OPERATOR = auto()  # root, and group deepseek
    ROOT = auto()


def permit(request: Request, access: Access) -> None:
    # No browser has any business here (DNS rebinding through a forwarded socket).
    if "origin" in request.headers or "referer" in request.headers:
        raise AgentError(Code.NOT_PERMITTED, "cannot answer a request that comes from a web page")
    peer = request.peer
    if not is_permitted(peer, access):
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


def caller(request: Request) -> str:
    """The user's name, by the kernel's word."""
    uid = request.peer.uid
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


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
