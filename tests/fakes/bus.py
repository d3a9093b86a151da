# SPDX-License-Identifier: MulanPSL-2.0
"""A private, real dbus-daemon: its own configuration, its own socket, ended by its pid."""

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"""


@dataclass
class PrivateBus:
    """A bus daemon that runs until `drop`."""

    address: str
    process: "subprocess.Popen[str]"
    argv: tuple[str, ...]

    def drop(self) -> None:
        """The bus dies, as by SIGKILL: its clients see the end of the stream."""
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def restart(self) -> None:
        """It dies, and another one takes its place at the same path."""
        self.drop()
        self.process = spawn(self.argv)
        self.address = read_address(self.process)


def spawn(argv: tuple[str, ...]) -> "subprocess.Popen[str]":
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)


def read_address(process: "subprocess.Popen[str]") -> str:
    """Printed when it listens; without the guid, which changes with every start."""
    assert process.stdout is not None
    return process.stdout.readline().strip().partition(",guid=")[0]


@contextlib.contextmanager
def private_bus() -> Iterator[PrivateBus]:
    """Starts one; skips the test where there is no dbus-daemon."""
    daemon = shutil.which("dbus-daemon")
    if daemon is None:
        pytest.skip("there is no dbus-daemon here")
    with tempfile.TemporaryDirectory(prefix="deepseek-bus-") as folder:
        config = Path(folder) / "bus.conf"
        config.write_text(CONFIG.format(socket=Path(folder) / "bus"), encoding="utf-8")
        argv = (daemon, f"--config-file={config}", "--nofork", "--print-address")
        process = spawn(argv)
        bus = PrivateBus(read_address(process), process, argv)
        try:
            yield bus
        finally:
            bus.drop()
