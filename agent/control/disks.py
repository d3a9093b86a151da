# SPDX-License-Identifier: MulanPSL-2.0
"""Looks at disks, tells when one is too full and when that is over, and has pruned what nobody
uses: by itself where a disk is too full, and when a person asks.

Called by the writer; what comes of it is put into the writer's queue.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath
from typing import assert_never
from uuid import uuid4

import structlog

from agent.config.values import Config, Profile
from agent.control.events import EventLog
from agent.control.messages import DisksSeen, Message, PruneAsked, PruneDone
from agent.control.tasks import Tasks
from agent.disks import GIB, DiskFacts, Keep, PruneOrder, PruneReport, Wanted
from agent.errors import AgentError, Code, Failure
from agent.policy.disks import Disk, judge
from agent.ports import Disks
from agent.status.snapshot import DiskView
from agent.wording import gib, size

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 60.0
PRUNE_EVERY_S = 3600.0
TOLD_LIMIT = 20  # removals, each as an event; there are 200 events in all


class DiskCare:
    """`keep` says what must not be removed, by what is known now."""

    def __init__(
        self,
        config: Callable[[], Config],
        keep: Callable[[], Keep],
        disks: Disks,
        put: Callable[[Message], None],
        tasks: Tasks,
        events: EventLog,
    ) -> None:
        self._config = config
        self._keep = keep
        self._port = disks
        self._put = put
        self._tasks = tasks
        self._events = events
        self._disks: tuple[Disk, ...] = ()
        self._looked_at = float("-inf")  # monotonic
        self._is_looking = False
        self._pruned_at = float("-inf")  # monotonic, by itself
        self._only_looked = False  # then, as it was not to act
        self._was_full = False  # then, or as good as that
        self._order_now: PruneOrder | None = None
        self._asked: list[PruneAsked] = []
        self._serving: list[PruneAsked] = []  # those that the order under way is for
        self.prunable_bytes: int | None = None  # None: nobody has looked yet

    def turn(self, may_act: bool) -> None:
        """Does what is due. `may_act`: the mode is not "observe", and systemd answers."""
        now = time.monotonic()
        if not self._is_looking and now - self._looked_at >= LOOK_EVERY_S:
            self._looked_at, self._is_looking = now, True
            self._tasks.spawn(self._look())
        if self._order_now is not None:
            return
        if self._asked:
            self._begin_asked()
        elif any(one.is_low for one in self._disks):
            self._begin_by_itself(now, prunes=may_act and self._config().supply.prune)

    def _begin_by_itself(self, now: float, *, prunes: bool) -> None:
        """Right after its start it may not act yet: an hour later would be too late. So it would
        for a disk that is as good as full by now: more may go then."""
        is_full = any(one.is_as_good_as_full for one in self._disks)
        is_urgent = (self._only_looked or (is_full and not self._was_full)) and prunes
        if now - self._pruned_at < PRUNE_EVERY_S and not is_urgent:
            return
        self._pruned_at, self._only_looked, self._was_full = now, not prunes, is_full
        until = tuple(one.wanted for one in self._disks if one.is_low)
        self._begin(self._order(dry_run=not prunes, until=until if prunes else ()))

    def take(self, message: DisksSeen | PruneAsked | PruneDone) -> None:
        match message:
            case DisksSeen():
                self._take_seen(message)
            case PruneAsked():
                self._take_asked(message)
            case PruneDone():
                self._take_pruned(message)
            case _:
                assert_never(message)

    def views(self) -> tuple[DiskView, ...]:
        return tuple(
            DiskView(one.place, one.free_bytes, one.size_bytes, one.is_low, one.mark_bytes)
            for one in self._disks
        )

    # --- looking ---------------------------------------------------------------------------------

    async def _look(self) -> None:
        seen: Sequence[DiskFacts] = ()
        try:
            seen = await self._port.look(_models_dirs(self._config().profiles))
        except Exception:  # the root of a task
            log.exception("internal-error")
        self._put(DisksSeen(tuple(seen)))

    def _take_seen(self, seen: DisksSeen) -> None:
        self._is_looking = False
        before = {one.device for one in self._disks if one.is_low}
        keep_free_bytes = self._config().supply.keep_free_gib * GIB
        self._disks = judge(self._disks, seen.disks, keep_free_bytes)
        self._was_full = self._was_full and any(one.is_as_good_as_full for one in self._disks)
        for disk in self._disks:
            if disk.is_low and disk.device not in before:
                self._events.note("", Code.DISK_TOO_FULL, say_low(disk))
            elif not disk.is_low and disk.device in before:
                self._events.note("", "disk-has-room", say_room(disk))

    # --- pruning ---------------------------------------------------------------------------------

    def _take_asked(self, asked: PruneAsked) -> None:
        """Anybody may ask what could go: a look that is under way is enough for all of them."""
        now = self._order_now
        if asked.dry_run and now is not None and now.dry_run:
            self._serving.append(asked)
        else:
            self._asked.append(asked)

    def _begin_asked(self) -> None:
        """All who ask for the same are served at once."""
        dry_run = self._asked[0].dry_run
        self._serving = [one for one in self._asked if one.dry_run is dry_run]
        self._asked = [one for one in self._asked if one.dry_run is not dry_run]
        self._begin(self._order(dry_run=dry_run))

    def _order(self, *, dry_run: bool, until: tuple[Wanted, ...] = ()) -> PruneOrder:
        config = self._config()
        # An image's archive is put together in models_dir, wherever the models of profiles lie.
        places = dict.fromkeys((*_models_dirs(config.profiles), config.supply.models_dir))
        return PruneOrder(uuid4().hex, time.time(), self._keep(), tuple(places), until, dry_run)

    def _begin(self, order: PruneOrder) -> None:
        self._order_now = order
        self._tasks.spawn(self._prune(order))

    async def _prune(self, order: PruneOrder) -> None:
        outcome: PruneReport | Failure
        try:
            outcome = await self._port.prune(order)
        except AgentError as error:
            outcome = error.failure
        except Exception as error:  # the root of a task
            log.exception("internal-error")
            outcome = Failure(Code.INTERNAL, f"cannot prune: internal error: {error!r}")
        self._put(PruneDone(order, outcome))

    def _take_pruned(self, done: PruneDone) -> None:
        self._order_now = None
        self._looked_at = float("-inf")  # there is more room now
        served, self._serving = self._serving, []
        for one in served:
            if not one.answer.done():  # the asker may be gone
                one.answer.set_result(done.outcome)
        outcome = done.outcome
        if isinstance(outcome, Failure):
            if not served:
                self._events.note("", outcome.code, outcome.message)
            return
        self.prunable_bytes = outcome.left_bytes
        if outcome.dry_run:
            self.prunable_bytes += sum(one.size_bytes for one in outcome.removed)
        else:
            self._tell_removed(outcome)

    def _tell_removed(self, report: PruneReport) -> None:
        for one in report.removed[:TOLD_LIMIT]:
            words = f"{one.kind} {one.name}, {size(one.size_bytes)}: {one.why}"
            self._events.note("", "pruned", words)
        if len(report.removed) > TOLD_LIMIT:
            self._events.note("", "pruned", f"and {len(report.removed) - TOLD_LIMIT} more")
        for failure in report.failures:
            self._events.note("", failure.code, failure.message)


def say_low(disk: Disk) -> str:
    """ "/var/lib/deepseek: 12 GiB free of 900, below 20" """
    return f"{say_room(disk)}, below {gib(disk.mark_bytes)}"


def say_room(disk: Disk) -> str:
    return f"{disk.place}: {gib(disk.free_bytes)} GiB free of {gib(disk.size_bytes)}"


def _models_dirs(profiles: Iterable[Profile]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(PurePosixPath(one.model).parent) for one in profiles))
