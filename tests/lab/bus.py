# SPDX-License-Identifier: MulanPSL-2.0
"""The system bus of a lab host, and what can become of it.

A daemon that is killed is back with the next connection: dbus.socket goes on listening. For the bus
to stay away the socket has to be stopped and masked, too.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

from . import product
from .faults import send_signal
from .host import LabHost
from .process import LabError
from .rootfs import Flavour

IMPOSTOR = "lab-impostor.service"
# Takes the place of the bus, and never says a word of D-Bus.
IMPOSTOR_SCRIPT = """
import os, socket, sys
PATH = "/run/dbus/system_bus_socket"
if os.path.exists(PATH):
    os.unlink(PATH)
listener = socket.socket(socket.AF_UNIX)
listener.bind(PATH)
os.chmod(PATH, 0o666)
listener.listen(64)
kept = []
while True:
    peer = listener.accept()[0]
    if sys.argv[1] == "silent":
        kept.append(peer)
    else:
        peer.close()
"""


class BusKind(StrEnum):
    DAEMON = "dbus-daemon"
    BROKER = "dbus-broker"


class Impostor(StrEnum):
    """What a peer gets who connects."""

    HANGS_UP = "hangs-up"
    SILENT = "silent"


# Debian 12 has no dbus-broker in the lab, and openEuler has dbus-daemon.
KINDS = (
    (Flavour.MODERN, BusKind.BROKER),
    (Flavour.MODERN, BusKind.DAEMON),
    (Flavour.LEGACY, BusKind.DAEMON),
)
UNITS = {BusKind.DAEMON: "dbus.service", BusKind.BROKER: "dbus-broker.service"}


def use_bus(host: LabHost, kind: BusKind) -> None:
    """dbus.service is an alias of dbus-broker.service while that one is enabled."""
    if product.show(host, "dbus.service", "Id")["Id"] == UNITS[kind]:
        return
    verb = "enable" if kind is BusKind.BROKER else "disable"
    host.run(["systemctl", verb, UNITS[BusKind.BROKER]])
    # Not a reboot, for which systemctl asks logind, which may have lost its bus in a test.
    host.power_cut()
    host.boot()
    host.wait_booted()
    assert product.show(host, "dbus.service", "Id")["Id"] == UNITS[kind]


def bus_pids(host: LabHost) -> list[int]:
    """The main process first; dbus-broker is a child of its launcher."""
    main = product.show(host, "dbus.service", "MainPID")["MainPID"]
    children = host.run(["pgrep", "--parent", main], check=False).stdout.split()
    return [int(pid) for pid in (main, *children)]


def kill_bus(host: LabHost) -> None:
    """Returns when systemd has noticed."""
    main, *_ = bus_pids(host)
    send_signal(host, "KILL", [main])
    deadline = time.monotonic() + 10
    while product.show(host, "dbus.service", "MainPID")["MainPID"] == str(main):
        if time.monotonic() > deadline:
            raise LabError(f"dbus.service still has main process {main}")
        time.sleep(0.05)


@contextmanager
def bus_away(host: LabHost) -> Iterator[None]:
    """No socket, no daemon; both are back at the end."""
    host.run(["systemctl", "mask", "--runtime", "dbus.socket"])
    host.run(["systemctl", "stop", "dbus.socket", "dbus.service"])
    try:
        yield
    finally:
        restore_bus(host)


@contextmanager
def bus_stopped(host: LabHost) -> Iterator[None]:
    """SIGSTOP: connections stay open, and are accepted, and nobody answers."""
    pids = bus_pids(host)
    send_signal(host, "STOP", pids)
    try:
        yield
    finally:
        send_signal(host, "CONT", pids)


@contextmanager
def bus_replaced(host: LabHost, impostor: Impostor) -> Iterator[None]:
    """Something that is no bus listens in its place."""
    with bus_away(host):
        host.write("/run/lab-impostor.py", IMPOSTOR_SCRIPT)
        argv = ["python3", "/run/lab-impostor.py", impostor]
        host.run(["systemd-run", f"--unit={IMPOSTOR}", "--collect", *argv])
        yield


def restore_bus(host: LabHost) -> None:
    host.run(["systemctl", "stop", IMPOSTOR], check=False)
    host.run(["systemctl", "unmask", "--runtime", "dbus.socket"])
    host.run(["systemctl", "start", "dbus.socket", "dbus.service"])
