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
# An image that is pulled through the service would be lost, and may be what holds the lock. It is
# spared for as long as it may be silent while it is placed (supply/image); then it is ended anyway.
PULL_PATIENCE_S = 3600.0

Result = TypeVar("Result")


class HealingPodman:
    """Asks `podman`; what it cannot answer is mended where that can be done, and asked again.
    `is_pulling`: whether an image of ours is on its way through the service."""

    def __init__(
        self,
        podman: ContainerEngine,
        units: UnitManager,
        is_pulling: Callable[[], Awaitable[bool]],
    ) -> None:
        self._podman = podman
        self._units = units
        self._is_pulling = is_pulling
        self._failures = 0
        self._counted_at = float("-inf")  # monotonic, the latest of them
        self._spare_until = float("-inf")  # monotonic, a pull
        self._renewed_at = -RENEW_EVERY_S

    async def survey(self, images: Sequence[str]) -> PodmanSurvey:
        return await self._ask(lambda: self._podman.survey(images))

    async def remove(self, container: str) -> None:
        await self._ask(lambda: self._podman.remove(container))

    async def _ask(self, ask: Callable[[], Awaitable[Result]]) -> Result:
        began = time.monotonic()
        try:
            answer = await ask()
        except HostUnavailable as error:
            if not await self._mend(error, began):
                raise
            answer = await ask()
        self._failures = 0
        return answer

    async def _mend(self, error: HostUnavailable, began: float) -> bool:
        """Whether it is worth asking again now. `began`: when it was asked, monotonic."""
        if error.failure.code not in (Code.PODMAN_UNAVAILABLE, Code.PODMAN_SILENT):
            return False
        self._count(began)
        if not (await self._units.status(SOCKET)).active.is_up():
            await self._open_socket(error)
            return True
        if self._failures < FAILURES_LIMIT:
            return False
        if time.monotonic() < self._spare_until and await self._is_pulling():
            return False
        now = time.monotonic()
        if now - self._renewed_at < RENEW_EVERY_S:
            return False
        self._renewed_at, self._spare_until = now, now + PULL_PATIENCE_S
        log.warning("podman-api-renewed", reason=error.failure.message)
        await self._units.stop(SOCKET, SOCKET_DEADLINE_S)
        await self._units.stop(SERVICE, SERVICE_DEADLINE_S)
        await self._open_socket(error)
        return True

    def _count(self, began: float) -> None:
        """Several may ask at once, as for all engines that a new agent finds: what fails them all
        is one failure."""
        if began < self._counted_at:
            return
        self._counted_at = time.monotonic()
        if not self._failures:
            self._spare_until = self._counted_at + PULL_PATIENCE_S
        self._failures += 1

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
