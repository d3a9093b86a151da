# SPDX-License-Identifier: MulanPSL-2.0
"""Who comes to the agent's socket: clients that ask in order, those that watch, and those that mean
no good. Each is a process: `python -m tests.visitors KIND SOCKET --seconds 3 [--uid 1000]`.

Out: one JSON object when the time is over. All are bounded in time, connections and pace.
Standard library only, so that a host of the lab can run it as it is.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

HEALTH = b"GET /v1/health HTTP/1.1\r\nHost: a\r\n\r\n"
STATUS = HEALTH.replace(b"health", b"status")
WATCH = HEALTH.replace(b"health", b"watch")
WATCH_STATUS = HEALTH.replace(b"health", b"watch/status")
POST = b"POST /v1/npus/999/quarantine HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
ANSWER_S = 2.0  # so long a bad one waits for what is answered


@dataclass(frozen=True, slots=True)
class Wish:
    """What one process is to do."""

    path: str
    until: float  # monotonic
    width: int  # visits at a time
    pause_s: float  # of each of them, before the next
    target: str


Visit = Callable[[Wish], Awaitable[None]]


@contextlib.asynccontextmanager
async def connected(
    path: str, limit: int = 2**16
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_unix_connection(path, limit=limit)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


# --- those that mean no good ---------------------------------------------------------------------


def say(*texts: bytes) -> Visit:
    """One of them, and then it reads what it is answered."""

    async def visit(wish: Wish) -> None:
        async with connected(wish.path) as (reader, writer):
            writer.write(random.choice(texts))  # noqa: S311 - any of them
            async with asyncio.timeout(ANSWER_S):
                while await reader.read(2**16):
                    pass

    return visit


async def garble(wish: Wish) -> None:
    async with connected(wish.path) as (reader, writer):
        writer.write(os.urandom(4096))
        async with asyncio.timeout(ANSWER_S):
            await reader.read()


def stay(text: bytes, reads: int = 0) -> Visit:
    """Says it, and then stays, reading `reads` bytes ten times a second."""

    async def visit(wish: Wish) -> None:
        async with connected(wish.path, limit=1) as (reader, writer):
            writer.write(text)
            while time.monotonic() < wish.until:
                await asyncio.sleep(0.1)
                if reads and not await reader.read(reads):
                    return
                if reader.at_eof() or writer.is_closing():
                    return

    return visit


BAD: dict[str, Visit] = {
    "garbage": garble,
    "half": stay(b"GET /v1/sta"),
    "crowd": stay(b""),
    "pipelined": say(HEALTH * 100, STATUS * 20, HEALTH + b"\x00" * 2**18, WATCH + STATUS * 5000),
    "headers": say(
        b"GET / HTTP/1.1\r\nX: " + b"x" * 2**20,
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 2**17,
        b"GET /" + b"x" * 2**18,
    ),
    "lengths": say(
        POST + b"Content-Length: 5\r\n\r\n{}" + b" " * 2**18,
        POST + b"Content-Length: 100\r\n\r\n{}",
        POST + b"Content-Length: -1\r\n\r\n{}",
        POST + b"Content-Length: 99999999999999999999\r\n\r\n{}",
        POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    ),
    "chunked": say(
        CHUNKED + b"zz\r\n{}\r\n",
        CHUNKED + b"-1\r\n{}\r\n",
        CHUNKED + b"ffffffffffffffff\r\n" + b"x" * 2**16,
        CHUNKED + b"2;" + b"x" * 2**18,
        CHUNKED + b"1\r\n \r\n" * 2**12,
        CHUNKED + b"2\r\n{}0\r\n\r\n",
    ),
    "slow-status": stay(STATUS, reads=100),
    "deaf-status": stay(STATUS),
    "slow-watch": stay(WATCH, reads=100),
    "deaf-watch": stay(WATCH_STATUS),
}


async def attack(wish: Wish, visit: Visit) -> dict[str, object]:
    visits = refused = 0

    async def come_again() -> None:
        nonlocal visits, refused
        while time.monotonic() < wish.until:
            visits += 1
            try:
                async with asyncio.timeout(max(0.0, wish.until - time.monotonic()) + ANSWER_S):
                    await visit(wish)
            except (OSError, TimeoutError):
                refused += 1
            await asyncio.sleep(wish.pause_s)

    await asyncio.gather(*(come_again() for _ in range(wish.width)))
    return {"visits": visits, "broken off": refused}


# --- the others ----------------------------------------------------------------------------------


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, int]:
    """Status and length."""
    head = await reader.readuntil(b"\r\n\r\n")
    fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
    length = int(fields[b"content-length"])
    await reader.readexactly(length)
    return int(head.split()[1]), length


async def ask(wish: Wish) -> dict[str, object]:
    """One request after the other, each over a connection of its own, as deepseekctl does."""
    request = HEALTH.replace(b"/v1/health", wish.target.encode())
    times_ms: list[float] = []
    codes: set[int] = set()
    longest = 0
    while time.monotonic() < wish.until:
        began = time.perf_counter()
        async with connected(wish.path) as (reader, writer):
            writer.write(request)
            code, length = await read_answer(reader)
            times_ms.append((time.perf_counter() - began) * 1000)
        codes.add(code)
        longest = max(longest, length)
        await asyncio.sleep(wish.pause_s)
    return {"times_ms": times_ms, "codes": sorted(codes), "bytes": longest}


async def watch(wish: Wish) -> dict[str, object]:
    """As many as wished, which read all that comes."""
    got = [0] * wish.width
    request = HEALTH.replace(b"/v1/health", wish.target.encode())

    async def listen(number: int) -> None:
        async with connected(wish.path) as (reader, writer):
            writer.write(request)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wish.until - time.monotonic()):
                    while part := await reader.read(2**20):
                        got[number] += part.count(b"\ndata: ")

    await asyncio.gather(*(listen(number) for number in range(wish.width)))
    return {"frames": sum(got), "least": min(got)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("ask", "watch", *BAD))
    parser.add_argument("socket")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--width", type=int, default=4)
    parser.add_argument("--pause-s", type=float, default=0.05)
    parser.add_argument("--target", default="/v1/status")
    parser.add_argument("--uid", type=int, default=os.getuid())
    options = parser.parse_args()
    if options.uid != os.getuid():
        os.setgroups([])
        os.setgid(options.uid)
        os.setuid(options.uid)
    until = time.monotonic() + options.seconds
    wish = Wish(options.socket, until, options.width, options.pause_s, options.target)
    match options.kind:
        case "ask":
            work = ask(wish)
        case "watch":
            work = watch(wish)
        case _:
            work = attack(wish, BAD[options.kind])
    json.dump(asyncio.run(work), sys.stdout)


if __name__ == "__main__":
    main()
