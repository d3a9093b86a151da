# SPDX-License-Identifier: MulanPSL-2.0
"""Reads files that may be anything by now: a pipe that never ends, a disk's worth of zeros."""

import os
import stat
from pathlib import Path

# Far above everything that is read here.
LIMIT_BYTES = 4 * 1024 * 1024


def read_regular(path: str | Path, limit_bytes: int = LIMIT_BYTES) -> bytes:
    """The whole content of a regular file, without waiting. Raises OSError, and ValueError with
    the reason for what is no regular file or larger than the limit."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ValueError("it is no regular file")
        with open(handle, "rb", closefd=False) as stream:
            content = stream.read(limit_bytes + 1)
    finally:
        os.close(handle)
    if len(content) > limit_bytes:
        raise ValueError(f"it is larger than {limit_bytes} bytes")
    return content
