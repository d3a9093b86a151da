# SPDX-License-Identifier: MulanPSL-2.0
"""One segment of a file: from an answer of a source to its place in the part. Nothing that the
source says about the bytes is believed: only those are taken that were asked for."""

import re
from collections.abc import Callable, Iterator

import httpx

from agent.supply.body import read_body
from agent.supply.disk import disk_error
from agent.supply.hub.listing import RemoteFile
from agent.supply.net import HubClient, SourceUnreachable
from agent.supply.parts import Part, Segment

CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")


class RangesIgnored(Exception):
    """The source sends what it likes, so the file has to come as a whole."""


class WrongContent(Exception):
    """What comes cannot be the file that was listed; the text tells why."""


def fetch_segment(
    client: HubClient,
    file: RemoteFile,
    part: Part,
    segment: Segment,
    buffer: memoryview,
    go_on: Callable[[], bool],
) -> None:
    """Ends when the segment is there, or nobody wants it any more (`go_on`, `segment.live`).

    Raises AgentError, RangesIgnored, WrongContent.
    """
    whole = segment.start == segment.done == 0 and segment.end == file.size
    asked = {} if whole else {"Range": f"bytes={segment.done}-{segment.end - 1}"}
    with client.stream(file.url, asked) as response:
        _check_answer(response, file, segment, whole=whole)
        for piece in _pieces(client, response, segment, buffer):
            if not segment.live or not go_on():
                return
            if segment.done + len(piece) > segment.end:
                raise WrongContent(f"more than {file.size} bytes come")
            try:
                part.write(segment, piece)
            except OSError as error:
                raise disk_error(error, f"write {part.path}") from error
    if segment.done < segment.end:
        raise _cut(client, f"{file.path} was cut short")


def _pieces(
    client: HubClient, response: httpx.Response, segment: Segment, buffer: memoryview
) -> Iterator[bytes | memoryview]:
    """An error of the socket is not one of the disk."""
    wanted = segment.end - segment.done
    try:
        yield from client.pace().timed(read_body(response, wanted, buffer, client.silence_s))
    except TimeoutError as error:
        raise _cut(client, "it stands still") from error
    except OSError as error:
        raise _cut(client, str(error)) from error


def _cut(client: HubClient, why: str) -> SourceUnreachable:
    return SourceUnreachable(
        f"cannot fetch from {client.host}: {why}",
        "it goes on from there; when this repeats: is a proxy or a firewall on the way?",
    )


def _check_answer(
    response: httpx.Response, file: RemoteFile, segment: Segment, *, whole: bool
) -> None:
    if response.headers.get("content-encoding", "identity") != "identity":
        raise WrongContent("it comes compressed, though that was not asked for")
    match response.status_code:
        case 206 if not whole:
            _check_range(response.headers.get("content-range", ""), file, segment)
        case 200 if whole:
            length = response.headers.get("content-length", "")
            if length.isdecimal() and int(length[:20]) != file.size:
                raise WrongContent(f"it has {length[:20]} bytes, and is listed with {file.size}")
        case 200:
            raise RangesIgnored
        case 416:
            raise WrongContent(f"it is shorter than the {file.size} bytes of the list")
        case _:
            raise WrongContent("a part came that was not asked for")


def _check_range(text: str, file: RemoteFile, segment: Segment) -> None:
    found = CONTENT_RANGE.fullmatch(text.strip())
    if found is None or int(found[1]) != segment.done:
        raise RangesIgnored
    if found[3] != "*" and int(found[3]) != file.size:
        raise WrongContent(f"it has {found[3]} bytes, and is listed with {file.size}")
