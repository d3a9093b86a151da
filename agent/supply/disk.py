# SPDX-License-Identifier: MulanPSL-2.0
"""Files that have to survive a power cut, and room for them. Raises AgentError."""

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from agent.errors import AgentError, Code
from agent.host.atomic import sync_folder

GIB = 2**30
MIB = 2**20
FULL = (errno.ENOSPC, errno.EDQUOT)
LARGER = "use a larger file system (for models: models_dir)"
LOOK_EVERY_S = 0.05  # whether a lock is free by now


def disk_error(error: OSError, what: str) -> AgentError:
    """What a refusal of the file system means."""
    if error.errno in FULL:
        return AgentError(
            Code.DISK_TOO_FULL,
            f"cannot {what}: {error.strerror}",
            f"make room there, or {LARGER}; see: df -h",
        )
    return AgentError(
        Code.FILE_NOT_WRITTEN,
        f"cannot {what}: {error}",
        "see: dmesg, and: df -h; is it mounted read-only?",
    )


@contextmanager
def writing(what: str) -> Iterator[None]:
    """Turns OSError into AgentError: "cannot <what>: <why>"."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, what) from error


def nearest(folder: Path) -> Path:
    """The folder itself, or the closest one above it that is there."""
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return folder


def free_bytes(folder: Path) -> int:
    """What others than root could still write, where `folder` is or will be: the reserve of ext4 is
    not for models."""
    found = os.statvfs(nearest(folder))
    return found.f_bavail * found.f_frsize


def check_room(
    what: str,
    needed: Mapping[Path, int],
    keep_free_mib: int,
    image_bytes: int = 0,
    claimed_bytes: int = 0,
) -> None:
    """`needed`: what is missing, by folder; what goes to one file system is added up. Raises
    AgentError when it would not leave `keep_free_mib`. `image_bytes`: what an image that comes
    later needs beside it; `claimed_bytes`: what others still write there."""
    for folder, size in _by_file_system(needed).items():
        with writing(f"look how much room there is on {folder}"):
            free = free_bytes(folder)
        more = image_bytes + claimed_bytes
        if size <= 0 or size + more + keep_free_mib * MIB <= free:
            continue
        whom = "what else is being brought" if claimed_bytes else "the image"
        others = f" and {more / GIB:.1f} GiB for {whom}" if more else ""
        raise too_full(what, folder, size, keep_free_mib, free, others)


def too_full(
    what: str, folder: Path, size: int, keep_free_mib: int, free: int, others: str = ""
) -> AgentError:
    """`size`: the bytes that are missing; `others`: what is needed beside it, in words."""
    kept = f" and {keep_free_mib / 1024:.1f} GiB are to stay free" if keep_free_mib else ""
    return AgentError(
        Code.DISK_TOO_FULL,
        f"cannot {what}: needed {size / GIB:.1f} GiB{others}{kept}, "
        f"there are {free / GIB:.1f} GiB on {folder}",
        f"make room (see: df -h {nearest(folder)}), or {LARGER}",
    )


def _by_file_system(needed: Mapping[Path, int]) -> Mapping[Path, int]:
    """Under the first folder of each."""
    first: dict[int, Path] = {}
    added: dict[Path, int] = {}
    for folder, size in needed.items():
        with writing(f"look at {folder}"):
            device = os.stat(nearest(folder)).st_dev
        one = first.setdefault(device, folder)
        added[one] = added.get(one, 0) + size
    return added


def make_folders(folder: Path, below: Path) -> None:
    """`folder` and what is between it and `below`, which is there; readable for the container."""
    missing = []
    while folder != below and not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for one in reversed(missing):
        one.mkdir(exist_ok=True)
        one.chmod(0o755)
        sync_folder(one.parent)


def remove_tree(path: Path) -> None:
    """A file, a link or a folder; not being there is no error."""
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    elif path.is_dir():
        shutil.rmtree(path)


@contextmanager
def only_one(lock: Path, what: str, wait_s: float = 0.0) -> Iterator[int]:
    """Held by the kernel, so it ends with the process whatever happens: the open file. Raises
    AgentError when another has it for longer than `wait_s`."""
    with writing(f"write {lock}"):
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        until = time.monotonic() + wait_s
        while not is_locked_now(handle):
            if time.monotonic() >= until:
                raise AgentError(
                    Code.FILE_NOT_WRITTEN,
                    f"cannot {what}: another process is at it",
                    "wait for it; see: systemctl list-units 'deepseek*'",
                )
            time.sleep(LOOK_EVERY_S)
        yield handle
    finally:
        os.close(handle)


def is_locked_now(handle: int) -> bool:
    """By us, now."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
