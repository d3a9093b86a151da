# SPDX-License-Identifier: MulanPSL-2.0
"""agentd of a lab host as awaits.py runs it: the package's own, with a look at each point at which
a task of it waits. Such a point is the stack of lines of ours from the task to the `await`.

While `RECORD` is there, each point is written to it once. When `KILL` names one, the process is
gone the next time it comes to it, with SIGKILL, and `KILL` with it.
"""

import asyncio
import asyncio.events
import os
import signal
import sys
from collections.abc import Coroutine, Generator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

FOLDER = Path("/run/deepseek-agent/lab-awaits")
RECORD = FOLDER / "record"
KILL = FOLDER / "kill"
LAUNCHER = Path("/usr/libexec/deepseek-agent/agentd")

_recorded: set[str] = set()


class Watched(Coroutine[Any, Any, Any]):
    """A coroutine, and what it waits for each time that it gives way."""

    def __init__(self, inner: Coroutine[Any, Any, Any]) -> None:
        self._inner = inner

    def send(self, value: Any) -> Any:
        waited_for = self._inner.send(value)
        reach(point_of(self._inner))
        return waited_for

    def throw(self, kind: Any, value: Any = None, trace: TracebackType | None = None, /) -> Any:
        waited_for = self._inner.throw(kind if value is None else value)
        reach(point_of(self._inner))
        return waited_for

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._inner.__await__()


def point_of(awaiting: object) -> str:
    """The lines of ours, outermost first; empty when there is none."""
    lines = []
    while awaiting is not None:
        frame = getattr(awaiting, "cr_frame", None) or getattr(awaiting, "gi_frame", None)
        if frame is not None:
            _, ours, name = frame.f_code.co_filename.rpartition("/agent/")
            if ours:
                lines.append(f"{name}:{frame.f_lineno}")
        awaiting = getattr(awaiting, "cr_await", None) or getattr(awaiting, "gi_yieldfrom", None)
    return " > ".join(lines)


def reach(point: str) -> None:
    if not point:
        return
    with suppress(FileNotFoundError):
        if KILL.read_text() == point:
            KILL.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
    if point not in _recorded and RECORD.exists():
        _recorded.add(point)
        with RECORD.open("a") as stream:
            stream.write(f"{point}\n")


def watch_tasks() -> None:
    """Those of every loop that is made from now on."""
    make = asyncio.events.new_event_loop

    def new_event_loop() -> asyncio.AbstractEventLoop:
        loop = make()
        loop.set_task_factory(
            lambda loop, inner, **options: asyncio.Task(
                Watched(inner),
                loop=loop,
                **options,
            )
        )
        return loop

    asyncio.events.new_event_loop = new_event_loop


if __name__ == "__main__":
    watch_tasks()
    sys.argv[0] = str(LAUNCHER)
    exec(compile(LAUNCHER.read_text(), str(LAUNCHER), "exec"))  # noqa: S102 - as it is installed
