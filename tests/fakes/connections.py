# SPDX-License-Identifier: MulanPSL-2.0
"""The connections of a double's server, each of which is closed, whatever becomes of its task."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress

# Of the loop, from an accept(2) to `take` (Python 3.11: two, and one to spare).
HANDING_OVER_TURNS = 3

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]]


class Connections:
    """`take` is for asyncio's servers. With a coroutine there, one that is cancelled before its
    first step never runs, and its socket is left to the garbage collector, which complains in
    another test."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._open[task] = writer
        task.add_done_callback(self._close)

    def _close(self, task: "asyncio.Task[None]") -> None:
        self._open.pop(task).close()

    async def end(self, server: asyncio.Server | None) -> None:
        """Ends the server as well: of one that is closed asyncio loses what was accepted just now
        (3.11: an assertion fails, and nobody is told)."""
        for listener in server.sockets if server is not None else ():
            asyncio.get_running_loop().remove_reader(listener.fileno())
        for _ in range(HANDING_OVER_TURNS):
            await asyncio.sleep(0)
        if server is not None:
            server.close()
        open_now = dict(self._open)
        for task in open_now:
            task.cancel()
        await asyncio.gather(*open_now, return_exceptions=True)
        for writer in open_now.values():
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
