# SPDX-License-Identifier: MulanPSL-2.0
"""A folder for what one command of Podman unpacks: in comes Podman's temporary folder, out one of
our own below it, to be its TMPDIR. It goes when the command has ended.

Podman puts its temporary files away only when it comes to its end: not when it is killed, nor on
SIGTERM (libpod/runtime.go exits at once, 4.x and 5.x), nor in a power cut. What a cut has left of
ours goes before the next one. TMPDIR counts before containers.conf (4.3 to 5.4). A pull through the
API is done by Podman's service, whose folder nobody else can choose.
"""

import fcntl
import os
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

PREFIX = "deepseek-podman-"
# One that was made just now may not be locked yet.
YOUNG_S = 10.0
# Less than `supply.child` waits for who has started Podman.
GRACE_S = 1.0


@dataclass(frozen=True, slots=True)
class OwnFolder:
    """For `subprocess.Popen`. Podman has the folder open, too: it is in use until both ended."""

    environment: dict[str, str]
    open_files: tuple[int, ...]


@contextmanager
def own_folder(temporary: str) -> Iterator[OwnFolder]:
    """Where none can be made Podman unpacks where it does by itself."""
    remove_left(temporary)
    path, handle = _make(temporary)
    if handle is None:
        yield OwnFolder({**os.environ}, ())
        return
    try:
        yield OwnFolder({**os.environ, "TMPDIR": path}, (handle,))
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(handle)


def _make(temporary: str) -> tuple[str, int | None]:
    path = ""
    with suppress(OSError):
        path = tempfile.mkdtemp(prefix=PREFIX, dir=temporary)
        return path, _lock(path)
    return path, None


def remove_left(temporary: str) -> None:
    """What nobody uses any more. What cannot be removed stays."""
    with suppress(OSError):
        for name in os.listdir(temporary):
            path = os.path.join(temporary, name)
            if name.startswith(PREFIX) and _is_ours(path):
                _remove(path)


def _is_ours(path: str) -> bool:
    """Anybody may make one of that name in /var/tmp."""
    with suppress(OSError):
        status = os.lstat(path)
        is_old = time.time() - status.st_mtime > YOUNG_S
        return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and is_old
    return False


def _remove(path: str) -> None:
    with suppress(OSError):
        handle = _lock(path)
        try:
            shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(handle)


def _lock(path: str) -> int:
    """Raises OSError for one that is in use."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    return handle


def end(child: subprocess.Popen[bytes]) -> None:
    """One that runs may put away what it holds of the storage."""
    if child.poll() is None:
        child.terminate()
        with suppress(subprocess.TimeoutExpired):
            child.wait(GRACE_S)
    child.kill()
    child.wait()
