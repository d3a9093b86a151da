# SPDX-License-Identifier: MulanPSL-2.0
"""What another process uses, by /proc."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

PAGE_MIB = os.sysconf("SC_PAGE_SIZE") / 2**20
LOOK_S = 0.1


def cpu_s(pid: int) -> float:
    """Of all its threads, to the nanosecond (proc(5), schedstat): ticks miss short turns."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            total += int((task / "schedstat").read_text(encoding="ascii").split()[0])
    return total / 1e9


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def resident_mib(pid: int) -> float:
    pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * PAGE_MIB


@dataclass
class Usage:
    """The most that a process had meanwhile."""

    pid: int
    most_descriptors: int = 0
    most_mib: float = 0.0
    cpu_percent: float = 0.0

    @contextlib.asynccontextmanager
    async def followed(self) -> AsyncIterator[None]:
        began, used_s = time.monotonic(), cpu_s(self.pid)
        task = asyncio.create_task(self._look())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})
            self.cpu_percent = (cpu_s(self.pid) - used_s) / (time.monotonic() - began) * 100

    async def _look(self) -> None:
        while True:
            self.most_descriptors = max(self.most_descriptors, descriptors(self.pid))
            self.most_mib = max(self.most_mib, resident_mib(self.pid))
            await asyncio.sleep(LOOK_S)
