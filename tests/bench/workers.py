# SPDX-License-Identifier: MulanPSL-2.0
"""What replacing libdcmi's process a thousand times leaves behind: files, maps, memory, zombies.

python -m tests.bench.workers [--times 1000]
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from selectors import DefaultSelector

from agent.npud.dcmi.messages import Look, Request
from agent.npud.dcmi.process import kill_process
from agent.npud.dcmi.workers import Workers
from agent.npud.log import Log
from tests.fakes.dcmi import build
from tests.fakes.dcmi.control import DcmiDouble


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=1000)
    times = parser.parse_args().times
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        library = str(build(folder))
        double = DcmiDouble(folder / "state")
        double.start()
        os.environ["DCMI_DOUBLE"] = str(double.path)
        with DefaultSelector() as selector:
            crew = Workers(selector, Log(), kill_process, lambda _worker: None)
            replace_workers(crew, library, 10)
            print(f"after 10: {state()}")
            started = time.monotonic()
            replace_workers(crew, library, times)
            each_ms = (time.monotonic() - started) * 1000 / times
            print(f"after {times} more ({each_ms:.1f} ms each): {state()}")
            crew.close()


def replace_workers(crew: Workers, library: str, times: int) -> None:
    """Each has subscribed, and is killed in the middle of what it says."""
    for number in range(times):
        worker = crew.fork(library, time.monotonic())
        assert worker is not None
        worker.send(Request(Look.ALL))
        if number % 2:
            while not worker.receive()[0]:
                time.sleep(0.001)
        crew.doom(None, time.monotonic())
        while children():
            crew.reap(time.monotonic())


def children() -> list[str]:
    path = Path(f"/proc/self/task/{os.getpid()}/children")
    return path.read_text(encoding="ascii").split()


def state() -> str:
    files = len(os.listdir("/proc/self/fd"))
    maps = Path("/proc/self/maps").read_text(encoding="ascii").count("\n")
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
    rss_kib = next(int(line.split()[1]) for line in lines if line.startswith("Rss:"))
    return f"{files} files, {maps} maps, RSS {rss_kib / 1024:.2f} MiB, children {children()}"


if __name__ == "__main__":
    main()
