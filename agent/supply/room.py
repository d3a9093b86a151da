# SPDX-License-Identifier: MulanPSL-2.0
"""Room for what is brought: looked at before and while it comes, and left to others that come at
the same time. Raises AgentError.

    INCOMING/.NAME@room    what is still to come into INCOMING/NAME; locked while somebody brings it
    INCOMING/.@room.lock   who looks at all of them and adds its own: moments

The kernel ends a lock with its process, so after SIGKILL or a power cut nobody counts on anything.
Below two folders of models on one file system nobody sees the other's: both end at the mark then.
"""

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from agent.errors import AgentError
from agent.supply.disk import (
    MIB,
    check_room,
    free_bytes,
    is_locked_now,
    only_one,
    too_full,
    writing,
)

LOOK_EVERY_S = 2.0
LOOKING_WAIT_S = 30.0
CLAIM_LIMIT_BYTES = 4096
_OWN = ".{}@room"
_ALL = ".*@room"  # "@" is in no other name there
_LOCK = ".@room.lock"
_DIGITS = 20  # of bytes


@dataclass(frozen=True, slots=True)
class ImageNeed:
    """What an image that comes later needs on the file system of the model."""

    reference: str = ""
    size_bytes: int = 0


NO_IMAGE = ImageNeed()


class Room:
    """Of one that is being brought."""

    def __init__(
        self,
        what: str,
        staging: Path,
        missing: int,
        keep_free_mib: int,
        spare: Iterable[Path] = (),
    ) -> None:
        """`spare`: files that may go when there is no room otherwise."""
        self._what, self._staging, self._keep_free_mib = what, staging, keep_free_mib
        self._missing, self._later = missing, 0
        self._spare = list(spare)
        self._looked_at = time.monotonic()
        self._claim = -1  # the open file

    def expect(self, missing: int, later: int = 0) -> None:
        """So much is still to come of what comes next, and `later` of what comes in its place when
        it is gone again. Raises AgentError."""
        self._missing, self._later = missing, later
        with writing(f"write {_claim_of(self._staging)}"):
            self._tell()

    def wrote(self, size: int) -> None:
        """So many bytes more are there. Looks when it is time."""
        self._missing = max(self._missing - size, 0)
        if time.monotonic() - self._looked_at >= LOOK_EVERY_S:
            self.look(self._missing)

    def look(self, missing: int) -> None:
        """To be called every few seconds; `missing`: bytes that are still to come. Raises
        AgentError before the disk is full: what has come stays, and others go on."""
        self._missing, self._looked_at = missing, time.monotonic()
        with writing(f"look how much room there is on {self._staging}"):
            self._tell()
            free = free_bytes(self._staging)
        if _runs_out(free, missing, self._keep_free_mib * MIB) and not self._give_back():
            raise too_full(self._what, self._staging, missing, self._keep_free_mib, free)

    def _tell(self) -> None:
        """To others. Raises OSError."""
        if self._claim >= 0:
            os.pwrite(self._claim, _number(max(self._missing, self._later)), 0)

    def check(self, image: ImageNeed, claimed: int) -> None:
        """Before the first byte; `claimed`: what others still write. What is to spare goes where
        that is enough. Raises AgentError."""
        try:
            self._check(self._missing, image, claimed)
        except AgentError as error:
            with writing(f"read below {self._staging}"):
                spare = sum(_size_of(path) for path in self._spare)
            try:
                self._check(max(self._missing - spare, 1), image, claimed)
            except AgentError:
                raise error from None
            self._give_back()
            self._check(self._missing, image, claimed)

    def _check(self, missing: int, image: ImageNeed, claimed: int) -> None:
        needed = {self._staging: missing}
        check_room(self._what, needed, self._keep_free_mib, image.size_bytes, claimed)

    def _give_back(self) -> bool:
        """Whether there was anything."""
        with writing(f"write below {self._staging}"):
            for path in self._spare:
                path.unlink(missing_ok=True)
        there_was, self._spare = bool(self._spare), []
        return there_was

    def claim(self, handle: int, image: ImageNeed) -> None:
        """`handle`: of a file that counts while it is locked. Raises OSError."""
        text = _number(self._missing) + _number(image.size_bytes) + image.reference.encode()
        os.ftruncate(handle, 0)
        os.pwrite(handle, text[:CLAIM_LIMIT_BYTES], 0)
        self._claim = handle


@contextmanager
def claim_room(
    what: str,
    staging: Path,
    missing: int,
    keep_free_mib: int,
    image: ImageNeed = NO_IMAGE,
    spare: Iterable[Path] = (),
) -> Iterator[Room]:
    """Meanwhile others leave it the room for what is `missing`; the folder above `staging` is
    there, and nobody else has this one. Raises AgentError when there is not enough, others that
    came before counted. `spare`: files that may go when there is not enough otherwise."""
    room = Room(what, staging, missing, keep_free_mib, spare)
    if missing <= 0:  # a disk that is full has no room for a claim either
        forget_claim(staging)
        yield room
        return
    folder, own = staging.parent, _claim_of(staging)
    with ExitStack() as held:
        with only_one(folder / _LOCK, what, LOOKING_WAIT_S):
            with writing(f"read below {folder}"):
                claimed = _claimed(folder, own, image.reference)
            room.check(image, claimed)
            handle = held.enter_context(only_one(own, what))
            held.callback(forget_claim, staging)
            with writing(f"write {own}"):
                room.claim(handle, image)
        yield room


def forget_claim(staging: Path) -> None:
    """That a cut has left, or of who has ended. One that stays counts for nothing."""
    with suppress(OSError):
        _claim_of(staging).unlink(missing_ok=True)


def _claim_of(staging: Path) -> Path:
    return staging.with_name(_OWN.format(staging.name))


def _runs_out(free: int, missing: int, kept: int) -> bool:
    """The last of it may take half of what is to stay free: a model that lacks its last file helps
    nobody, and has taken its room already."""
    return free < kept and free - missing < kept // 2


def _claimed(folder: Path, own: Path, reference: str) -> int:
    """Bytes that others have still to write; an image that several wait for is brought once."""
    sum_bytes, images = 0, dict[str, int]()
    for path in folder.glob(_ALL):
        claim = None if path == own else _read_claim(path)
        if claim is not None:
            missing, image = claim
            sum_bytes += missing
            known = images.get(image.reference, 0)
            images[image.reference] = max(known, image.size_bytes)
    images.pop(reference, None)
    return sum_bytes + sum(images.values())


def _read_claim(path: Path) -> tuple[int, ImageNeed] | None:
    """None when nobody counts on it any more. Raises OSError."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        if is_locked_now(handle):
            return None
        text = os.pread(handle, CLAIM_LIMIT_BYTES, 0)
    finally:
        os.close(handle)
    try:
        missing, image_bytes = int(text[:_DIGITS]), int(text[_DIGITS : 2 * _DIGITS])
    except ValueError:  # not ours
        return None
    return missing, ImageNeed(text[2 * _DIGITS :].decode(errors="replace"), image_bytes)


def _size_of(path: Path) -> int:
    """What its removal would bring. Raises OSError."""
    status = path.lstat()
    return status.st_blocks * 512 if status.st_nlink == 1 else 0


def _number(size: int) -> bytes:
    """Always as long, so that one is written over another at once."""
    return b"%0*d" % (_DIGITS, size)
