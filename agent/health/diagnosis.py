# SPDX-License-Identifier: MulanPSL-2.0
"""Why an engine ended, from the last lines of its log. Pure: lines in, a `Failure` or None out.

None when nothing in them is known: then it stays what was seen, an engine that died.
"""

import re
from collections.abc import Iterable, Sequence

from agent.errors import Failure, Remedy, remedy
from agent.health.acl import ACL, HINTS, OTHER
from agent.health.signs import LASTING, PASSING, PASSING_LAST, Sign

LINE_LIMIT = 2000
# "error code is 507015", "error code 507033", "ret=507899", "runtime result = 207001".
_ACL = re.compile(
    r"(?:error code|ret(?:code)?|result)\b[ :=]{0,3}(?:is )?(?P<code>[125]0[07]\d{3})\b"
)


def diagnose(instance: str, lines: Iterable[str], served: bool) -> Failure | None:
    """`served`: it had answered before. Then nothing that lasts can be the reason, and its log may
    hold what users have written."""
    cut = [line[:LINE_LIMIT] for line in lines]
    found = _first(PASSING, cut) or _acl(cut) or _first(PASSING_LAST, cut)
    if found is None and not served:
        found = _first(LASTING, cut)
    if found is None or (served and remedy(found.code) is Remedy.CHANGE):
        return None
    verb = f"keep {instance} serving" if served else f"start {instance}"
    return Failure(found.code, f"cannot {verb}: {found.message}", found.hint)


def _first(signs: Sequence[Sign], lines: Sequence[str]) -> Failure | None:
    for sign in signs:
        for line in lines:
            if (found := sign.pattern.search(line)) is not None:
                return Failure(sign.code, sign.why.format(what=_what(found)), sign.hint)
    return None


def _what(found: re.Match[str]) -> str:
    """The group that took part, else all that was found; fit for a line on a terminal."""
    groups = [text for text in found.groups() if text]
    text = (groups[0] if groups else found[0]).partition(" [type=")[0]  # pydantic's details
    return " ".join("".join(c if c.isprintable() else " " for c in text).split()).rstrip(" .,:")


def _acl(lines: Sequence[str]) -> Failure | None:
    """The first code that says something: what follows comes of it."""
    for line in lines:
        for found in _ACL.finditer(line):
            code = int(found["code"])
            known = ACL.get(code, OTHER if 507000 <= code < 508000 else None)
            if known is not None:
                kind, words = known
                return Failure(kind, f"{words} (ACL {code})", HINTS[kind])
    return None
