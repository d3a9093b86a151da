# SPDX-License-Identifier: MulanPSL-2.0
"""The stream that a front unit's main process reads (`agent.attach`)."""

from typing import assert_never

import msgspec

from agent import exits
from agent.errors import Remedy
from agent.model import Phase, Step
from agent.status.api.asgi import Lines
from agent.status.snapshot import Board, InstanceView
from agent.supplies import Item, Progress

# A line at least this often, so that attach can tell a silent agent from a quiet one.
ATTACH_LINE_S = 5.0
# From one phase of a start to the next; there is more to tell of loading and of fetching (in MiB).
PROGRESS_STEP = 10**9


class AttachLine(msgspec.Struct):
    """One line of the attach stream; attach.py reads it with the standard library alone."""

    phase: Phase
    status: str
    ready: bool
    progress: int  # grows when the start has come further than ever; start_wait is measured by it
    start_wait_s: float
    exit: int | None = None  # leave with this status


async def attach_lines(board: Board, name: str, start_wait_s: float) -> Lines:
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
    return AttachLine(view.phase, view.status, ready, _progress(view), start_wait_s, leave)


def _progress(view: InstanceView) -> int:
    """How far a start has come. A loop of dying and starting again gets no further."""
    progress = PROGRESS_STEP * _stage(view.phase)
    if view.start is not None:
        step = list(Step).index(view.start.step)
        progress += 101 * step + (view.start.percent or 0)
    if view.phase is Phase.FETCHING and view.fetch is not None:
        progress += _fetched(view.fetch.progress)
    return progress


def _fetched(progress: Progress | None) -> int:
    """The image comes after the model."""
    if progress is None:
        return 0
    item = 1 + (Item.MODEL, Item.IMAGE).index(progress.item)
    return item * PROGRESS_STEP // 4 + progress.done_bytes // 2**20


def _stage(phase: Phase) -> int:
    match phase:
        case Phase.IDLE | Phase.HELD | Phase.STOPPING | Phase.BACKOFF:
            return 0
        case Phase.WAITING:
            return 1
        case Phase.STARTING:
            return 2
        case Phase.FETCHING:
            return 3
        case Phase.LOADING:
            return 4
        case Phase.SERVING:
            return 5
        case _:
            assert_never(phase)


def _line(line: AttachLine) -> bytes:
    return msgspec.json.encode(line) + b"\n"
