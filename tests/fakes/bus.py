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


@dataclass(frozen=True, slots=True)
class PrivateBus:
    """A bus daemon that runs until `drop`."""

    address: str
    process: "subprocess.Popen[str]"

    def drop(self) -> None:
        """The bus dies, as by SIGKILL: its clients see the end of the stream."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def private_bus() -> Iterator[PrivateBus]:
    """Starts one; skips the test where there is no dbus-daemon."""
    daemon = shutil.which("dbus-daemon")
    if daemon is None:
        pytest.skip("there is no dbus-daemon here")
    with tempfile.TemporaryDirectory(prefix="deepseek-bus-") as folder:
        config = Path(folder) / "bus.conf"
        config.write_text(CONFIG.format(socket=Path(folder) / "bus"), encoding="utf-8")
        process = subprocess.Popen(
            (daemon, f"--config-file={config}", "--nofork", "--print-address"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        try:
            yield PrivateBus(process.stdout.readline().strip(), process)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
