# SPDX-License-Identifier: MulanPSL-2.0
"""What was asked for, and how far it has come. Pure.

A change is judged by what is seen of its instance after it was asked for, as a person would. The id
is that of the event which says who asked for what.
"""

from collections import OrderedDict
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never

from agent.errors import Code, Failure
from agent.model import Phase
from agent.status.snapshot import SCHEMA, InstanceView, Snapshot

KEPT = 100
# systemd starts a front unit at once, or not at all (a condition of its, a mask).
START_SEEN_S = 60.0
# Out of these it goes for a reason alone.
AT_REST = (Phase.IDLE, Phase.HELD, Phase.SERVING)


class Verb(StrEnum):
    """What can be asked for."""

    START = "start"
    STOP = "stop"
    RESTART = "restart"
    REPLAN = "replan"
    HOLD = "hold"
    RELEASE = "release"
    PULL = "pull"
    UPDATE = "update"
    ROLLBACK = "rollback"
    QUARANTINE = "quarantine"
    CLEAR = "clear"
    TRUST = "trust"
    RELOAD = "reload"


class Outcome(StrEnum):
    """How a change stands."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Change:
    """Times are seconds since the epoch."""

    id: int
    verb: Verb
    instance: str  # empty: about an NPU, or the host
    by: str
    asked_at: float
    outcome: Outcome = Outcome.RUNNING
    ended_at: float | None = None
    message: str = ""  # how far it has come, while it runs
    failure: Failure | None = None  # why it failed


@dataclass(frozen=True, slots=True)
class ChangesAnswer:
    """The latest ones, oldest first."""

    changes: tuple[Change, ...]
    schema: int = SCHEMA


@dataclass(frozen=True, slots=True)
class _Followed:
    """`before`: its instance when it was asked for. `moved`: it has been in another phase since."""

    change: Change
    before: InstanceView | None
    moved: bool = False


class Changes:
    """Those that were asked for since the agent began."""

    def __init__(self) -> None:
        self._followed: OrderedDict[int, _Followed] = OrderedDict()

    def begin(self, change: Change, before: InstanceView | None) -> Change:
        """`before` None: it is over already."""
        if before is None:
            change = replace(change, outcome=Outcome.DONE, ended_at=change.asked_at)
        self._followed[change.id] = _Followed(change, before)
        while len(self._followed) > KEPT:
            self._followed.popitem(last=False)
        return change

    def turn(self, snapshot: Snapshot) -> None:
        """Called with each new snapshot."""
        for key, followed in self._followed.items():
            if followed.change.outcome is Outcome.RUNNING:
                self._followed[key] = _follow(followed, snapshot)

    def of(self, number: int) -> Change | None:
        followed = self._followed.get(number)
        return followed.change if followed is not None else None

    def latest(self) -> ChangesAnswer:
        return ChangesAnswer(tuple(one.change for one in self._followed.values()))


def _follow(followed: _Followed, snapshot: Snapshot) -> _Followed:
    change, before = followed.change, followed.before
    view = snapshot.instance(change.instance)
    if before is None or view is None:
        gone = Failure(Code.INSTANCE_UNKNOWN, f"cannot follow it: {change.instance} is gone")
        return replace(followed, change=_fail(change, gone, snapshot.at))
    # In the same one anew: it may have left and come back between two looks of ours.
    anew = view.phase is not before.phase or view.since != before.since
    moved = followed.moved or anew
    outcome = _judge(change, before, view, moved, snapshot.at)
    match outcome:
        case Failure():
            change = _fail(change, outcome, snapshot.at)
        case Outcome.DONE:
            change = replace(change, outcome=outcome, ended_at=snapshot.at, message="")
        case _:
            change = replace(change, message=view.status)
    return replace(followed, change=change, moved=moved)


def _fail(change: Change, failure: Failure, at: float) -> Change:
    return replace(change, outcome=Outcome.FAILED, ended_at=at, failure=failure, message="")


def _judge(
    change: Change, before: InstanceView, view: InstanceView, moved: bool, at: float
) -> Outcome | Failure:
    match change.verb:
        case Verb.START if not moved and at - change.asked_at > START_SEEN_S:
            if view.phase is Phase.SERVING:
                return Outcome.DONE
            return Failure(
                Code.UNIT_START_FAILED,
                f"cannot start {view.name}: systemd has not started its unit",
                f"systemctl status deepseek@{view.name}",
            )
        case Verb.START | Verb.RELEASE:
            return _serves(view, before.phase is Phase.SERVING or moved, moved)
        case Verb.RESTART | Verb.REPLAN:
            return _serves(view, moved, moved)
        case Verb.ROLLBACK:
            return _has_gone_back(view, moved)
        case Verb.STOP:
            if view.phase is Phase.IDLE and not view.wished:
                return Outcome.DONE
            return _superseded(view, "started") if _came_back(view, moved) else Outcome.RUNNING
        case Verb.HOLD:
            return _holds(view)
        case Verb.PULL:
            return _has_fetched(before, view)
        case Verb.UPDATE:
            return _has_updated(before, view)
        case Verb.QUARANTINE | Verb.CLEAR | Verb.TRUST | Verb.RELOAD:
            return Outcome.DONE
        case _:
            assert_never(change.verb)


def _serves(view: InstanceView, may_serve: bool, moved: bool) -> Outcome | Failure:
    if view.phase is Phase.SERVING and may_serve:
        return Outcome.DONE
    if view.phase is Phase.HELD and moved and view.failure is not None:
        return view.failure
    if view.phase is Phase.IDLE and not view.wished and moved:
        return view.failure or _superseded(view, "stopped")
    return Outcome.RUNNING


def _came_back(view: InstanceView, moved: bool) -> bool:
    return moved and view.phase is Phase.SERVING


def _superseded(view: InstanceView, how: str) -> Failure:
    return Failure(Code.NOT_WISHED, f"cannot go on: {view.name} was {how} meanwhile")


def _holds(view: InstanceView) -> Outcome | Failure:
    if view.hold is None:
        return Failure(Code.NOT_ON_HOLD, f"cannot go on: {view.name} was released meanwhile")
    return Outcome.DONE if view.phase in (Phase.HELD, Phase.IDLE) else Outcome.RUNNING


def _has_fetched(before: InstanceView, view: InstanceView) -> Outcome | Failure:
    if view.fetch is not None or view.fetch_end is None or view.fetch_end == before.fetch_end:
        return Outcome.RUNNING
    return view.fetch_end.failure or Outcome.DONE


def _has_updated(before: InstanceView, view: InstanceView) -> Outcome | Failure:
    old, new = before.update, view.update
    if old is None or new is None or new.fetching or new.trial is not None:
        return Outcome.RUNNING
    if new.undone is not None and new.undone != old.undone:
        return new.undone.failure
    # It is 0 from the moment on in which an update is asked for.
    if new.checked_at not in (0.0, old.checked_at):
        return Outcome.DONE
    # `current` alone tells nothing: where nothing had answered yet it became known by asking.
    if new.previous != old.previous and new.current != old.current:
        return Outcome.DONE
    ended = f"cannot go on: the update of {view.name} was ended meanwhile"
    failure = _fetch_failure(before, view)
    return Failure(Code.UPDATE_REFUSED, ended) if failure is None else failure


def _fetch_failure(before: InstanceView, view: InstanceView) -> Failure | None:
    """Of one that has ended since."""
    end = view.fetch_end
    return None if end is None or end == before.fetch_end else end.failure


def _has_gone_back(view: InstanceView, moved: bool) -> Outcome | Failure:
    """Where the update ended before an engine was started for it, there is nothing to replace; of
    one that nobody wants to serve the next start is on what it has gone back to."""
    update = view.update
    due = update is not None and update.restart_due and view.phase is not Phase.IDLE
    if update is not None and not due and not moved and view.phase in AT_REST:
        return Outcome.DONE
    return _serves(view, moved and not due, moved)
