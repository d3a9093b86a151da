# SPDX-License-Identifier: MulanPSL-2.0
"""The files of the configuration as the agent reads them: once at its start, when a person asks for
it, and again by itself as long as nobody could say what is in them."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from agent.config.values import Config
from agent.errors import AgentError, Code, Failure

log = structlog.get_logger(__name__)

AGAIN_S, AGAIN_MAX_S = 2.0, 60.0


class ConfigFiles:
    """`read` raises AgentError: ConfigError for what is in the files, else why nobody can say."""

    def __init__(self, read: Callable[[], Awaitable[Config]]) -> None:
        self._read = read
        self._unread = asyncio.Event()

    async def read(self) -> Config | Failure:
        """A configuration that cannot be used is a state to show, not a reason to be restarted."""
        try:
            config = await self._read()
        except AgentError as error:
            failure = error.failure
            log.error("config-refused", reason=failure.message, hint=failure.hint)
            if is_unread(failure):
                self._unread.set()
            else:
                self._unread.clear()
            return failure
        self._unread.clear()
        return config

    async def keep_reading(self, reload: Callable[[], Awaitable[object]]) -> None:
        """Ends only by cancellation. `reload` reads, and puts in force what was read: short memory
        or a slow disk at a boot shall not need a person, who alone mends a wrong file."""
        while True:
            await self._unread.wait()
            pause_s = AGAIN_S
            while self._unread.is_set():
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, AGAIN_MAX_S)
                await reload()


def is_unread(read: Config | Failure) -> bool:
    return isinstance(read, Failure) and read.code is Code.CONFIG_UNREAD
