# SPDX-License-Identifier: MulanPSL-2.0
"""How far what was asked for has come, by what is seen of the instance since."""

from dataclasses import replace
from typing import Any

import pytest

from agent.errors import Code, Failure
from agent.model import Hold, Phase
from agent.status.changes import KEPT, START_SEEN_S, Change, Changes, Outcome, Verb
from agent.status.snapshot import FetchEnd, InstanceView, UndoneView, UpdateView
from agent.supplies import Supply
from tests.build import build_snapshot, build_view

FAILED = Failure(Code.MODEL_MISSING, "cannot start 8b: no model")
HELD = build_view(Phase.HELD, failure=FAILED)
IDLE = build_view(Phase.IDLE)
SERVING = build_view(Phase.SERVING)
STARTING = build_view(Phase.STARTING)
STOPPING = build_view(Phase.STOPPING)
HOLD = Hold(1.0, "root", "")
OLD, NEW = (Supply("image", letter * 64, "", "/srv/m", letter, 1.0) for letter in "ab")


def follow(verb: Verb, before: InstanceView, *seen: InstanceView, after_s: float = 1.0) -> Change:
    changes = Changes()
    changes.begin(Change(7, verb, "8b", "root", asked_at=100.0), before)
    for view in seen:
        changes.turn(replace(build_snapshot(view), at=100.0 + after_s))
    change = changes.of(7)
    assert change is not None
    return change


def update(**changes: Any) -> UpdateView:
    return replace(UpdateView(False, OLD, None, None, None, None, 0.0), **changes)


LOST = UndoneView(5.0, NEW, FAILED)
CURRENT = replace(SERVING, update=update())
FETCHING = replace(SERVING, update=update(fetching=True))
BACK = replace(SERVING, update=update(restart_due=True))  # what it ran on is to be replaced
NOT_FETCHED = FetchEnd(101.0, FAILED)


@pytest.mark.parametrize(
    ("verb", "before", "seen"),
    [
        (Verb.START, IDLE, [IDLE, STARTING, SERVING]),
        (Verb.START, SERVING, [SERVING]),
        (Verb.RESTART, SERVING, [SERVING, STOPPING, STARTING, SERVING]),
        (Verb.RESTART, HELD, [STARTING, SERVING]),
        (Verb.REPLAN, SERVING, [STOPPING, SERVING]),
        (Verb.ROLLBACK, SERVING, [STOPPING, SERVING]),
        (Verb.STOP, SERVING, [SERVING, STOPPING, IDLE]),
        (Verb.STOP, IDLE, [IDLE]),
        (Verb.HOLD, SERVING, [build_view(Phase.STOPPING, hold=HOLD), replace(HELD, hold=HOLD)]),
        (Verb.HOLD, IDLE, [replace(IDLE, hold=HOLD)]),
        (Verb.RELEASE, HELD, [STARTING, SERVING]),
        (Verb.PULL, IDLE, [replace(IDLE, fetch_end=FetchEnd(1.0, None))]),
        (
            Verb.UPDATE,
            CURRENT,
            [
                replace(SERVING, update=update(fetching=True)),
                replace(SERVING, update=update(trial=NEW)),
                replace(SERVING, update=update(current=NEW, previous=OLD)),
            ],
        ),
        (Verb.UPDATE, CURRENT, [replace(SERVING, update=update(checked_at=9.0))]),
        (
            Verb.UPDATE,
            replace(SERVING, update=update(checked_at=9.0)),
            [FETCHING, replace(SERVING, update=update(checked_at=11.0))],
        ),
        (Verb.ROLLBACK, FETCHING, [CURRENT]),
        (Verb.ROLLBACK, replace(SERVING, update=update(trial=NEW, restart_due=True)), [CURRENT]),
        (
            Verb.ROLLBACK,
            replace(HELD, update=update(fetching=True)),
            [replace(HELD, update=update())],
        ),
        (Verb.ROLLBACK, IDLE, [replace(IDLE, update=update(restart_due=True))]),
        (
            Verb.ROLLBACK,
            replace(SERVING, update=update(trial=NEW)),
            [BACK, replace(STOPPING, update=update()), replace(STARTING, update=update()), CURRENT],
        ),
        (
            Verb.ROLLBACK,
            replace(STARTING, update=update(trial=NEW)),
            [BACK, replace(STOPPING, update=update()), CURRENT],
        ),
        (Verb.RELOAD, SERVING, [SERVING]),
    ],
)
def test_what_comes_to_a_good_end(
    verb: Verb, before: InstanceView, seen: list[InstanceView]
) -> None:
    assert follow(verb, before, *seen[:-1]).outcome is Outcome.RUNNING
    done = follow(verb, before, *seen)
    assert (done.outcome, done.failure, done.ended_at) == (Outcome.DONE, None, 101.0)


@pytest.mark.parametrize(
    ("verb", "before", "seen", "code"),
    [
        (Verb.START, IDLE, [STARTING, HELD], FAILED.code),
        (Verb.START, IDLE, [STARTING, IDLE], Code.NOT_WISHED),
        (Verb.RESTART, SERVING, [STOPPING, HELD], FAILED.code),
        (Verb.RESTART, SERVING, [STOPPING, IDLE], Code.NOT_WISHED),
        (Verb.RESTART, HELD, [replace(HELD, since=HELD.since + 9.0)], FAILED.code),  # held again
        (Verb.RELEASE, HELD, [STARTING, HELD], FAILED.code),
        (Verb.STOP, SERVING, [STOPPING, SERVING], Code.NOT_WISHED),
        (Verb.HOLD, SERVING, [SERVING], Code.NOT_ON_HOLD),
        (Verb.PULL, IDLE, [replace(IDLE, fetch_end=FetchEnd(1.0, FAILED))], FAILED.code),
        (Verb.UPDATE, CURRENT, [replace(SERVING, update=update(undone=LOST))], FAILED.code),
        (
            Verb.UPDATE,  # the one before had brought nothing new
            replace(SERVING, update=update(checked_at=9.0)),
            [FETCHING, replace(CURRENT, fetch_end=NOT_FETCHED)],
            FAILED.code,
        ),
        (
            Verb.UPDATE,  # nothing has answered yet
            replace(HELD, update=update(current=None)),
            [replace(HELD, update=update(), fetch_end=NOT_FETCHED)],
            FAILED.code,
        ),
        (Verb.UPDATE, CURRENT, [FETCHING, CURRENT], Code.UPDATE_REFUSED),  # ended by a rollback
        (
            Verb.UPDATE,
            replace(SERVING, update=update(checked_at=9.0)),
            [FETCHING, CURRENT],
            Code.UPDATE_REFUSED,
        ),
        (Verb.ROLLBACK, BACK, [STOPPING, replace(HELD, update=update())], FAILED.code),
    ],
)
def test_what_comes_to_a_bad_end(
    verb: Verb, before: InstanceView, seen: list[InstanceView], code: Code
) -> None:
    failed = follow(verb, before, *seen)
    assert failed.outcome is Outcome.FAILED
    assert failed.failure is not None
    assert failed.failure.code is code


@pytest.mark.parametrize(
    ("verb", "before", "view"),
    [
        (Verb.RESTART, SERVING, SERVING),  # it is still the engine of before
        (Verb.RESTART, HELD, HELD),
        (Verb.RESTART, SERVING, build_view(Phase.BACKOFF, failure=FAILED)),  # it is tried again
        (Verb.START, HELD, HELD),
        (
            Verb.PULL,
            replace(IDLE, fetch_end=FetchEnd(1.0, FAILED)),
            replace(IDLE, fetch_end=FetchEnd(1.0, FAILED)),
        ),
        (
            Verb.UPDATE,
            replace(SERVING, update=update(undone=LOST)),
            replace(SERVING, update=update(undone=LOST, fetching=True)),
        ),
        (Verb.ROLLBACK, CURRENT, BACK),
    ],
)
def test_what_was_so_before_ends_nothing(
    verb: Verb, before: InstanceView, view: InstanceView
) -> None:
    change = follow(verb, before, view)
    assert (change.outcome, change.message) == (Outcome.RUNNING, view.status)


def test_a_start_that_systemd_never_made() -> None:
    change = follow(Verb.START, IDLE, IDLE, after_s=START_SEEN_S + 1)
    assert change.outcome is Outcome.FAILED
    assert change.failure is not None
    assert change.failure.code is Code.UNIT_START_FAILED


def test_what_has_ended_stays_so() -> None:
    assert follow(Verb.RESTART, SERVING, STOPPING, SERVING, HELD).outcome is Outcome.DONE


def test_an_instance_that_goes_away_ends_it() -> None:
    changes = Changes()
    changes.begin(Change(7, Verb.RESTART, "8b", "root", 1.0), SERVING)
    changes.turn(build_snapshot())
    change = changes.of(7)
    assert change is not None
    assert change.failure is not None
    assert change.failure.code is Code.INSTANCE_UNKNOWN


def test_what_is_no_instance_is_done_at_once() -> None:
    begun = Changes().begin(Change(7, Verb.TRUST, "", "root", 1.0), None)
    assert (begun.outcome, begun.ended_at) == (Outcome.DONE, 1.0)


def test_only_the_latest_are_kept() -> None:
    changes = Changes()
    for number in range(KEPT + 5):
        changes.begin(Change(number, Verb.TRUST, "", "root", 1.0), None)
    assert changes.of(4) is None
    assert [one.id for one in changes.latest().changes] == list(range(5, KEPT + 5))
