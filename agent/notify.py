# SPDX-License-Identifier: MulanPSL-2.0
"""What systemd is told: in come lines such as READY=1, out goes one datagram to $NOTIFY_SOCKET.

Shared by npud, attach and agentd, so: standard library only, nothing kept, never raises. Touches
the environment (read) and systemd's notify socket, see sd_notify(3) and sd_watchdog_enabled(3).
"""

import os
import socket


def notify(*lines: str) -> bool:
    """Tell systemd. False when it could not take it now (what matters has to be said again); True
    also when nobody asked for it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return True
    if address.startswith("@"):
        address = "\0" + address[1:]  # the abstract namespace, as sd_notify(3) writes it
    message = "\n".join(line.replace("\n", " ") for line in lines).encode()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            # A full queue (PID 1 is busy) may not hold up a loop: what is lost is said again.
            sender.setblocking(False)
            sender.sendto(message, address)
    except OSError:
        return False
    return True


def watchdog_interval_s() -> float | None:
    """Within how many seconds systemd wants each WATCHDOG=1; None when it does not watch us."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None  # meant for another process of this service
    limit_us = os.environ.get("WATCHDOG_USEC", "")
    if not (limit_us.isascii() and limit_us.isdecimal()):
        return None
    return int(limit_us) / 1e6 or None
