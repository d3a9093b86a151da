# SPDX-License-Identifier: MulanPSL-2.0
"""A moment in which this process has hardly any file descriptors left."""

import contextlib
import os
import resource
from collections.abc import Iterator


@contextlib.contextmanager
def few_descriptors(left: int = 0) -> Iterator[None]:
    """No more than `left` can be opened."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    filled: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1 + left, before[1]))
        with contextlib.suppress(OSError):
            while True:
                filled.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        for _ in range(left):
            os.close(filled.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for one in filled:
            os.close(one)
