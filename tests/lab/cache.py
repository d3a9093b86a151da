# SPDX-License-Identifier: MulanPSL-2.0
"""Things that are slow to make, kept outside the tree by name and the hash of their recipe."""

import contextlib
import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .process import run_command

KEPT_S = 6 * 3600.0


def cache_directory() -> Path:
    given = os.environ.get("DEEPSEEK_LAB_CACHE")
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(given or f"{home}/deepseek-agent-lab").absolute()


def build_key(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


@contextlib.contextmanager
def hold_lock(name: str, *, shared: bool = False) -> Iterator[None]:
    """Readers share it, a builder has it alone. The kernel drops it with the process."""
    folder = cache_directory()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield


def ensure_built(name: str, key: str, build: Callable[[Path], None]) -> Path:
    """The cached thing `name` for this key; built beside it and renamed when it is not there."""
    target = cache_directory() / f"{name}-{key}"
    if target.exists():
        os.utime(target)
        return target
    with hold_lock(name):
        if not target.exists():
            _tidy(name)
            part = Path(tempfile.mkdtemp(prefix=f"{name}-part.", dir=cache_directory()))
            try:
                build(part / "made")
                (part / "made").rename(target)
            finally:
                remove_tree(part)
    return target


def _tidy(name: str) -> None:
    """What interrupted builds have left (the lock is ours), and what nobody has asked for lately:
    another checkout may be at work with another key."""
    for old in cache_directory().glob(f"{name}-*"):
        if old.name.startswith(f"{name}-part.") or time.time() - old.stat().st_mtime > KEPT_S:
            remove_tree(old)


def remove_tree(path: Path) -> None:
    run_command(["rm", "-rf", "--one-file-system", str(path)], timeout_s=300)
