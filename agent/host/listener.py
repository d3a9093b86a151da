# SPDX-License-Identifier: MulanPSL-2.0
"""The socket that clients connect to: from systemd, or made here when run by hand."""

import os
import socket
from contextlib import suppress
from pathlib import Path

# sd_listen_fds(3).
FIRST_FD = 3


def take_listener(path: Path) -> socket.socket:
    """systemd's socket when it passed one, else a new one at `path` (for root alone)."""
    if os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS"):
        for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
            os.environ.pop(name, None)  # not for our children
        listener = socket.socket(fileno=FIRST_FD)
        os.set_inheritable(FIRST_FD, False)
    else:
        with suppress(FileNotFoundError):
            path.unlink()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen()
    listener.setblocking(False)
    return listener
