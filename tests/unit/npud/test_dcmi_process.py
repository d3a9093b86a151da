# SPDX-License-Identifier: MulanPSL-2.0
"""The real npud with the double of libdcmi: from the driver to a line on the socket."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.dcmi.control import DcmiDouble
from tests.unit.npud.dcmi_driver import library
from tests.unit.npud.test_process import Npud, is_ready

CODE = "80E01801"


class Client:
    """Reads all messages in their order, and may ask."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(8)
        self.socket.connect(str(path))
        self._lines = self.socket.makefile("rb")

    def next(self, kind: str = "inventory") -> dict[str, Any]:
        while True:
            message: dict[str, Any] = json.loads(self._lines.readline())
            if message["type"] == kind:
                return message

    def inventory(self) -> dict[str, Any]:
        found: dict[str, Any] = self.next()["inventory"]
        return found

    def ask(self, **request: object) -> None:
        self.socket.sendall(json.dumps(request).encode() + b"\n")

    def close(self) -> None:
        self._lines.close()
        self.socket.close()


class Host:
    def __init__(self, folder: Path) -> None:
        self.npud = Npud(folder)
        self.double = DcmiDouble(folder / "state" / "double")
        self.double.start(cards=4)
        self.npud.dcmi.symlink_to(library())
        self.npud.nodes("davinci0", "davinci1", "davinci2", "davinci3", "davinci_manager")
        self.clients: list[Client] = []

    def start(self) -> Client:
        self.npud.start()
        self.npud.await_inventory(is_ready)
        return self.connect()

    def connect(self) -> Client:
        client = Client(self.npud.socket)
        self.clients.append(client)
        return client

    def workers(self) -> list[int]:
        assert self.npud.process is not None
        pid = self.npud.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
        return [int(child) for child in children.split()]

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.npud.close()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    it = Host(tmp_path)
    yield it
    it.close()


def has_ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").split()[2] == "Z"


def test_nothing_of_it_is_left_when_it_ends(host: Host) -> None:
    """On cgroup v1 systemd may not hear of a process that ends after the main one."""
    host.start()
    (worker,) = host.workers()
    process = host.npud.process
    assert process is not None
    os.kill(worker, signal.SIGSTOP)
    process.send_signal(signal.SIGTERM)
    assert process.wait(8) == 0
    assert not Path(f"/proc/{worker}").exists()


HANGS = """
import os, signal, time
from agent.npud.child import await_children
pid = os.fork()
if pid == 0:
    time.sleep(60)
    os._exit(0)
began = time.monotonic()
assert not await_children(0.2)
assert time.monotonic() - began < 5
os.kill(pid, signal.SIGKILL)
assert await_children(5)
"""


def test_a_child_that_hangs_is_not_waited_for() -> None:
    subprocess.run([sys.executable, "-c", HANGS], check=True, timeout=30)


def test_serves_by_libdcmi_and_ends(host: Host) -> None:
    client = host.start()
    seen = client.inventory()
    assert (seen["source"], len(seen["npus"]), seen["board_id"]) == ("dcmi", 4, 0x33)
    assert seen["npus"][0]["readings"]["temperature_c"] == 45
    (worker,) = host.workers()
    assert host.npud.stop() == 0
    end = time.monotonic() + 2
    while not has_ended(worker):
        assert time.monotonic() < end


def test_a_fault_is_published_before_the_query_that_follows(host: Host) -> None:
    client = host.start()
    client.inventory()
    host.double.hang("get_device_health", 2)  # so that the query cannot be what told it
    host.double.raise_fault(2, 0, CODE, severity=2, text="multi bit")
    npu = client.inventory()["npus"][2]
    (fault,) = npu["faults"]
    assert (fault["code"], fault["severity"], fault["text"]) == (CODE, "major", "multi bit")
    assert npu["health"] == "ok"


def test_refresh_reads_now_and_answers_also_when_nothing_changed(host: Host) -> None:
    client = host.start()
    first = client.inventory()
    host.double.set_value(1, 0, "temperature", 88)
    client.ask(type="refresh")
    second = client.inventory()
    assert second["sequence"] == first["sequence"]
    assert second["npus"][1]["readings"]["temperature_c"] == 88
    host.double.set_option("events", "off")
    host.double.raise_fault(3, 0, CODE)
    client.ask(type="refresh")
    assert [fault["code"] for fault in client.inventory()["npus"][3]["faults"]] == [CODE]


def test_refresh_is_once_a_second_at_most(host: Host) -> None:
    client = host.start()
    client.inventory()
    host.double.set_option("log", "calls")
    before = len(host.double.calls("get_card_list"))
    end = time.monotonic() + 2.5
    while time.monotonic() < end:
        client.ask(type="refresh")
        time.sleep(0.02)
    assert 1 <= len(host.double.calls("get_card_list")) - before <= 4


def test_a_reset_by_request(host: Host) -> None:
    client = host.start()
    host.double.raise_fault(1, 0, CODE)
    host.npud.await_inventory(lambda seen: seen["npus"][1]["health"] == "critical")
    client.ask(type="reset", logic_id=1)
    told = client.next("reset")
    assert told == {
        "schema": 1,
        "type": "reset",
        "logic_id": 1,
        "outcome": "ok",
        "detail": "boot status 16",
    }
    host.npud.await_inventory(lambda seen: seen["npus"][1]["health"] == "ok")


def test_a_worker_does_not_outlive_npud(host: Host) -> None:
    client = host.start()
    host.double.set_option("log", "calls")
    host.double.hang("get_device_health", 0)
    client.ask(type="refresh")
    (worker,) = host.workers()
    end = time.monotonic() + 3
    while not host.double.calls("get_driver_version"):  # the last one before the hang
        assert time.monotonic() < end
    time.sleep(0.2)
    process = host.npud.process
    assert process is not None
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=20)
    end = time.monotonic() + 2
    while not has_ended(worker):
        assert time.monotonic() < end


def test_a_worker_holds_nothing_of_npuds(host: Host) -> None:
    """A client sees npud's end at once, though the worker was forked while it was connected."""
    host.start()
    (worker,) = host.workers()
    files = [os.readlink(f"/proc/{worker}/fd/{fd}") for fd in os.listdir(f"/proc/{worker}/fd")]
    sockets = [name for name in files if name.startswith("socket:")]
    assert len(sockets) == 1
    assert not any("eventpoll" in name or "pipe" in name for name in files)


def test_a_node_that_goes_is_told_at_once(host: Host) -> None:
    client = host.start()
    client.inventory()
    host.double.hang("get_card_list")  # the driver is busy with the loss: /dev alone tells it
    (host.npud.dev / "davinci1").unlink()
    seen = client.inventory()
    assert not seen["npus"][1]["device_present"]
    assert [npu["health"] for npu in seen["npus"]] == ["ok", "unknown", "ok", "ok"]
    host.double.raise_fault(2, 0, CODE)
    seen = client.inventory()
    assert seen["npus"][2]["faults"]
    assert seen["npus"][1]["health"] == "unknown"  # not what was told before the node went
