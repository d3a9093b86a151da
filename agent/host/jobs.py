# SPDX-License-Identifier: MulanPSL-2.0
"""How jobs of systemd end: JobRemoved signals, matched with those who wait for that very job."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from agent.errors import Code, HostUnavailable

LOST = "cannot wait for a job: the system bus is gone"


@dataclass
class Jobs:
    """Results by job path. A job may end before its path is known to us, so what ended is kept
    while a dispatch is under way (and only then: other people's jobs are none of our business)."""

    dispatching: int = 0
    ended: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, list[asyncio.Future[str]]] = field(default_factory=dict)
    shown: dict[str, str] = field(default_factory=dict)  # by unit, of those that are watched

    @contextmanager
    def dispatch(self) -> Iterator[None]:
        """While a job is being asked for."""
        self.dispatching += 1
        try:
            yield
        finally:
            self.dispatching -= 1
            if not self.dispatching:
                self.ended.clear()

    def waiter(self, job: str) -> "asyncio.Future[str]":
        """Has, or will have, the result of `job`; to be taken inside `dispatch`."""
        waiter: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        if job in self.ended:
            waiter.set_result(self.ended[job])
        else:
            # systemd answers a second request with the job that is queued already.
            self.waiting.setdefault(job, []).append(waiter)
        return waiter

    def forget(self, job: str, waiter: "asyncio.Future[str]") -> None:
        """It has been waited for long enough."""
        waiters = self.waiting.get(job, [])
        if waiter in waiters:
            waiters.remove(waiter)
        if not waiters:
            self.waiting.pop(job, None)

    def lose(self) -> None:
        """The bus is gone: nobody will say how these ended."""
        for waiter in [one for waiters in self.waiting.values() for one in waiters]:
            if not waiter.done():
                waiter.set_exception(HostUnavailable(Code.SYSTEMD_UNAVAILABLE, LOST))
        self.waiting.clear()

    def on_shown(self, job: str | None, unit: str) -> None:
        """By the unit's property "Job"."""
        if job is not None:
            self.shown[unit] = job

    def on_removed(self, job: str, unit: str, result: str) -> bool:
        """Returns whether the unit had shown that job. `systemctl try-restart` of what is down, and
        the like, is made a job of the type "nop", which ends with "done", as a stop of it does, and
        changes as little. But it is none that the unit shows, and any other is shown before its end
        is told (bus_job_send_removed_signal(); systemd 249 to 257). Its type cannot be asked for:
        both are gone by then."""
        for waiter in self.waiting.pop(job, []):
            if not waiter.done():
                waiter.set_result(result)
        if self.dispatching:
            self.ended[job] = result
        return self.shown.get(unit) == job
