# SPDX-License-Identifier: MulanPSL-2.0
"""An npud of our own for one look at the NPUs, where deepseek-npud does not run.

It reads libdcmi or npu-smi as the real one does, and bears that either hangs. Only for root in the
host's own mount namespace: any other process would occupy the NPUs (facts: ascend, 1.6).
"""

import asyncio
import os
import sys
import tempfile
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from agent.host.npu import NpuFollower
from agent.model import DriverState, Inventory

MODULE = "agent.npud"
END_S = 3.0  # it ends its own children


async def read_by_own_npud(deadline_s: float, arguments: Sequence[str] = ()) -> Inventory:
    """What it says of the driver; after `deadline_s` what it has said by then. `arguments` are for
    tests: other places."""
    with tempfile.TemporaryDirectory(prefix="deepseekctl-") as folder:
        socket = Path(folder, "npu.sock")
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-sP", "-m", MODULE, f"--socket={socket}", *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(one for one in sys.path if one)},
        )
        try:
            return await read_known(str(socket), deadline_s, _wait_ended(child))
        finally:
            await _end(child)


async def read_known(
    socket: str, deadline_s: float, ended: Coroutine[None, None, None] | None = None
) -> Inventory:
    """What the npud at that socket says of the driver, once it knows; what it has said by then
    after `deadline_s`, or when it has `ended`."""
    newest = Inventory(DriverState.UNKNOWN, "the driver has not answered yet")
    known = asyncio.Event()

    def take(seen: Inventory) -> None:
        nonlocal newest
        newest = seen
        if seen.driver is not DriverState.UNKNOWN:
            known.set()

    tasks = {
        asyncio.create_task(NpuFollower(socket, take).run()),  # tries until it is there
        asyncio.create_task(_wait(known)),
    }
    if ended is not None:
        tasks.add(asyncio.create_task(ended))
    await asyncio.wait(tasks, timeout=deadline_s, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    if newest.driver is DriverState.UNKNOWN:
        return replace(newest, detail=f"no answer within {deadline_s:g} s ({newest.detail})")
    return newest


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


async def _wait_ended(child: asyncio.subprocess.Process) -> None:
    await child.wait()


async def _end(child: asyncio.subprocess.Process) -> None:
    """One that hangs in the kernel is left alone."""
    for stop in (child.terminate, child.kill):
        if child.returncode is None:
            with suppress(ProcessLookupError):
                stop()
            with suppress(TimeoutError):
                async with asyncio.timeout(END_S):
                    await child.wait()
