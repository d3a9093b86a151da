# SPDX-License-Identifier: MulanPSL-2.0
"""Watches what an engine prints: how far its start has come, and why it ended.

In: the log, over its port. Out: each `StartProgress` that is news, and a `Failure`. Without a log
nothing is known, and nothing else is different.
"""

import asyncio
from collections.abc import Callable
from contextlib import aclosing

import structlog

from agent.errors import AgentError, Failure
from agent.health.diagnosis import diagnose
from agent.health.startup import advance, is_as_far
from agent.model import NO_PROGRESS, StartProgress
from agent.ports import EngineLog

log = structlog.get_logger(__name__)

# News are told, and pieces of the log (64 KiB) read, no faster than this: a debug log is endless.
NEWS_EVERY_S = 1.0
PIECE_EVERY_S = 0.2
# A log that broke off.
AGAIN_S = 10.0
# The journal may have the last words a moment after systemd has told the death.
LAST_WORDS_S = (0.0, 0.3)


class LogWatch:
    """Of all engines."""

    def __init__(self, engine_log: EngineLog) -> None:
        self._log = engine_log

    async def follow(
        self, instance: str, invocation: str, tell: Callable[[StartProgress], None]
    ) -> None:
        """Ends only by cancellation."""
        told, behind = NO_PROGRESS, False

        def tell_news(progress: StartProgress) -> bool:
            """A log that is read again tells from the beginning what was told: that is no news."""
            nonlocal told, behind
            behind = behind and not is_as_far(progress, told)
            if behind or progress == told:
                return False
            told = progress
            tell(progress)
            return True

        silent = False
        while True:
            try:
                await self._read(instance, invocation, tell_news)
            except AgentError as error:
                if not silent:
                    why = error.failure.message
                    log.warning("engine-log-not-read", instance=instance, reason=why)
                silent = True
            behind = True
            await asyncio.sleep(AGAIN_S)

    async def why(self, instance: str, invocation: str, served: bool) -> Failure | None:
        """Why it ended; None when its last words tell nothing, or cannot be read."""
        for wait_s in LAST_WORDS_S:
            await asyncio.sleep(wait_s)
            try:
                lines = await self._log.tail(invocation)
            except AgentError as error:
                log.warning("engine-log-not-read", instance=instance, reason=error.failure.message)
                return None
            # 400 long lines through every pattern: up to a second, which is no time for the loop.
            found = await asyncio.to_thread(diagnose, instance, lines, served)
            if found is not None:
                return found
        return None

    async def _read(
        self, instance: str, invocation: str, tell_news: Callable[[StartProgress], bool]
    ) -> None:
        progress = NO_PROGRESS
        async with aclosing(self._log.follow(instance, invocation)) as pieces:
            async for lines in pieces:
                for line in lines:
                    progress = advance(progress, line)
                # What comes meanwhile waits in the pipe, and its end is the next news.
                await asyncio.sleep(NEWS_EVERY_S if tell_news(progress) else PIECE_EVERY_S)
