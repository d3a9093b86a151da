# SPDX-License-Identifier: MulanPSL-2.0
"""Asks systemd for the units that it reported a change of; many reports make one question.

Reports are hints only: what a unit is like is asked, and asked again until there is an answer, so
no change is lost over a bus that goes away or a systemd that is busy.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

import structlog

from agent.control.messages import Message, SystemdSeen, UnitsSeen
from agent.errors import AgentError, Failure
from agent.model import ALL_FRONTS, UnitStatus, engine_unit, front_unit, fronts_instance

log = structlog.get_logger(__name__)

AGAIN_S = 1.0
CALM_S = 0.5


class Watchable(Protocol):
    """What is asked of systemd here."""

    async def watch(self, unit: str) -> None: ...

    async def status(self, unit: str) -> UnitStatus: ...

    async def loaded(self, pattern: str) -> tuple[str, ...]: ...


class UnitWatcher:
    """`put` is the writer's queue, `instances` says whose units matter."""

    def __init__(
        self,
        units: Watchable,
        put: Callable[[Message], None],
        instances: Callable[[], Iterable[str]],
    ) -> None:
        self._units = units
        self._put = put
        self._all = instances
        self._instances: dict[str, str] = {}  # unit -> instance
        self._changed: set[str] = set()
        self._jobs_ended: set[str] = set()  # front units
        self._seen: dict[str, tuple[UnitStatus, UnitStatus]] = {}
        self._anew = False
        self._wake = asyncio.Event()
        self.began = asyncio.Event()  # all have been seen once, or it is known why not

    def on_change(self, unit: str) -> None:
        """From the bus; "" when all may have changed."""
        self._changed |= {self._instances[unit]} if unit else set(self._instances.values())
        self._wake.set()

    def on_job(self, unit: str) -> None:
        """From the bus: a job of that unit has ended with "done", and was no "nop"."""
        if unit in self._instances:
            self._jobs_ended.add(unit)
            self.on_change(unit)

    def on_systemd(self, problem: Failure | None) -> None:
        """From the bus: why systemd cannot be asked, or None when it can again."""
        if problem is not None:
            self._put(SystemdSeen(problem))
            self.began.set()
        else:
            self.look_anew()

    def look_anew(self) -> None:
        """At all units of all instances; there may be new ones."""
        self._anew = True
        self._wake.set()

    async def run(self) -> None:
        """Ends only by cancellation."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            anew, self._anew = self._anew, False
            changed, self._changed = self._changed, set()
            try:
                await self._look_at(anew, changed)
            except AgentError as error:
                log.warning("not-looked-at", reason=error.failure.message)
                self._anew |= anew
                self._changed |= changed
                await asyncio.sleep(AGAIN_S)
                self._wake.set()

    async def _look_at(self, anew: bool, changed: set[str]) -> None:
        if anew:
            # systemd may know of more than there are profiles.
            known = [fronts_instance(unit) for unit in await self._units.loaded(ALL_FRONTS)]
            changed = {*self._all(), *known}
        for instance in sorted(changed):
            before = self._seen.get(instance)
            await self.look(instance)
            if instance in self._changed and self._seen.get(instance) == before:
                self._calm(instance)
        if anew:
            self._put(SystemdSeen(None))
            self.began.set()

    def _calm(self, instance: str) -> None:
        """To look loads a unit that systemd has let go of since, and when that is part of a front
        unit which is loaded, the front has changed (systemd 252 and 257, seen): a look would lead
        to the next for ever, 45 of them a second."""
        self._changed.discard(instance)
        again = partial(self.on_change, front_unit(instance))
        asyncio.get_running_loop().call_later(CALM_S, again)

    async def look(self, instance: str) -> None:
        """The writer has been told what systemd says now when this returns, and hears of changes
        from then on. Raises HostUnavailable, HostError."""
        for unit in (front_unit(instance), engine_unit(instance)):
            self._instances[unit] = instance
            await self._units.watch(unit)
        asked_at = time.monotonic()
        # In this order: a stop begins at the front, so an engine that it took down is never seen
        # beside a front that still wishes.
        engine = await self._units.status(engine_unit(instance))
        front = await self._units.status(front_unit(instance))
        # What was told before this answer belongs to it: a bus keeps the order.
        job_ended = front.name in self._jobs_ended
        self._jobs_ended.discard(front.name)
        self._seen[instance] = (front, engine)
        self._put(UnitsSeen(instance, front, engine, asked_at, job_ended))
