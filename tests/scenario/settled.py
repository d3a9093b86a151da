# SPDX-License-Identifier: MulanPSL-2.0
"""After a test nothing of it may be left: no child process, no thread, no socket, no pipe."""

import contextlib
import os
import threading
import time
from collections.abc import Iterator

from tests.own_children import all_children

# A reaped child's thread and a closed transport need a moment.
PATIENCE_S = 10.0


def left_over() -> set[str]:
    """What this process has now, as words."""
    return {
        *(f"child {pid}" for pid in all_children()),
        *(f"thread {thread.name}" for thread in threading.enumerate()),
        *(f"fd {number} {target}" for number, target in _descriptors()),
    }


@contextlib.contextmanager
def settled() -> Iterator[None]:
    """Fails when more is there at the end than was at the beginning."""
    before = left_over()
    yield
    deadline = time.monotonic() + PATIENCE_S
    while (more := left_over() - before) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not more, f"left over: {sorted(more)}"


def _descriptors() -> Iterator[tuple[str, str]]:
    for entry in set(os.listdir("/proc/self/fd")) - {"0", "1", "2"}:  # those are pytest's
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{entry}")
            if target.startswith(("socket:", "pipe:", "anon_inode:")):
                yield entry, target
