# SPDX-License-Identifier: MulanPSL-2.0
"""Reads files that may be anything by now: a pipe that never ends, a disk's worth of zeros."""

import os
import stat
from pathlib import Path

# Far above everything that is read here.
LIMIT_BYTES = 4 * 1024 * 1024


def read_regular(path: str | Path, limit_bytes: int = LIMIT_BYTES) -> bytes:
    """The whole content of a regular file, without waiting. Raises OSError, and ValueError with
    the reason for what is no regular file (which is not opened) or larger than the limit."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("it is no regular file")
    with open(path, "rb", opener=_open_without_waiting) as stream:
        content = stream.read(limit_bytes + 1)
    if len(content) > limit_bytes:
        raise ValueError(f"it is larger than {limit_bytes} bytes")
    return content


def _open_without_waiting(path: str, flags: int) -> int:
    """It may have become something else since it was looked at."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)
