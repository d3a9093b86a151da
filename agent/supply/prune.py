# SPDX-License-Identifier: MulanPSL-2.0
"""Carries out a `PruneOrder`: looks, has `pruning` choose, removes, tells. Out: a `PruneReport`.

What could not be looked at is not touched. Each thing is looked at again when its turn comes, under
the lock of who would use it.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar, assert_never

from agent.disks import AS_GOOD_AS_FULL, ORDER_LASTS_S, Kind, PruneOrder, PruneReport, Removal
from agent.errors import AgentError, Code, Failure
from agent.supplies import STORE
from agent.supply.disk import free_bytes, only_one, remove_tree, writing
from agent.supply.holdings import (
    canonical,
    canonical_folders,
    find_evidence,
    find_revisions,
    find_stagings,
    measure,
    suffix_of,
)
from agent.supply.place import INCOMING, Home, remove_revision
from agent.supply.pruning import Found, Staging, StoredRevision, choose, choose_at_last
from agent.supply.stored_images import (
    BROUGHT,
    PODMAN,
    Storage,
    forget_gone,
    list_stored,
    remove_stored,
)
from agent.supply.users import PROC, find_users

EVIDENCE = Path("/var/lib/deepseek-agent/evidence")
NO_STORAGE = Storage((), "")


@dataclass(frozen=True, slots=True)
class Places:
    """Of this host; others in tests."""

    evidence: Path = EVIDENCE
    brought: Path = BROUGHT
    proc: Path = PROC
    puller: tuple[str, ...] = PODMAN


def carry_out_pruning(
    order: PruneOrder, tell: Callable[[Removal], None], places: Places | None = None
) -> PruneReport:
    """`tell`: of each thing that has been removed. Raises AgentError for an order that is old."""
    if abs(time.time() - order.at) > ORDER_LASTS_S:
        raise AgentError(
            Code.REQUEST_INVALID,
            "cannot prune: the order is too old, other things may be needed by now",
            "deepseekctl prune",
        )
    pruning = _Pruning(order, tell, places or Places())
    pruning.look()
    pruning.run()
    return pruning.report()


Thing = TypeVar("Thing")


@dataclass
class _Pruning:
    """One order, and what has come of it."""

    order: PruneOrder
    tell: Callable[[Removal], None]
    places: Places
    found: Found = field(default_factory=Found)
    storage: Storage = NO_STORAGE
    removed: list[Removal] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    left_bytes: int = 0

    # --- looking ---------------------------------------------------------------------------------

    def look(self) -> None:
        keep = canonical(self.order.keep)
        try:
            self.storage = list_stored(self.places.puller, self.places.brought)
        except AgentError as error:
            self.failures.append(error.failure)
        stagings: list[Staging] = []
        revisions: list[StoredRevision] = []
        for folder in canonical_folders(self.order.models_dirs):
            revisions += self._try(f"{folder}/{STORE}", partial(find_revisions, folder, keep))
            stagings += self._try(f"{folder}/{INCOMING}", partial(find_stagings, folder))
        evidence = self._try(str(self.places.evidence), lambda: find_evidence(self.places.evidence))
        self.found = Found(
            stagings=tuple(stagings),
            revisions=tuple(revisions),
            images=self.storage.images,
            evidence=tuple(evidence),
        )
        self._look_for_users()

    def _try(self, where: str, look: Callable[[], Iterable[Thing]]) -> list[Thing]:
        """All of it, or nothing."""
        try:
            return list(look())
        except OSError as error:
            self.failures.append(_unseen(where, error))
            return []

    def _look_for_users(self) -> None:
        found = self.found
        paths = [one.path for one in found.stagings] + [one.path for one in found.revisions]
        try:
            users = self._users(paths)
        except OSError as error:
            self.failures.append(_unseen("who uses models", error))
            self.found = replace(found, stagings=(), revisions=())
            return
        self.found = replace(
            found,
            stagings=tuple(replace(one, used_by=users(one.path)) for one in found.stagings),
            revisions=tuple(replace(one, used_by=users(one.path)) for one in found.revisions),
        )

    def _users(self, paths: Iterable[str]) -> Callable[[str], str]:
        """Raises OSError."""
        users = find_users({Path(path): suffix_of(path) for path in paths}, self.places.proc)
        return lambda path: users.get(Path(path), "")

    # --- removing --------------------------------------------------------------------------------

    def run(self) -> None:
        order = self.order
        keep = canonical(order.keep)
        for removal in choose(self.found, keep, time.time()):
            if order.dry_run:
                self.removed.append(removal)
            elif removal.kind in (Kind.MODEL, Kind.IMAGE) and not self._is_wanted(removal):
                self.left_bytes += removal.size_bytes
            else:
                self._remove(removal)
        if not order.dry_run and order.until:
            for removal in choose_at_last(self.found, keep):
                if self._is_short_of_room(removal.what, AS_GOOD_AS_FULL):
                    self._remove(removal)
        if not order.dry_run and self.storage is not NO_STORAGE:
            forget_gone(self.storage.images, self.places.brought)

    def report(self) -> PruneReport:
        return PruneReport(
            number=self.order.number,
            removed=tuple(self.removed),
            left_bytes=self.left_bytes,
            failures=tuple(self.failures),
            dry_run=self.order.dry_run,
            at=time.time(),
        )

    def _is_wanted(self, removal: Removal) -> bool:
        """Whether there is too little where it lies."""
        if not self.order.until:
            return True
        place = self.storage.folder if removal.kind is Kind.IMAGE else removal.what
        return self._is_short_of_room(place)

    def _is_short_of_room(self, place: str, share: float = 1.0) -> bool:
        """`share`: of what is wanted free there."""
        with suppress(OSError):
            device = os.stat(place).st_dev
            for wanted in self.order.until:
                is_there = os.stat(wanted.place).st_dev == device
                if is_there and free_bytes(Path(wanted.place)) < wanted.free_bytes * share:
                    return True
        return False

    def _remove(self, removal: Removal) -> None:
        try:
            match removal.kind:
                case Kind.STAGING:
                    self._remove_staging(removal)
                case Kind.EVIDENCE:
                    with writing(f"remove {removal.what}"):
                        Path(removal.what).unlink(missing_ok=True)
                case Kind.MODEL:
                    self._remove_model(removal)
                case Kind.IMAGE:
                    self._remove_image(removal)
                case _:
                    assert_never(removal.kind)
        except AgentError as error:
            self.failures.append(error.failure)
            self.left_bytes += removal.size_bytes
        else:
            self.removed.append(removal)
            self.tell(removal)

    def _remove_staging(self, removal: Removal) -> None:
        """What has been changed since it was looked at is not left behind."""
        before = next(one for one in self.found.stagings if one.path == removal.what)
        path = Path(removal.what)
        with _locked(before.model), writing(f"remove {path}"):
            if measure(path).changed_at > before.changed_at:
                raise _in_use(path, "it is being written to")
            remove_tree(path)

    def _remove_model(self, removal: Removal) -> None:
        before = next(one for one in self.found.revisions if one.path == removal.what)
        with _locked(before.directory), writing(f"remove {removal.what}"):
            if user := self._users([removal.what])(removal.what):
                raise _in_use(Path(removal.what), user)
            remove_revision(before.directory, before.name)
            with suppress(OSError):  # there are others
                Path(removal.what).parent.rmdir()

    def _remove_image(self, removal: Removal) -> None:
        before = next(one for one in self.found.images if one.image_id == removal.what)
        remove_stored(before, self.places.puller)


@contextmanager
def _locked(directory: str) -> Iterator[None]:
    """Nobody brings that model meanwhile."""
    home = Home(directory)
    home.prepare()
    with only_one(home.lock, f"prune {directory}"):
        yield


def _unseen(what: str, error: OSError) -> Failure:
    return Failure(
        Code.DISK_SILENT, f"cannot see {what}: {error}; nothing there is pruned", "see: dmesg"
    )


def _in_use(path: Path, user: str) -> AgentError:
    return AgentError(
        Code.REQUEST_INVALID, f"cannot remove {path}: it is in use: {user}", "try again later"
    )
