# SPDX-License-Identifier: MulanPSL-2.0
"""The wish, read from the front unit: every combination that systemd can show."""

import itertools
from dataclasses import replace

import pytest

from agent import exits
from agent.model import UnitActive
from agent.policy.wish import (
    has_crashed,
    is_refused,
    is_wished,
    only_looks_wished,
    was_stopped_when_failed,
)
from tests.build import build_front

# systemd.exec(5), "$SERVICE_RESULT", and what systemd may add.
RESULTS = (
    "success",
    "protocol",
    "timeout",
    "exit-code",
    "signal",
    "core-dump",
    "watchdog",
    "start-limit-hit",
    "resources",
    "oom-kill",
    "exec-condition",
    "something-new",
    "",
)
# Of systemd itself are 203 (it cannot be executed) and its neighbours; Python ends with 1, 2, 120.
STATUSES = (0, 1, 2, 9, 15, exits.HELD, exits.LATER, exits.PERSON, 120, 203, 226)
FILE_STATES = ("enabled", "enabled-runtime", "disabled", "static", "masked", "indirect", "bad", "")
UP = {
    UnitActive.ACTIVE,
    UnitActive.ACTIVATING,
    UnitActive.RELOADING,
    UnitActive.REFRESHING,
}
CRASHES = {"signal", "core-dump", "watchdog", "oom-kill", "resources"}
CHOSEN = {0, exits.HELD, exits.PERSON}  # by attach


def crashed(result: str, status: int) -> bool:
    return result in CRASHES or (result == "exit-code" and status not in CHOSEN)


def expected(active: UnitActive, result: str, status: int, file_state: str) -> bool:
    """The sentence of the design, as a table of its own. A front unit on its way down counts as
    what it will be."""
    if active in UP:
        return True
    if active not in (UnitActive.FAILED, UnitActive.DEACTIVATING):
        return False
    held = (result, status, file_state) == ("exit-code", exits.HELD, "enabled")
    return crashed(result, status) or held


def test_every_combination() -> None:
    wrong = [
        combination
        for combination in itertools.product(UnitActive, RESULTS, STATUSES, FILE_STATES)
        if is_wished(build_front(*combination)) is not expected(*combination)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("active", "result", "status", "file_state", "wished"),
    [
        (UnitActive.ACTIVE, "success", 0, "enabled", True),
        (UnitActive.ACTIVATING, "success", 0, "disabled", True),
        (UnitActive.INACTIVE, "success", 0, "enabled", False),  # systemctl stop
        (UnitActive.INACTIVE, "exit-code", exits.HELD, "enabled", False),  # reset-failed
        (UnitActive.DEACTIVATING, "success", 0, "enabled", False),  # being stopped
        (UnitActive.FAILED, "signal", 9, "disabled", True),
        (UnitActive.FAILED, "watchdog", 6, "enabled", True),
        (UnitActive.FAILED, "oom-kill", 9, "enabled", True),
        (UnitActive.FAILED, "exit-code", exits.HELD, "enabled", True),
        (UnitActive.FAILED, "exit-code", exits.HELD, "disabled", False),
        (UnitActive.FAILED, "exit-code", exits.PERSON, "enabled", False),
        (UnitActive.FAILED, "exit-code", 1, "enabled", True),  # an error in attach
        (UnitActive.FAILED, "exit-code", 203, "disabled", True),  # it could not be executed
        (UnitActive.DEACTIVATING, "exit-code", 1, "enabled", True),
        (UnitActive.FAILED, "exit-code", 0, "enabled", False),  # a command of a drop-in
        (UnitActive.FAILED, "resources", 0, "enabled", True),  # no process could be made
        (UnitActive.FAILED, "timeout", 0, "enabled", False),  # of a stop
        (UnitActive.FAILED, "protocol", 0, "enabled", False),  # SIGTERM before READY=1
        (UnitActive.FAILED, "start-limit-hit", 0, "enabled", False),
        (UnitActive.UNKNOWN, "success", 0, "enabled", False),
    ],
)
def test_by_hand(
    active: UnitActive, result: str, status: int, file_state: str, wished: bool
) -> None:
    assert is_wished(build_front(active, result, status, file_state)) is wished


@pytest.mark.parametrize("active", UnitActive)
@pytest.mark.parametrize("result", RESULTS)
@pytest.mark.parametrize("status", [0, 1, 9])
def test_killed_in_a_stop_is_stopped(active: UnitActive, result: str, status: int) -> None:
    """attach was killed, or failed, while systemd stopped it: that looks like a crash only."""
    front = replace(build_front(active, result, status), stop_asked=True)
    assert not has_crashed(front)
    assert is_wished(front) is (active in UP)
    looks_so = active is UnitActive.FAILED and crashed(result, status)
    assert only_looks_wished(front) is looks_so


@pytest.mark.parametrize("before", UnitActive)
@pytest.mark.parametrize("now", UnitActive)
@pytest.mark.parametrize("same", [True, False])
def test_a_stop_of_what_has_failed(before: UnitActive, now: UnitActive, same: bool) -> None:
    """While it is activating, the job that ended may be that of its start."""
    first = replace(build_front(before), invocation_id="a")
    second = replace(build_front(now), invocation_id="a" if same else "b")
    known = before not in (UnitActive.ACTIVATING, UnitActive.UNKNOWN)
    expected = same and known and now is UnitActive.FAILED
    assert was_stopped_when_failed(first, second) is expected


def test_a_held_one_that_was_stopped() -> None:
    front = build_front(UnitActive.FAILED, "exit-code", exits.HELD)
    assert is_wished(front)
    stopped = replace(front, stop_asked=True)
    assert not is_wished(stopped)
    assert only_looks_wished(stopped)
    assert not only_looks_wished(front)


@pytest.mark.parametrize("active", UnitActive)
@pytest.mark.parametrize("result", RESULTS)
@pytest.mark.parametrize("status", STATUSES)
def test_only_a_crash_is_revived(active: UnitActive, result: str, status: int) -> None:
    front = build_front(active, result, status)
    assert has_crashed(front) is (active is UnitActive.FAILED and crashed(result, status))
    assert is_wished(front) or not has_crashed(front)


def test_what_is_refused() -> None:
    """Nobody tries it again, and it is to come up at a boot: somebody has to be told. Whoever
    starts what is not enabled is told by that start."""
    refused = (UnitActive.FAILED, "exit-code", exits.PERSON, "enabled")
    for combination in itertools.product(UnitActive, RESULTS, STATUSES, FILE_STATES):
        front = build_front(*combination)
        assert is_refused(front) is (combination == refused)
        assert not (is_refused(front) and is_wished(front))


def test_a_refused_one_that_was_stopped() -> None:
    """systemd forgets it, so that the agent after this one does not take it for refused."""
    front = build_front(UnitActive.FAILED, "exit-code", exits.PERSON)
    stopped = replace(front, stop_asked=True)
    assert not is_refused(stopped)
    assert only_looks_wished(stopped)
    assert not only_looks_wished(front)
