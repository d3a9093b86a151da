# SPDX-License-Identifier: MulanPSL-2.0
"""What the agent shows of itself: immutable values, and the place where the newest one hangs.

The JSON of `Snapshot` is the API: fields are added, never renamed or removed, under `schema` 1.
"""

import asyncio
from dataclasses import dataclass

from agent.errors import Failure
from agent.model import Inventory, Phase

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class EventView:
    """Something that happened, oldest first in lists. `at`: seconds since the epoch."""

    at: float
    instance: str  # empty: about the host or the agent
    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class InstanceView:
    """One instance. Times are seconds since the epoch."""

    name: str
    phase: Phase
    wished: bool
    status: str  # one line for people
    since: float
    next_try_at: float | None
    failure: Failure | None
    failures: int
    served_name: str
    endpoint: str
    model: str
    image: str
    unit: str
    unit_file: str
    npus: tuple[int, ...]  # logic ids
    key_file: str = ""  # where root finds the API key that the engine wants; empty: none
    certificate: str = ""  # a copy of the PEM file that it shows; empty: plain HTTP
    restarts: int = 0  # engines started in place of one that had failed, ever
    restart_pending: bool = False  # the configuration has changed since its start


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything, at one moment."""

    schema: int
    version: str
    mode: str
    at: float
    started_at: float
    inventory: Inventory
    instances: tuple[InstanceView, ...]
    config_problem: Failure | None  # why the files on disk are not in force
    broken: tuple[str, ...]  # profiles that cannot be used, and why
    events: tuple[EventView, ...]
    systemd_problem: Failure | None = None  # why units are not seen now: what is said may be old

    def instance(self, name: str) -> InstanceView | None:
        return next((one for one in self.instances if one.name == name), None)


class Board:
    """Holds the newest snapshot; one writer puts, any number of readers look or wait."""

    def __init__(self, first: Snapshot) -> None:
        self._snapshot = first
        self._changed = asyncio.Event()
        self.closed = False

    @property
    def snapshot(self) -> Snapshot:
        return self._snapshot

    def put(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def close(self) -> None:
        """No more will come: whoever waits is told."""
        self.closed = True
        self._changed.set()

    async def wait(self, seen: Snapshot, deadline_s: float) -> Snapshot:
        """The newest one: at once when it is not `seen`, else after a change or `deadline_s`."""
        if self._snapshot is seen and not self.closed:
            try:
                async with asyncio.timeout(deadline_s):
                    await self._changed.wait()
            except TimeoutError:
                pass
        return self._snapshot
