# SPDX-License-Identifier: MulanPSL-2.0
"""Following an engine's log: news only, not faster than a second; and why it ended."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence

import pytest

from agent.errors import Code, HostError
from agent.health import log_watch
from agent.health.log_watch import LogWatch
from agent.model import StartProgress, Step

BAR = "Loading safetensors checkpoint shards:"
DAMAGED = "SafetensorError: Error while deserializing header: header too small"


class Log:
    """`ports.EngineLog`."""

    def __init__(self, *pieces: Sequence[str], tails: Sequence[Sequence[str]] = ()) -> None:
        self.pieces, self.tails = pieces, list(tails)
        self.followed = 0
        self.missing = False

    async def follow(self, instance: str, invocation: str) -> AsyncGenerator[Sequence[str], None]:
        self.followed += 1
        if self.missing:
            raise HostError(Code.INTERNAL, "cannot run journalctl")
        for piece in self.pieces:
            yield piece

    async def tail(self, invocation: str) -> Sequence[str]:
        if self.missing:
            raise HostError(Code.INTERNAL, "cannot run journalctl")
        return self.tails.pop(0)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_watch, "NEWS_EVERY_S", 0.01)
    monkeypatch.setattr(log_watch, "PIECE_EVERY_S", 0.0)
    monkeypatch.setattr(log_watch, "AGAIN_S", 0.02)
    monkeypatch.setattr(log_watch, "LAST_WORDS_S", (0.0, 0.01))


def follow(log: Log, for_s: float = 0.15) -> list[StartProgress]:
    told: list[StartProgress] = []

    async def whole() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(for_s):
                await LogWatch(log).follow("8b", "1", told.append)

    asyncio.run(whole())
    return told


def test_news_are_told_once() -> None:
    log = Log(
        ("vLLM API server version 0.23",),
        ("nothing", f"{BAR}   0% Completed | 0/4 [00:00<?, ?it/s]"),
        (f"{BAR}  25% Completed | 1/4 [", f"{BAR}  50% Completed | 2/4 ["),
        ("nothing",),
        (f"{BAR}  50% Completed | 2/4 [",),
    )
    assert follow(log) == [
        StartProgress(Step.ENGINE),
        StartProgress(Step.WEIGHTS, 0, 0, 4),
        StartProgress(Step.WEIGHTS, 50, 2, 4),
    ]
    assert log.followed > 1  # it broke off and was begun anew, from the beginning: no news


def test_a_missing_log_is_no_trouble() -> None:
    log = Log()
    log.missing = True
    assert follow(log) == []
    assert log.followed > 1


def why(log: Log, served: bool = False) -> Code | None:
    found = asyncio.run(LogWatch(log).why("8b", "1", served))
    return found.code if found else None


def test_why_it_ended() -> None:
    assert why(Log(tails=[(DAMAGED,)])) is Code.MODEL_INVALID


def test_last_words_that_come_late() -> None:
    assert why(Log(tails=[("Starting",), ("Starting", DAMAGED)])) is Code.MODEL_INVALID


def test_last_words_that_say_nothing() -> None:
    assert why(Log(tails=[("Killed",), ("Killed",)])) is None
    assert why(Log(tails=[(DAMAGED,), (DAMAGED,)]), served=True) is None


def test_no_last_words() -> None:
    log = Log()
    log.missing = True
    assert why(log) is None
