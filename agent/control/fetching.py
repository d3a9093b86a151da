# SPDX-License-Identifier: MulanPSL-2.0
"""Has brought what instances lack, and keeps what is to be told of it. Called by the pilot; what
comes of it is put into the writer's queue.

For one that shall serve, or because a person asked for it ahead of time: then it goes on also when
nobody wants it to serve.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, assert_never

import structlog

from agent.control.events import EventLog
from agent.control.messages import FetchDone, FetchMoved, Message
from agent.control.tasks import Tasks
from agent.errors import AgentError, Code, Failure
from agent.model import Phase
from agent.policy.instance import died
from agent.policy.state import InstanceState
from agent.ports import Supplier
from agent.status.snapshot import FetchEnd, FetchView
from agent.supplies import Order, Progress, Purpose, Report

log = structlog.get_logger(__name__)


@dataclass
class FetchSeen:
    """What the writer knows of the supply of one instance. `lacks` is by its latest plan."""

    lacks: Order | None = None
    why: Failure | None = None  # the plan's words on that
    order: Order | None = None  # that is being carried out
    task: "asyncio.Task[None] | None" = None
    asked: bool = False  # by a person
    began_at: float = 0.0  # seconds since the epoch
    progress: Progress | None = None
    end: FetchEnd | None = None  # of the latest


class Wanted(Protocol):
    """As much of a record as is needed here."""

    fetch: FetchSeen

    @property
    def name(self) -> str: ...


class Fetching:
    """`put` is the writer's queue."""

    def __init__(
        self, supplier: Supplier, put: Callable[[Message], None], tasks: Tasks, events: EventLog
    ) -> None:
        self._supplier = supplier
        self._put = put
        self._tasks = tasks
        self._events = events

    def begin(self, record: Wanted, order: Order, *, asked: bool = False) -> None:
        """Carries `order` out, unless that is under way, alone or with what is there by now;
        another one takes its place."""
        seen = record.fetch
        seen.asked = seen.asked or asked
        if seen.order is not None and _is_part(order, seen.order):
            return
        if seen.task is not None:
            seen.task.cancel()
        seen.order, seen.progress, seen.began_at = order, None, time.time()
        seen.task = self._tasks.spawn(self._bring(record.name, order))

    def nothing_lacks(self, record: Wanted) -> None:
        """A person asked for it; what was asked for before goes on."""
        if record.fetch.order is None:
            record.fetch.end = FetchEnd(time.time(), None)

    def follow(self, record: Wanted, state: InstanceState) -> None:
        """After policy has decided: what nobody wants any more is ended."""
        seen = record.fetch
        if seen.order is None or seen.asked or (state.wished and _may_fetch(state)):
            return
        self._drop(record)

    def drop(self, record: Wanted, order: Order) -> None:
        """Nobody wants that one any more."""
        if record.fetch.order == order:
            self._drop(record)

    def _drop(self, record: Wanted) -> None:
        seen = record.fetch
        if seen.task is not None:
            seen.task.cancel()
        seen.order, seen.task, seen.progress, seen.asked = None, None, None, False
        self._tasks.spawn(self._end(record.name))

    def take(self, record: Wanted, message: FetchMoved | FetchDone) -> Failure | Report | None:
        """News of it; returns how it ended, when it has."""
        seen = record.fetch
        match message:
            case FetchMoved():
                seen.progress = message.progress if seen.order is not None else None
                return None
            case FetchDone():
                if seen.order != message.order:
                    return None  # of one that is not wanted any more
                self._finish(record, message.outcome)
                return message.outcome

    def _finish(self, record: Wanted, outcome: Report | Failure) -> None:
        seen = record.fetch
        failure = outcome if isinstance(outcome, Failure) else outcome.failure
        order, seen.end = seen.order, FetchEnd(time.time(), failure)
        took_s = seen.end.at - seen.began_at
        seen.order, seen.task, seen.progress, seen.asked = None, None, None, False
        if isinstance(outcome, Report):
            seen.end = replace(
                seen.end,
                image_id=outcome.image_id,
                image_digest=outcome.image_digest,
                model_revision=outcome.model_revision,
            )
            # What has come of an update is told by `policy.update`: it may have brought nothing.
            if failure is None and order is not None and order.purpose is Purpose.BRING:
                words = say_end(seen.end, took_s, outcome.model_source)
                self._events.note(record.name, "fetched", words)

    async def _bring(self, name: str, order: Order) -> None:
        outcome: Report | Failure
        try:
            outcome = await self._supplier.bring(
                order, lambda progress: self._put(FetchMoved(name, progress))
            )
        except AgentError as error:
            outcome = error.failure
        except Exception as error:  # the root of a task
            log.exception("internal-error", instance=name)
            why = f"cannot bring what {name} lacks: internal error: {error!r}"
            outcome = Failure(Code.INTERNAL, why)
        self._put(FetchDone(name, order, outcome))

    async def _end(self, name: str) -> None:
        try:
            await self._supplier.end(name)
        except AgentError as error:
            log.warning("fetch-not-ended", instance=name, reason=error.failure.message)


def _is_part(order: Order, whole: Order) -> bool:
    """Whether to carry out `whole` brings all of `order`."""
    return (
        replace(order, image=order.image or whole.image, model=order.model or whole.model) == whole
    )


def _may_fetch(state: InstanceState) -> bool:
    """To look again, it starts: the new plan will tell. Where there is none for a moment, it waits
    to look again: npud is silent, or Podman, while the very pull has its storage. What is brought
    then is most likely still what lacks."""
    match state.phase:
        case Phase.FETCHING | Phase.STARTING | Phase.WAITING:
            return True
        case Phase.BACKOFF:
            return not died(state.failure)  # an engine was started: nothing lacked
        case Phase.IDLE | Phase.LOADING | Phase.SERVING | Phase.HELD | Phase.STOPPING:
            return False
        case _:
            assert_never(state.phase)


def say_end(end: FetchEnd, took_s: float, source: str = "") -> str:
    """What was brought, in one line. `source`: of the model, where it is in the import folder."""
    model = f"model revision {end.model_revision}" if end.model_revision else ""
    if source:
        model = f"{model or 'the model'} from {source}"
    parts = [f"image {end.image_digest or end.image_id[:12]}" if end.image_id else "", model]
    what = ", ".join(part for part in parts if part) or "what was missing"
    return f"{what}, in {took_s:.0f} s"


def build_fetch_view(seen: FetchSeen) -> FetchView | None:
    """None when nothing is being brought."""
    if seen.order is None:
        return None
    left_s = seen.progress.seconds_left if seen.progress is not None else None
    return FetchView(seen.began_at, seen.progress, None if left_s is None else round(left_s))
