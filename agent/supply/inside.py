# SPDX-License-Identifier: MulanPSL-2.0
"""Files of a folder that somebody has carried here, without leaving the folder that it came to.

In: a path, which may be a link or lie behind one, and the folder that it must not lead out of. Out:
a descriptor, or an AgentError. Links within are followed: caches of huggingface_hub consist of
them. Root reads here, and what it reads ends where everybody may read it.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.errors import AgentError, Code


def require_inside(folder: Path, within: Path, paths: Iterable[str]) -> None:
    """Before anything is read; `paths` are not asked for where the folder itself leads out. Raises
    AgentError; what changes after it is seen by `open_inside`."""
    top = os.path.realpath(within)
    _require_below(folder, "", top, os.path.realpath(folder))
    for path in paths:
        _require_below(folder, path, top, os.path.realpath(folder / path))


@contextmanager
def open_inside(folder: Path, path: str, within: Path) -> Iterator[int]:
    """To be read: the very file that was looked at, whoever turns a link meanwhile. Raises OSError,
    and AgentError."""
    # Without opening it for reading first (open(2), O_PATH): a device would begin something.
    found = os.open(folder / path, os.O_PATH | os.O_CLOEXEC)
    try:
        this = f"/proc/self/fd/{found}"
        _require_below(folder, path, os.path.realpath(within), os.readlink(this))
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise AgentError(Code.MODEL_INVALID, f"cannot use {folder}: {path} is no regular file")
        handle = os.open(this, os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(found)
    try:
        yield handle
    finally:
        os.close(handle)


def _require_below(folder: Path, path: str, top: str, real: str) -> None:
    if not Path(real).is_relative_to(top):
        raise AgentError(
            Code.MODEL_INVALID,
            f"cannot use {folder}: {folder / path} leads out of {top}, to {real}",
            "copy the files themselves there: rsync --copy-links, or cp --dereference",
        )
