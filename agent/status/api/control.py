# SPDX-License-Identifier: MulanPSL-2.0
"""What the API asks of the writer."""

from typing import Protocol

from agent.disks import PruneReport
from agent.ports import EventQuery
from agent.status.changes import Verb
from agent.status.config import ConfigAnswer
from agent.status.history import EventPage


class Control(Protocol):
    """What the API asks of the writer. Each raises AgentError when it refuses."""

    async def attach(self, instance: str, resumed: bool) -> None:
        """attach has connected: its front unit wishes the instance now. `resumed`: not for the
        first time."""
        ...

    def asked(self, verb: Verb, what: str, by: str) -> int:
        """Who has had what done, written down; returns the id of the event."""
        ...

    async def start(self, instance: str) -> None: ...

    async def stop(self, instance: str) -> None: ...

    async def hold(self, instance: str, by: str, reason: str) -> None:
        """It is stopped, and not started whoever wishes it, until it is released."""
        ...

    async def release(self, instance: str) -> None: ...

    async def restart(self, instance: str) -> None: ...

    async def pull(self, instance: str) -> None:
        """Have brought what it lacks, whether it shall serve or not."""
        ...

    async def update(self, instance: str, image: str, revision: str) -> None:
        """Have fetched what there is by now, and try it. Empty: as the profile says."""
        ...

    async def rollback(self, instance: str) -> None:
        """Back to what it ran on before; ends an update that is under way."""

    async def prune(self, dry_run: bool) -> PruneReport:
        """Has what is ours and nobody uses removed, or told."""
        ...

    async def replan(self, instance: str) -> None:
        """A restart, when it brings more or better NPUs than it has."""
        ...

    async def refresh_npus(self) -> None: ...

    async def reload(self) -> None:
        """Reads the configuration again; returns when it is in force."""
        ...

    async def quarantine(self, npus: tuple[int, ...], by: str, reason: str) -> None: ...

    async def clear(self, npus: tuple[int, ...], by: str) -> None:
        """No quarantine, and no reason for one, until a fault comes again."""
        ...

    async def trust_host(self, by: str) -> None:
        """It is not suspected any more."""
        ...

    async def events(self, query: EventQuery) -> EventPage:
        """Those of the last days."""
        ...

    def config(self) -> ConfigAnswer:
        """What is in force."""
        ...

    def start_wait_s(self) -> float: ...
