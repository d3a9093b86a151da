# SPDX-License-Identifier: MulanPSL-2.0
"""`ports.ContainerEngine` that also mends Podman's API: its socket unit when it is off, its service
when that has stopped answering. Containers do not depend on either.

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
# In a row. Each takes 10 s, and something long (a big image being stored) may hold Podman's lock.
SILENT_LIMIT = 3
# Where the cause is another one (a hung disk), it does not help, and is not done again and again.
RESTART_EVERY_S = 600.0

Result = TypeVar("Result")


class HealingPodman:
    """Asks `podman`; what it cannot answer is mended where that can be done, and asked again."""

    def __init__(self, podman: ContainerEngine, units: UnitManager) -> None:
        self._podman = podman
        self._units = units
        self._silent = 0
        self._restarted_at = -RESTART_EVERY_S

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
        self._silent = 0
        return answer

    async def _mend(self, error: HostUnavailable) -> bool:
        """Whether it is worth asking again now."""
        match error.failure.code:
            case Code.PODMAN_UNAVAILABLE:
                return await self._open_socket(error)
            case Code.PODMAN_SILENT:
                self._silent += 1
                return self._silent >= SILENT_LIMIT and await self._restart_service()
            case _:
                return False

    async def _open_socket(self, refused: HostUnavailable) -> bool:
        status = await self._units.status(SOCKET)
        if status.active.is_up():
            return False
        log.warning("podman-socket-started", reason=refused.failure.message)
        try:
            await self._units.start(SOCKET, SOCKET_DEADLINE_S)
        except AgentError as error:
            raise HostUnavailable(
                Code.PODMAN_UNAVAILABLE,
                f"cannot ask Podman: {SOCKET} is off, and {error.failure.message}",
                f"systemctl unmask {SOCKET}; systemctl start {SOCKET}",
            ) from error
        return True

    async def _restart_service(self) -> bool:
        """The socket starts it again with the next question."""
        now = time.monotonic()
        if now - self._restarted_at < RESTART_EVERY_S:
            return False
        self._restarted_at = now
        log.warning("podman-service-restarted", reason=f"no answer {self._silent} times in a row")
        await self._units.stop(SERVICE, SERVICE_DEADLINE_S)
        return True
