# SPDX-License-Identifier: MulanPSL-2.0
"""What the writer knows of an engine that it has not started itself, or not heard come up."""

from dataclasses import replace
from pathlib import Path

import pytest

from agent.action.running import Running, forget_running, save_running
from agent.control.memory import Memory
from agent.control.messages import ContainerFound
from agent.control.record import Record
from agent.control.roster import Roster
from agent.control.vitals import Vitals
from agent.model import Phase
from tests.build import LIMITS, build_config, build_container, build_profile
from tests.scenario.ports import RootedFiles

RUNNING = Running(build_profile(), (0,), "/run/a.container", "text")
ANOTHER = replace(RUNNING, npus=(3,), text="another")


@pytest.fixture
def files(tmp_path: Path) -> RootedFiles:
    return RootedFiles(tmp_path)


@pytest.fixture
def roster(files: RootedFiles) -> Roster:
    """Of an agent that found an engine on NPU 0."""
    save_running(files, RUNNING)
    roster = Roster(files, Memory(), "boot")
    roster.add(build_profile(), LIMITS)
    return roster


def only(roster: Roster) -> Record:
    (record,) = roster
    return record


def test_a_new_agent_knows_what_was_written_down(roster: Roster) -> None:
    assert (only(roster).running, only(roster).npus) == (RUNNING, (0,))
    assert not roster.learn(only(roster))


def test_a_start_that_was_not_heard_of_is_known_by_what_was_written_down(
    files: RootedFiles, roster: Roster
) -> None:
    save_running(files, ANOTHER)
    assert roster.learn(only(roster))
    assert (only(roster).running, only(roster).npus) == (ANOTHER, (3,))


def test_nothing_is_believed_of_the_engine_before(files: RootedFiles, roster: Roster) -> None:
    """It would be put in order by the unit file of another one."""
    forget_running(files, "8b")
    assert roster.learn(only(roster))
    assert (only(roster).running, only(roster).npus) == (None, ())


@pytest.mark.parametrize(
    ("devices", "npus"), [((3,), (3,)), ((0, 3), (0, 3)), ((0,), (0,)), ((), (0,))]
)
def test_what_podman_says_wins(
    roster: Roster, devices: tuple[int, ...], npus: tuple[int, ...]
) -> None:
    record = only(roster)
    vitals = Vitals(build_config, None, None, None, None)  # type: ignore[arg-type]
    vitals.take(record, ContainerFound("8b", build_container("deepseek-vllm-8b"), devices))
    assert record.npus == npus
    assert not roster.learn(record)
    assert record.npus == npus


@pytest.mark.parametrize(
    ("phase", "npus"),
    [
        (Phase.STARTING, (0, 1)),  # it has those that it takes now, not those of the engine before
        (Phase.SERVING, (4, 5)),
        (Phase.STOPPING, (4, 5)),
    ],
)
def test_what_the_others_have(roster: Roster, phase: Phase, npus: tuple[int, ...]) -> None:
    other = only(roster)
    other.npus, other.state = (4, 5), replace(other.state, phase=phase)
    roster.add(build_profile(name="7b"), LIMITS)
    record = roster.get("7b")
    assert record is not None
    claims = {"8b": (0, 1)}
    (neighbor,) = roster.neighbors(record, claims)
    assert (neighbor.name, neighbor.npus) == ("8b", npus)
    assert [one.npus for one in roster.holdings(claims)] == [npus]
    (neighbor,) = roster.neighbors(record, {})
    assert neighbor.npus == (4, 5)  # it is restarted, and has not chosen yet
    other.profile = replace(other.profile, npus=(5, 6))
    (neighbor,) = roster.neighbors(record, {})
    assert neighbor.npus == ((5,) if phase is Phase.STARTING else (4, 5))
