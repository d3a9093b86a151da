# SPDX-License-Identifier: MulanPSL-2.0
"""Device nodes for npud's tests, and processes that have one open."""

import contextlib
import os
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

# Of the kernel's memory devices (major 1): one that can be opened (zero, full, random) and that no
# other worker of pytest opens meanwhile, and those that nobody has.
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
OPENABLE = (5, 7, 8)[WORKER % 3]
UNUSED_MINORS = 200


def make_node(folder: Path, logic_id: int, minor: int, name: str = "") -> Path:
    """In place of what is there."""
    path = folder / (name or f"davinci{logic_id}")
    path.unlink(missing_ok=True)
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, minor))
    return path


@contextlib.contextmanager
def opener(node: Path, *, of_npud: bool = False) -> Iterator[int]:
    """A process that has it open, and its id; a child of this one only when it is `of_npud`."""
    script = f"exec 9<'{node}'; exec sleep 100"
    child = None if not of_npud else subprocess.Popen(["sh", "-c", script])
    pid = child.pid if child else _spawn_grandchild(script)
    try:
        _wait_until_it_sleeps(pid)
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        if child:
            child.wait()
        _wait_until_it_is_gone(pid)


def _spawn_grandchild(script: str) -> int:
    shell = f"({script}) >/dev/null 2>&1 & echo $!"
    return int(subprocess.check_output(["sh", "-c", shell]))


def _wait_until_it_is_gone(pid: int) -> None:
    """A killed process keeps its files open until the kernel got round to it."""
    process = Path(f"/proc/{pid}")
    deadline = time.monotonic() + 5
    while process.exists():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def _wait_until_it_sleeps(pid: int) -> None:
    comm = Path(f"/proc/{pid}/comm")
    deadline = time.monotonic() + 5
    while comm.read_text(encoding="ascii") != "sleep\n":
        assert time.monotonic() < deadline
        time.sleep(0.005)
