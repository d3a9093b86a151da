# SPDX-License-Identifier: MulanPSL-2.0
"""The real process, from start to SIGTERM: a folder for /dev, a script for npu-smi."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.model import DriverState
from agent.npud.__main__ import Options, main, parse_options
from agent.npud.daemon import next_pause_s
from tests.unit.npud.fake_smi import HANGING, answering, saying, write_script

REPOSITORY = Path(__file__).parents[3]
# Plain files stand for device nodes; nothing else differs from `python3 -sP -m agent.npud`.
PLAIN_FILES = """
import sys
from agent.lean import spare_dataclasses
spare_dataclasses()
from agent.npud.__main__ import main
sys.exit(main(is_device=lambda status: True))
"""

Message = dict[str, Any]


class Npud:
    """A running npud, a listener at its socket, and systemd's end of the notify socket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.dev = folder / "dev"
        self.dev.mkdir()
        self.smi = folder / "npu-smi"
        self.dcmi = folder / "libdcmi.so"  # there is none, unless a test puts one
        self.socket = folder / "npu.sock"
        self.log = folder / "log"
        self.systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.systemd.bind(str(folder / "notify"))
        self.systemd.settimeout(5)
        self.clients: list[socket.socket] = []
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *how: str, interval: str = "60") -> str:
        """Returns what systemd was told with READY=1."""
        self.spawn(*how, interval=interval)
        return self.await_notice("READY=1")

    def spawn(self, *how: str, interval: str = "60") -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-sP", *(how or ("-c", PLAIN_FILES)), *self.options(interval)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={
                    "PYTHONPATH": str(REPOSITORY),
                    "NOTIFY_SOCKET": str(self.folder / "notify"),
                    "WATCHDOG_USEC": "1000000",
                    "DCMI_DOUBLE": str(self.folder / "state" / "double"),
                },
            )

    def options(self, interval: str) -> list[str]:
        words = {
            "socket": self.socket,
            "dcmi": self.dcmi,
            "npu-smi": self.smi,
            "dev": self.dev,
            "interval": interval,
        }
        return [word for name, value in words.items() for word in (f"--{name}", str(value))]

    def nodes(self, *names: str) -> None:
        for name in names:
            (self.dev / name).touch()

    def await_notice(self, wanted: str) -> str:
        while True:
            told = self.systemd.recv(4096).decode()
            if wanted in told:
                return told

    def listen(self) -> Iterator[Message]:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(8)
        self.clients.append(client)
        client.connect(str(self.socket))
        with client.makefile("rb") as lines:
            for line in lines:
                yield json.loads(line)

    def await_inventory(self, is_wanted: Callable[[Message], bool]) -> Message:
        for message in self.listen():
            if message["type"] == "inventory" and is_wanted(message["inventory"]):
                found: Message = message["inventory"]
                return found
        raise AssertionError("npud ended")

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=20)

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.systemd.close()
        if self.process is not None and self.process.poll() is None:
            try:
                self.stop()  # which also ends an npu-smi that hangs
            finally:
                self.process.kill()
                self.process.wait(timeout=20)


@pytest.fixture
def npud(tmp_path: Path) -> Iterator[Npud]:
    it = Npud(tmp_path)
    yield it
    it.close()


def is_ready(seen: Message) -> bool:
    return bool(seen["driver"] == "ready")


def test_serves_and_ends(npud: Npud) -> None:
    npud.nodes("davinci0", "davinci1", "davinci2", "davinci3", "davinci_manager", "hisi_hdc")
    write_script(npud.smi, answering())
    npud.start()
    npud.await_notice("STATUS=4 NPUs, driver 25.5.1; ")
    seen = npud.await_inventory(is_ready)
    assert [npu["health"] for npu in seen["npus"]] == ["ok", "ok", "alarm", "unknown"]
    assert all(npu["device_present"] for npu in seen["npus"])
    assert seen["manager_devices"] == [f"{npud.dev}/davinci_manager", f"{npud.dev}/hisi_hdc"]
    assert abs(seen["read_at"] - time.time()) < 60
    assert stat.S_IMODE(npud.socket.stat().st_mode) == 0o600
    started = time.monotonic()
    assert npud.stop() == 0
    assert time.monotonic() - started < 1
    assert not npud.socket.exists()


def test_ready_does_not_wait_for_npu_smi(npud: Npud) -> None:
    write_script(npud.smi, HANGING)
    npud.nodes("davinci0")
    assert "STATUS=state of the NPU driver unknown" in npud.start()
    seen = npud.await_inventory(lambda seen: True)
    assert (seen["driver"], seen["npus"][0]["health"]) == ("unknown", "unknown")
    started = time.monotonic()
    assert npud.stop() == 0
    assert time.monotonic() - started < 1  # and takes the hanging one along


def test_a_driver_that_comes_late(npud: Npud) -> None:
    npud.start()
    npud.await_notice("STATUS=waiting for the NPU driver: no /dev/davinci* yet")
    seen = npud.await_inventory(lambda seen: True)
    assert (seen["driver"], seen["npus"]) == ("absent", [])
    write_script(npud.smi, answering())
    started = time.monotonic()
    npud.nodes("davinci0", "davinci1", "davinci2", "davinci3", "devmm_svm")
    npud.await_inventory(is_ready)
    assert time.monotonic() - started < 3  # and not after an interval of 60 s


def test_a_node_that_goes_is_told_at_once(npud: Npud) -> None:
    npud.nodes("davinci0", "davinci1", "davinci2", "davinci3")
    write_script(npud.smi, answering())
    npud.start()
    before = npud.await_inventory(is_ready)
    write_script(npud.smi, HANGING)  # the driver is busy with the loss: /dev alone tells it
    (npud.dev / "davinci1").unlink()
    after = npud.await_inventory(lambda seen: not seen["npus"][1]["device_present"])
    assert after["sequence"] > before["sequence"]
    assert [npu["health"] for npu in after["npus"]] == ["ok", "unknown", "alarm", "unknown"]


def test_a_change_of_health_is_told_at_the_next_reading(npud: Npud) -> None:
    npud.nodes("davinci0", "davinci1", "davinci2", "davinci3")
    write_script(npud.smi, answering())
    npud.start(interval="0.3")
    npud.await_inventory(is_ready)
    write_script(npud.smi, answering() + " | sed 's/| Alarm         /| Critical      /'")
    seen = npud.await_inventory(lambda seen: seen["npus"][2]["health"] == "critical")
    assert is_ready(seen)


def test_a_driver_that_refuses_is_asked_again_soon(npud: Npud) -> None:
    npud.nodes("davinci0")
    write_script(npud.smi, saying("dcmi model initialized failed, ... ret is -8020", 172))
    npud.start()
    npud.await_inventory(lambda seen: seen["driver"] == "failed" and "-8020" in seen["detail"])
    write_script(npud.smi, answering())
    npud.await_inventory(is_ready)


def test_heartbeats_and_watchdog(npud: Npud) -> None:
    npud.start()
    for _ in range(3):
        npud.await_notice("WATCHDOG=1")
    heartbeat = next(message for message in npud.listen() if message["type"] == "heartbeat")
    assert heartbeat == {"schema": 1, "type": "heartbeat", "sequence": heartbeat["sequence"]}


def test_nothing_happens_while_nothing_happens(npud: Npud) -> None:
    """The same inventory read again and again is published once, and the log stays still."""
    npud.nodes("davinci0", "davinci1", "davinci2", "davinci3")
    write_script(npud.smi, answering())
    npud.start(interval="0.1")
    first = npud.await_inventory(is_ready)
    lines = npud.log.read_text()
    time.sleep(1.0)
    second = npud.await_inventory(lambda seen: True)
    assert second["sequence"] == first["sequence"]
    assert second["read_at"] > first["read_at"]
    assert npud.log.read_text() == lines


def test_real_device_nodes(npud: Npud) -> None:
    """Without the tests' predicate: a plain file is not a device, a character device is."""
    npud.nodes("davinci1")
    try:
        os.mknod(npud.dev / "davinci0", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("this machine lets nobody make device nodes")
    write_script(npud.smi, answering())
    npud.start("-m", "agent.npud")
    seen = npud.await_inventory(is_ready)
    assert [npu["device_present"] for npu in seen["npus"]] == [True, False, False, False]


def test_a_second_npud_refuses(npud: Npud) -> None:
    npud.start()
    first = npud.process
    npud.spawn()
    second, npud.process = npud.process, first
    assert second is not None
    assert second.wait(timeout=20) == 1
    assert "another npud answers" in npud.log.read_text()
    assert npud.await_inventory(lambda seen: True)["driver"] == "absent"


def test_after_a_crash_the_next_one_serves(npud: Npud) -> None:
    npud.start()
    assert npud.process is not None
    npud.process.kill()
    npud.process.wait(timeout=20)
    assert npud.socket.exists()
    npud.start()
    npud.await_inventory(lambda seen: True)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--what", "x"], "unknown option --what"),
        (["--dev"], "--dev wants a value"),
        (["--interval", "0"], "--interval"),
        (["--interval", "nan"], "--interval"),
        (["serve"], "serve wants a value"),
    ],
)
def test_bad_arguments(words: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert why in capsys.readouterr().err


def test_arguments() -> None:
    assert parse_options([]) == Options()
    assert parse_options(
        ["--dev=/x/", "--npu-smi", "/y", "--interval", "5", "--dcmi", "/z"]
    ) == Options(dev="/x", npu_smi=("/y",), interval_s=5.0, dcmi=("/z",))


def test_pauses() -> None:
    def pauses(driver: DriverState) -> list[float]:
        return [next_pause_s(driver, tries, 60) for tries in range(1, 9)]

    assert next_pause_s(DriverState.READY, 0, 60) == 60
    assert pauses(DriverState.ABSENT) == [60, 120, 240, 300, 300, 300, 300, 300]
    assert pauses(DriverState.FAILED) == [2, 4, 8, 16, 32, 60, 60, 60]
    assert pauses(DriverState.UNKNOWN) == pauses(DriverState.FAILED)
