# SPDX-License-Identifier: MulanPSL-2.0
"""Runs a short-lived child process with a deadline, and Python children of our own package."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from agent.errors import Code, HostError

# Enough for any answer that we ask for; a child that prints more is cut off.
OUTPUT_LIMIT_BYTES = 4 * 1024 * 1024
PIECE_BYTES = 64 * 1024
# After SIGKILL a child is reaped at once, unless it hangs in the kernel: then it is left alone.
REAP_DEADLINE_S = 2.0


@dataclass(frozen=True, slots=True)
class Completed:
    """What a child printed and how it ended; `status` is negative for a signal, as in subprocess,
    and None when it was killed because its deadline had passed."""

    status: int | None
    output: str
    errors: str


async def run(
    argv: Sequence[str],
    *,
    deadline_s: float,
    environment: Mapping[str, str] | None = None,
) -> Completed:
    """Runs `argv` without standard input. Never raises for what the child does; HostError when it
    cannot be started."""
    try:
        child = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **(environment or {})},
        )
    except OSError as error:
        raise HostError(Code.INTERNAL, f"cannot run {argv[0]}: {error}") from error
    try:
        async with asyncio.timeout(deadline_s):
            output, errors = await asyncio.gather(_read(child.stdout), _read(child.stderr))
            status = await child.wait()
    except TimeoutError:
        output, errors, status = b"", f"no answer within {deadline_s:g} s".encode(), None
    finally:
        await _end(child)
    return Completed(status, output.decode(errors="replace"), errors.decode(errors="replace"))


async def stream(argv: Sequence[str]) -> AsyncGenerator[bytes, None]:
    """What `argv` prints, in pieces of at most PIECE_BYTES, until it ends; whoever does not ask for
    the next piece makes it wait. Close it (contextlib.aclosing): that ends the child. HostError
    when it cannot be started."""
    try:
        child = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=PIECE_BYTES,
        )
    except OSError as error:
        raise HostError(Code.INTERNAL, f"cannot run {argv[0]}: {error}") from error
    try:
        while child.stdout is not None and (piece := await child.stdout.read(PIECE_BYTES)):
            yield piece
    finally:
        await _end(child)


async def _read(stream: asyncio.StreamReader | None) -> bytes:
    """To the end; what is beyond the limit is read and dropped, so that the child can end."""
    kept = bytearray()
    while stream is not None and (piece := await stream.read(PIECE_BYTES)):
        kept += piece[: OUTPUT_LIMIT_BYTES - len(kept)]
    return bytes(kept)


async def _end(child: asyncio.subprocess.Process) -> None:
    if child.returncode is None:
        with suppress(ProcessLookupError):
            child.kill()
        with suppress(TimeoutError):
            async with asyncio.timeout(REAP_DEADLINE_S):
                await child.wait()
    # A grandchild may hold the other ends of the pipes; asyncio has no public way to close ours.
    child._transport.close()  # type: ignore[attr-defined]
    await asyncio.sleep(0)  # it closes them in the loop's next turn


async def run_module(
    module: str,
    arguments: Sequence[str],
    *,
    deadline_s: float,
    environment: Mapping[str, str] | None = None,
) -> Completed:
    """Runs `python -m module` of our own package, with the import path of this process: libraries
    that are too big for the resident daemon (pydantic, podman-py) live in such children."""
    return await run(
        (sys.executable, "-sP", "-m", module, *arguments),
        deadline_s=deadline_s,
        environment={
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            **(environment or {}),
        },
    )
