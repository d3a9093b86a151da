# SPDX-License-Identifier: MulanPSL-2.0
"""What failures say, wherever in the agent they are made: found in the sources.

A message is any text that begins with "cannot ". What it holds is looked up on its own: what was
being done to files, why the configuration is refused, why an engine ended, what the system says.
"""

import ast
import ctypes
import errno
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

from pydantic_core import PydanticKnownError

from agent.config.explain import WORDS
from agent.health.acl import ACL, OTHER
from agent.health.signs import LASTING, PASSING, PASSING_LAST
from agent.language import HOLES
from agent.supply.disk import LARGER
from tests.language.strings import messages, messages_at_the_top

PACKAGE = Path(__file__).resolve().parents[2] / "agent"
# Processes of their own, whose words are for the agent, and the tables themselves.
UNHEARD = ("chinese", "npud", "evidence", "drain")
# "cannot <what>: <why>" is made of what is given to these, at this place: with any reason,
DOING = {"writing": 0, "disk_error": 1}
# or with one of their own.
WANTING = {"check_room": 0, "claim_room": 0, "only_one": 1}
# Faults of a value that pydantic words itself.
OF_PYDANTIC = (
    PydanticKnownError("greater_than", {"gt": 0}),
    PydanticKnownError("greater_than_equal", {"ge": 0}),
    PydanticKnownError("less_than", {"lt": 0}),
    PydanticKnownError("less_than_equal", {"le": 0}),
    PydanticKnownError("literal_error", {"expected": ""}),
    PydanticKnownError("enum", {"expected": ""}),
)
ERRNOS = (
    *(errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO),
    *(errno.ECONNREFUSED, errno.ECONNRESET, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ETIMEDOUT),
    *(errno.EISDIR, errno.ENOTDIR, errno.EADDRINUSE),
)
OF_NAMES = (socket.EAI_NONAME, socket.EAI_AGAIN, socket.EAI_NODATA)
SIGNS = (*PASSING, *PASSING_LAST, *LASTING)
# Where the second part of a message is written, which is a sentence of its own.
WHYS = (
    "health/words.py",
    "supply/bundle/opened.py",
    "supply/settling.py",
    "supply/verify.py",
    "supply/whole.py",
)
# Where a ValueError says in a person's words what is wrong with a file.
READING = ("config/", "host/reading.py", "json_text.py")
# Where faults of several keys together are worded.
TOGETHER = "config/schema.py"
# Where words are given to `why =` for such a message.
UNREADABLE = "config/toml.py"
# Put together of several.
PARTS = {
    "nobody takes the connection",
    "it stands still",
    "{0} (and {1} more)",
    LARGER,
    " and {0} GiB for the image",
    " and {0} GiB are to stay free",
    " and {0} GiB for what else is being brought",
    " and {0} GiB for what else is being brought and {1} GiB are to stay free",
    " and {0} GiB for the image and {1} GiB are to stay free",
    # files of a model, and several of them
    "{0}: missing",
    "{0}: missing; {1}",
    "{0}: {1} bytes, not {2}",
    "{0}: {1} bytes, not {2}; {3}",
    "{0}: its content is not what it was",
    "{0}: its content is not what it was; {1}",
    "unknown key{0}",
    '; did you mean "{0}"?',
    "; allowed: {0}",
    "the environment's {0}",
    "[Errno {0}] {1}",
    "{0} (ACL {1})",
    "cannot start {0}: {1}",
    "cannot keep {0} serving: {1}",
}


def failures() -> set[str]:
    """Templates of all that is in a failure's message."""
    found = {*PARTS, *WORDS.values(), *_of_the_system(), *_of_pydantic(), *_of_engines()}
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).as_posix()
        if not name.startswith(UNHEARD):
            found |= set(_of_file(name, ast.parse(path.read_text(encoding="utf-8"))))
    return found


def _of_file(name: str, tree: ast.Module) -> Iterator[str]:
    yield from (text for text in messages(tree) if re.match(r"cannot \S", text))
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=called), args=given) if called in DOING:
                for what in messages_at_the_top(given[DOING[called]]):
                    yield f"cannot {what}: {{{len(HOLES.findall(what))}}}"
            case ast.Call(func=ast.Name(id=called), args=given) if called in WANTING:
                yield from messages_at_the_top(given[WANTING[called]])
            case ast.Call(func=ast.Name(id="damaged"), args=[_, why]):
                yield from messages_at_the_top(why)
            case ast.Call(func=ast.Name(id="ValueError"), args=[words]) if name.startswith(READING):
                yield from messages_at_the_top(words)
            case ast.Call(func=ast.Name(id="_about"), args=[_, words]) if name == TOGETHER:
                yield from messages_at_the_top(words)
            case ast.Assign(targets=[ast.Name(id="why")], value=words) if name == UNREADABLE:
                yield from messages_at_the_top(words)
            case _:
                pass
    if name in WHYS:
        yield from messages(tree)


def _of_the_system() -> Iterator[str]:
    """libc's own words, as this system has them."""
    yield from map(os.strerror, ERRNOS)
    say = ctypes.CDLL(None).gai_strerror
    say.restype = ctypes.c_char_p
    yield from (say(number).decode() for number in OF_NAMES)


def _of_pydantic() -> Iterator[str]:
    """As `config/explain` has them."""
    for one in OF_PYDANTIC:
        said = one.message_template.replace("Input should", "it must")
        yield re.sub(r"\{\w+\}", "{0}", said)


def _of_engines() -> Iterator[str]:
    for sign in SIGNS:
        yield sign.why.replace("{what}", "{0}")
    yield from (words for _, words in (*ACL.values(), OTHER))
