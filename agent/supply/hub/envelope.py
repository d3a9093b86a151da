# SPDX-License-Identifier: MulanPSL-2.0
"""Refusals in the shape of modelscope.cn: in comes an answer, out what it means. Pure.

{Code, Success, Message, RequestId, Data}, with status 404, or 200. Only what says that a record
is not there means that; all else may pass. The code alone does not tell (seen by public clients,
2023 to 2026): 10010205001 comes with "...: record not found", and from a hub that has too much to
do with "...: Error 1461: Can't create more than max_prepared_stmt_count statements"; a list fails
with "...: rpc error: code = DeadlineExceeded" as well (modelscope/modelscope#1120). 10990101004, a
list that could not be had, was seen for a revision that is not there, and so were its words for
repositories that are. 10010200001 is for who may not read a private or gated one.
"""

from dataclasses import dataclass

from agent.errors import Code
from agent.supply.hub.listing import field, text_field

FINE = (200, None)
GONE = (404, 410)  # as HTTP has it, of servers that copy the shape
MAY_NOT_READ = 10010200001
NO_RECORD = "record not found"
WORDS_LIMIT = 200


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is nothing in it."""

    code: Code  # SOURCE_NOT_FOUND, SOURCE_REFUSED or SOURCE_UNREACHABLE
    words: str  # of the hub, in one short line


def read_refusal(answer: object) -> Refusal | None:
    """None: it refuses nothing, or has another shape."""
    code, message = field(answer, "Code"), text_field(answer, "Message")
    failed = field(answer, "Success") is False
    # Its codes are numbers: {"Code": "NoSuchKey"} is an object store's, of what is not there.
    if not failed and (code in FINE or not isinstance(code, int)):
        return None
    words = _one_line(message) or _one_line(f"code {code}")
    if code in GONE or NO_RECORD in message.lower():
        return Refusal(Code.SOURCE_NOT_FOUND, words)
    if code == MAY_NOT_READ:
        return Refusal(Code.SOURCE_REFUSED, words)
    return Refusal(Code.SOURCE_UNREACHABLE, words)


def _one_line(text: str) -> str:
    return "".join(filter(str.isprintable, text[:WORDS_LIMIT])).strip()
