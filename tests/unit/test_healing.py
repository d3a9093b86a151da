# SPDX-License-Identifier: MulanPSL-2.0
"""Podman's API is mended where that can be done: its socket, its service; not again and again."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from agent.action import healing
from agent.action.healing import FAILURES_LIMIT, PULL_PATIENCE_S, SERVICE, SOCKET, HealingPodman
from agent.errors import Code, HostError, HostUnavailable
from agent.facts import PodmanSurvey
from agent.model import JobResult, UnitActive, UnitStatus
from agent.supply.image import PLACING_PATIENCE_S
from tests.build import build_front

SURVEY = PodmanSurvey((5, 4, 2), (), ())
REFUSED = HostUnavailable(Code.PODMAN_UNAVAILABLE, "cannot ask Podman: connection refused")
SILENT = HostUnavailable(Code.PODMAN_SILENT, "cannot ask Podman: it does not answer")


@dataclass
class FakePodman:
    """Answers with what is left in `answers`, the last one for ever."""

    answers: list[HostUnavailable | None]
    asked: int = 0
    takes_s: float = 0.0

    async def survey(self, images: Sequence[str]) -> PodmanSurvey:
        self.asked += 1
        await asyncio.sleep(self.takes_s)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is not None:
            raise answer
        return SURVEY

    async def remove(self, container: str) -> None:
        await self.survey(())


@dataclass
class FakeUnits:
    """`ports.UnitManager` of which only this is asked here."""

    socket: UnitActive = UnitActive.INACTIVE
    masked: bool = False
    acts: list[tuple[str, str]] = field(default_factory=list)

    async def status(self, unit: str) -> UnitStatus:
        return replace(build_front(self.socket), name=unit)

    async def start(self, unit: str, deadline_s: float) -> JobResult:
        self.acts.append(("start", unit))
        if self.masked:
            raise HostError(Code.UNIT_REFUSED, f"cannot call StartUnit for {unit}: it is masked")
        return JobResult.DONE

    async def stop(self, unit: str, deadline_s: float) -> JobResult:
        self.acts.append(("stop", unit))
        return JobResult.DONE

    async def reset_failed(self, unit: str) -> None:
        raise NotImplementedError

    async def reload(self) -> None:
        raise NotImplementedError


@dataclass
class Pulls:
    """Whether an image is being pulled."""

    going: bool = False

    async def __call__(self) -> bool:
        return self.going


def heal(inner: FakePodman, units: FakeUnits, pulls: Pulls | None = None) -> HealingPodman:
    return HealingPodman(inner, units, pulls or Pulls())


def ask(podman: HealingPodman) -> PodmanSurvey | HostUnavailable:
    try:
        return asyncio.run(podman.survey(()))
    except HostUnavailable as error:
        return error


def test_a_socket_that_is_off_is_started_and_asked_again() -> None:
    inner, units = FakePodman([REFUSED, None]), FakeUnits()
    assert ask(heal(inner, units)) is SURVEY
    assert units.acts == [("start", SOCKET)]
    assert inner.asked == 2


def test_a_socket_that_is_on_is_left_alone_at_first() -> None:
    units = FakeUnits(UnitActive.ACTIVE)
    assert ask(heal(FakePodman([REFUSED]), units)) is REFUSED
    assert units.acts == []


def test_a_masked_socket_is_named() -> None:
    answer = ask(heal(FakePodman([REFUSED]), FakeUnits(masked=True)))
    assert isinstance(answer, HostUnavailable)
    assert answer.failure.code is Code.PODMAN_UNAVAILABLE
    assert "podman.socket is off" in answer.failure.message
    assert "masked" in answer.failure.message
    assert "unmask" in answer.failure.hint


RENEWED = [("stop", SOCKET), ("stop", SERVICE), ("start", SOCKET)]


@pytest.mark.parametrize("trouble", [SILENT, REFUSED])
def test_an_api_that_stays_in_trouble_is_renewed_once(trouble: HostUnavailable) -> None:
    """It hangs, it answers errors, or somebody has removed its socket's file."""
    units = FakeUnits(UnitActive.ACTIVE)
    podman = heal(FakePodman([trouble]), units)
    for _ in range(FAILURES_LIMIT - 1):
        assert ask(podman) is trouble
    assert units.acts == []
    for _ in range(5):  # it does not help
        assert ask(podman) is trouble
    assert units.acts == RENEWED


def test_an_answer_in_between_begins_the_count_anew() -> None:
    units = FakeUnits(UnitActive.ACTIVE)
    podman = heal(FakePodman([SILENT, SILENT, None, SILENT, SILENT, None]), units)
    for _ in range(6):
        ask(podman)
    assert units.acts == []


def test_after_a_while_it_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(healing, "RENEW_EVERY_S", 0.0)
    units = FakeUnits(UnitActive.ACTIVE)
    podman = heal(FakePodman([SILENT]), units)
    for _ in range(FAILURES_LIMIT + 1):
        ask(podman)
    assert units.acts == RENEWED * 2


def test_other_trouble_is_none_of_podman_s() -> None:
    lost = HostUnavailable(Code.SYSTEMD_UNAVAILABLE, "cannot ask systemd: the bus is gone")
    units = FakeUnits()
    for _ in range(FAILURES_LIMIT + 1):
        assert ask(heal(FakePodman([lost]), units)) is lost
    assert units.acts == []


def ask_at_once(podman: HealingPodman, callers: int = FAILURES_LIMIT) -> None:
    """As the searches of all instances that an agent has just adopted."""

    async def all_of_them() -> None:
        answers = (podman.survey(()) for _ in range(callers))
        await asyncio.gather(*answers, return_exceptions=True)

    asyncio.run(all_of_them())


def test_questions_asked_at_once_are_one_failure() -> None:
    """A slow call is none in a row, whoever waits for it."""
    units = FakeUnits(UnitActive.ACTIVE)
    podman = heal(FakePodman([SILENT], takes_s=0.01), units)
    for _ in range(FAILURES_LIMIT - 1):
        ask_at_once(podman)
    assert units.acts == []
    ask_at_once(podman)
    assert units.acts == RENEWED


def test_a_pull_of_ours_is_not_broken_off() -> None:
    """It runs through the service, and what holds Podman's lock may be that very pull."""
    units, pulls = FakeUnits(UnitActive.ACTIVE), Pulls(going=True)
    podman = heal(FakePodman([SILENT]), units, pulls)
    for _ in range(2 * FAILURES_LIMIT):
        assert ask(podman) is SILENT
    assert units.acts == []
    pulls.going = False
    assert ask(podman) is SILENT
    assert units.acts == RENEWED


def test_but_not_for_longer_than_it_may_be_silent_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("agent.action.healing.time.monotonic", lambda: now)
    units = FakeUnits(UnitActive.ACTIVE)
    podman = heal(FakePodman([SILENT]), units, Pulls(going=True))
    for at in (0.0, PULL_PATIENCE_S / 2, PULL_PATIENCE_S - 1):
        now = 1000.0 + at
        assert ask(podman) is SILENT
    assert units.acts == []
    now = 1000.0 + PULL_PATIENCE_S
    assert ask(podman) is SILENT
    assert units.acts == RENEWED


def test_its_patience_begins_anew_with_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("agent.action.healing.time.monotonic", lambda: now)
    units = FakeUnits(UnitActive.ACTIVE)
    podman = heal(FakePodman([SILENT, None, SILENT]), units, Pulls(going=True))
    for at in (
        0.0,
        PULL_PATIENCE_S,
        2 * PULL_PATIENCE_S,
        2 * PULL_PATIENCE_S,
        2.5 * PULL_PATIENCE_S,
    ):
        now = 1000.0 + at
        ask(podman)
    assert units.acts == []


def test_it_is_as_long_as_that_of_the_pull() -> None:
    assert PULL_PATIENCE_S >= PLACING_PATIENCE_S
