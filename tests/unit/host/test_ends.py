# SPDX-License-Identifier: MulanPSL-2.0
"""Processes of a container that end: told at once, of that container alone."""

import asyncio
import os
from pathlib import Path

from agent.host.ends import PidfdEnds
from agent.host.payloads import ProcPayloads
from tests.unit.host.test_payloads import ID, V2, add


def test_a_followed_process_that_ends_is_told(tmp_path: Path) -> None:
    """A real process under the faked /proc's number."""

    async def whole() -> None:
        child = await asyncio.create_subprocess_exec("sleep", "60")
        add(tmp_path, child.pid, V2)
        add(tmp_path, 7, V2.replace(ID, "f" * 64))
        ended: list[str] = []
        stop = PidfdEnds(ProcPayloads(tmp_path)).follow(ID, lambda: ended.append("one"))
        await asyncio.sleep(0.05)
        assert ended == []
        child.kill()
        await child.wait()
        await asyncio.sleep(0.05)
        assert ended == ["one"]
        stop()
        stop()

    asyncio.run(whole())


def test_nobody_is_told_once_it_is_left(tmp_path: Path) -> None:
    async def whole() -> None:
        child = await asyncio.create_subprocess_exec("sleep", "60")
        add(tmp_path, child.pid, V2)
        before = len(os.listdir("/proc/self/fd"))
        ended: list[str] = []
        stop = PidfdEnds(ProcPayloads(tmp_path)).follow(ID, lambda: ended.append("one"))
        stop()
        assert len(os.listdir("/proc/self/fd")) == before
        child.kill()
        await child.wait()
        await asyncio.sleep(0.05)
        assert ended == []

    asyncio.run(whole())
