# SPDX-License-Identifier: MulanPSL-2.0
"""Whether a disk is too full: in come looks at file systems and the settings, out what is low.

One that is low stays so until there is clearly more: a log that is written and rotated must not
make news every minute.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from agent.disks import AS_GOOD_AS_FULL, GIB, DiskFacts, Role, Wanted

# Of what the agent keeps itself, and of the journal.
SHARE, LEAST_BYTES = 0.05, GIB
OVER = 1.1  # of the mark below which it is low
FORGOTTEN = 10  # looks without an answer: what was seen then says nothing any more


@dataclass(frozen=True, slots=True)
class Disk:
    """A file system, named by the first place that is on it."""

    place: str
    device: int
    free_bytes: int
    size_bytes: int
    mark_bytes: int  # low below this
    is_low: bool
    missed: int = 0  # looks in a row that it did not answer to

    @property
    def wanted(self) -> Wanted:
        """With so much it is not low any more."""
        return Wanted(self.place, int(self.mark_bytes * OVER))

    @property
    def is_as_good_as_full(self) -> bool:
        return self.free_bytes < self.wanted.free_bytes * AS_GOOD_AS_FULL


def judge(
    before: Iterable[Disk], seen: Iterable[DiskFacts], keep_free_bytes: int
) -> tuple[Disk, ...]:
    """One for each file system. One that did not answer this time stays as it was, for a while."""
    was = {disk.device: disk for disk in before}
    now: dict[int, Disk] = {}
    for facts in seen:
        known = now.get(facts.device)
        mark = max(_mark(facts, keep_free_bytes), known.mark_bytes if known else 0)
        place = known.place if known else facts.place
        now[facts.device] = _judge(was.get(facts.device), facts, place, mark)
    places = {disk.place for disk in now.values()}
    silent = {
        device: replace(disk, missed=disk.missed + 1)
        for device, disk in was.items()
        if disk.place not in places and disk.missed < FORGOTTEN
    }
    return tuple({**silent, **now}.values())


def _mark(facts: DiskFacts, keep_free_bytes: int) -> int:
    if facts.role in (Role.MODELS, Role.IMAGES):
        return keep_free_bytes
    return max(int(facts.size_bytes * SHARE), LEAST_BYTES)


def _judge(before: Disk | None, facts: DiskFacts, place: str, mark: int) -> Disk:
    over = mark * OVER if before is not None and before.is_low else mark
    free = facts.free_bytes
    return Disk(place, facts.device, free, facts.size_bytes, mark, is_low=free < over)
