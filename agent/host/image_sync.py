# SPDX-License-Identifier: MulanPSL-2.0
"""An image that was brought outlives a power cut.

Podman syncs what it notes of layers, and never the layers themselves (podman#8005): after a power
cut within seconds of a pull the image is "there", and its files are empty. Layers that it takes for
present are not fetched again, so that no pull mends it.
"""

import ctypes
import os

from agent.errors import AgentError, Code


def sync_storage(storage: str) -> None:
    """All that was written to its file system is on the disk when this returns: minutes, after tens
    of GB on a slow one. Raises AgentError."""
    try:
        handle = os.open(storage, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        os.sync()  # not seen from here: all file systems, then
        return
    try:
        _sync(handle)
    except OSError as error:
        raise AgentError(
            Code.FILE_NOT_WRITTEN,
            f"cannot write below {storage}: {error.strerror}",
            "see: dmesg, and: df -h; is it mounted read-only?",
        ) from error
    finally:
        os.close(handle)


def _sync(handle: int) -> None:
    """syncfs(2), which os does not have."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syncfs(handle) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
