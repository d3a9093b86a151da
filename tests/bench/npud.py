# SPDX-License-Identifier: MulanPSL-2.0
"""What npud costs with libdcmi, and how fast a fault gets to a client, with the double as driver.

    python -m tests.bench.npud [--faults 200] [--idle-s 300] [--product 910B3]

The time is from the start of the call that writes the double's state file, until the client has
the line: the double's thread, ctypes, the worker, npud and JSON are all in it.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fakes.dcmi import build
from tests.fakes.dcmi.control import DcmiDouble

REPOSITORY = Path(__file__).parents[2]
PLAIN_FILES = """
import sys
from agent.lean import spare_dataclasses
spare_dataclasses()
from agent.npud.__main__ import main
sys.exit(main(is_device=lambda status: True))
"""
TICKS_PER_S = os.sysconf("SC_CLK_TCK")

CHIPS = {"910B3": 8, "910B4": 8, "Ascend910": 16, "310P3": 8}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--idle-s", type=float, default=300)
    parser.add_argument("--product", default="910B3")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        library = build(folder)
        double = DcmiDouble(folder / "state" / "double")
        double.start(options.product)
        npud = start(folder, library, double.path, CHIPS[options.product])
        try:
            client = connect(folder / "npu.sock")
            print(f"idle at first: {memory(npud.pid)}")
            measure_faults(double, client, options.faults)
            measure_idle(npud.pid, options.idle_s)
            print(f"at the end: {memory(npud.pid)}")
        finally:
            npud.terminate()
            npud.wait(timeout=10)


def start(folder: Path, library: Path, state: Path, chips: int) -> "subprocess.Popen[bytes]":
    (folder / "dev").mkdir()
    for number in range(chips):
        (folder / "dev" / f"davinci{number}").touch()
    words = {"socket": "npu.sock", "dcmi": library.name, "dev": "dev", "npu-smi": "none"}
    arguments = [word for key, place in words.items() for word in (f"--{key}", f"{folder}/{place}")]
    return subprocess.Popen(
        [sys.executable, "-sPS", "-c", PLAIN_FILES, *arguments],
        env={"PYTHONPATH": str(REPOSITORY), "DCMI_DOUBLE": str(state)},
        stderr=subprocess.DEVNULL,
    )


class Client:
    def __init__(self, connection: socket.socket) -> None:
        self._lines = connection.makefile("rb")

    def await_codes(self, logic_id: int, codes: list[str]) -> float:
        """When the line came in which the chip has exactly these."""
        for line in self._lines:
            at = time.perf_counter()
            message = json.loads(line)
            if message["type"] != "inventory" or not message["inventory"]["npus"]:
                continue
            npu = message["inventory"]["npus"][logic_id]
            if [fault["code"] for fault in npu["faults"]] == codes and npu["health"] != "unknown":
                return at
        raise SystemExit("npud ended")


def connect(path: Path) -> Client:
    end = time.monotonic() + 10
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(path))
        except OSError:
            connection.close()
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
            continue
        client = Client(connection)
        client.await_codes(0, [])
        time.sleep(0.5)
        return client


def measure_faults(double: DcmiDouble, client: Client, count: int) -> None:
    times_ms = []
    for number in range(count):
        card, code = number % 4, f"80E0{number:04X}"
        started = time.perf_counter()
        double.raise_fault(card, 0, code)
        logic_id = card * 2 if "Ascend910" in double.lines()[0] else card
        times_ms.append((client.await_codes(logic_id, [code]) - started) * 1000)
        double.clear_fault(card, 0, code)
        client.await_codes(logic_id, [])
        time.sleep(0.03)
    times_ms.sort()
    p50, p99 = times_ms[count // 2], times_ms[min(count - 1, count * 99 // 100)]
    print(
        f"fault to line at a client, {count} times: P50 {p50:.1f} ms, P99 {p99:.1f} ms, "
        f"longest {times_ms[-1]:.1f} ms"
    )


def measure_idle(pid: int, seconds: float) -> None:
    pids = [pid, *children(pid)]
    before = [cpu_s(one) for one in pids]
    last_pid = newest_pid()
    seen = set(pids)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.2)
        seen |= {pid, *children(pid)}
    used = [cpu_s(one) - was for one, was in zip(pids, before, strict=True)]
    print(
        f"{seconds:g} s idle: CPU npud {used[0]:.2f} s, worker {sum(used[1:]):.2f} s; "
        f"processes of npud's that came: {len(seen) - len(pids)} "
        f"(of the whole machine: {newest_pid() - last_pid})"
    )


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(child) for child in text.split()]


def newest_pid() -> int:
    return int(Path("/proc/loadavg").read_text(encoding="ascii").split()[4])


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def memory(pid: int) -> str:
    pss = [pss_mib(one) for one in (pid, *children(pid))]
    each = " + ".join(f"{one:.1f}" for one in pss)
    return f"PSS npud + worker {each} = {sum(pss):.1f} MiB"


def pss_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


if __name__ == "__main__":
    main()
