# SPDX-License-Identifier: MulanPSL-2.0
"""The sockets that clients connect to: the agent's own, from systemd, or made here when run by
hand; and a TCP port, where the operator wants one.
"""

import os
import socket
from contextlib import suppress
from pathlib import Path

from agent.errors import Code, HostError

# sd_listen_fds(3).
FIRST_FD = 3
TCP_BACKLOG = 16


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


def open_tcp(listen: str) -> socket.socket:
    """Listens at an address with its port: "127.0.0.1:9834", "[::1]:9834". Raises HostError."""
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        # A port that was closed a moment ago, with connections that end still, is free.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, int(port)))
        listener.listen(TCP_BACKLOG)
    except OSError as error:
        listener.close()
        raise HostError(
            Code.METRICS_NOT_SERVED,
            f"cannot serve metrics at {listen}: {error.strerror}",
            "it is tried again; `ss -ltnp` shows who listens where",
        ) from error
    listener.setblocking(False)
    return listener
