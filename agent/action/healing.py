# SPDX-License-Identifier: MulanPSL-2.0
"""`ports.ContainerEngine` that also mends Podman's API: its socket unit when it is off, and both of
its units when it hangs, refuses or answers errors again and again. Containers do not need them.

Nobody visits for a year, so an API service that hangs would keep a dead engine down for ever.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import structlog

from agent.errors import AgentError, Code, HostUnavailable
from agent.facts import PodmanSurvey
from agent.ports import ContainerEngine, UnitManager

log = structlog.get_logger(__name__)

SOCKET = "podman.socket"
SERVICE = "podman.service"
SOCKET_DEADLINE_S = 10.0
# Its TimeoutStopSec, after which systemd kills it, is the default of 90 s.
SERVICE_DEADLINE_S = 100.0
# In a row. One may be something long that holds Podman's lock, a big image being stored.
FAILURES_LIMIT = 3
# Where the cause is another one (a hung disk), it does not help, and is not done again and again.
RENEW_EVERY_S = 120.0

Result = TypeVar("Result")


class HealingPodman:
    """Asks `podman`; what it cannot answer is mended where that can be done, and asked again."""

    def __init__(self, podman: ContainerEngine, units: UnitManager) -> None:
        self._podman = podman
        self._units = units
        self._failures = 0
        self._renewed_at = -RENEW_EVERY_S

    async def survey(self, images: Sequence[str]) -> PodmanSurvey:
        return await self._ask(lambda: self._podman.survey(images))

    async def remove(self, container: str) -> None:
        await self._ask(lambda: self._podman.remove(container))

    async def _ask(self, ask: Callable[[], Awaitable[Result]]) -> Result:
        try:
            answer = await ask()
        except HostUnavailable as error:
            if not await self._mend(error):
                raise
            answer = await ask()
        self._failures = 0
        return answer

    async def _mend(self, error: HostUnavailable) -> bool:
        """Whether it is worth asking again now."""
        if error.failure.code not in (Code.PODMAN_UNAVAILABLE, Code.PODMAN_SILENT):
            return False
        self._failures += 1
        if not (await self._units.status(SOCKET)).active.is_up():
            await self._open_socket(error)
            return True
        now = time.monotonic()
        if self._failures < FAILURES_LIMIT or now - self._renewed_at < RENEW_EVERY_S:
            return False
        self._renewed_at = now
        log.warning("podman-api-renewed", reason=error.failure.message)
        await self._units.stop(SOCKET, SOCKET_DEADLINE_S)
        await self._units.stop(SERVICE, SERVICE_DEADLINE_S)
        await self._open_socket(error)
        return True

    async def _open_socket(self, refused: HostUnavailable) -> None:
        log.warning("podman-socket-started", reason=refused.failure.message)
        try:
            await self._units.start(SOCKET, SOCKET_DEADLINE_S)
        except AgentError as error:
            raise HostUnavailable(
                Code.PODMAN_UNAVAILABLE,
                f"cannot ask Podman: {SOCKET} is off, and {error.failure.message}",
                f"systemctl unmask {SOCKET}; systemctl start {SOCKET}",
            ) from error
