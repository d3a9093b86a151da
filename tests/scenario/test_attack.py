# SPDX-License-Identifier: MulanPSL-2.0
"""Those who mean no good at the socket of a real agentd: others are answered meanwhile, and what it
took of the machine comes back. How fast is measured by `tests.bench.api`.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.status.api.peer import CONNECTIONS
from tests.bench.usage import descriptors, resident_mib
from tests.fakes.bus import PrivateBus
from tests.scenario.agentd import REPOSITORY, Daemon, daemon, write_config
from tests.scenario.world import until
from tests.visitors import BAD

ATTACK_S = 1.5
# The deadlines of a request and of a reader are 10 s and 30 s; those who attack have left by then.
BACK_WITHIN_S = 20.0
# 64 connections of each of five users could have more in flight than is ever seen of it.
ROOM_MIB = 48.0
USERS = (1001, 1002, 1003, 1004)


@pytest.fixture
def folder() -> Iterator[Path]:
    """pytest's own folder is closed to others, and a path of it may be too long for a socket."""
    with tempfile.TemporaryDirectory(prefix="deepseek-attack-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


async def send(kind: str, one: Daemon, *more: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.visitors", kind, str(one.socket)),
        *(f"--seconds={ATTACK_S}", *more),  # the last of a flag counts
        stdout=subprocess.PIPE,
        cwd=REPOSITORY,
    )


async def told(child: asyncio.subprocess.Process) -> dict[str, object]:
    output, _ = await child.communicate()
    found: dict[str, object] = json.loads(output)
    return found


async def until_back(one: Daemon, before: int) -> None:
    async with asyncio.timeout(BACK_WITHIN_S):
        while descriptors(one.child.pid) > before:  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.1)


async def attack(one: Daemon, kind: str, width: int) -> None:
    pid = one.child.pid
    before, memory = descriptors(pid), resident_mib(pid)
    users = (0, *USERS) if os.geteuid() == 0 else (os.geteuid(),)
    attackers = [await send(kind, one, f"--width={width}", f"--uid={user}") for user in users]
    asked = await told(await send("ask", one))
    visits = [(await told(child))["visits"] for child in attackers]
    assert all(visits), visits  # they were there
    assert asked["codes"] == [200]
    assert asked["times_ms"]  # meanwhile; how quickly is measured elsewhere
    await until_back(one, before)
    assert resident_mib(pid) - memory < ROOM_MIB
    assert one.child.returncode is None


@pytest.mark.parametrize("kind", BAD)
def test_others_are_answered_meanwhile(folder: Path, bus: PrivateBus, kind: str) -> None:
    write_config(folder)

    async def scenario() -> None:
        async with daemon(folder, bus, descriptors=1024) as one:
            one.socket.chmod(0o666)
            await attack(one, kind, width=200 if kind == "crowd" else 16)
            one.child.terminate()
            _, logged = await one.child.communicate()
            # A traceback is a fault of ours; a line for each visit would be theirs to fill a disk.
            assert b"Traceback" not in logged
            assert len(logged.splitlines()) < 10, logged.decode()

    asyncio.run(scenario())


@pytest.mark.skipif(os.geteuid() != 0, reason="comes as several users")
def test_a_thousand_at_once(folder: Path, bus: PrivateBus) -> None:
    """It takes as many as it can keep, and its descriptors do not run out."""
    write_config(folder)

    async def scenario() -> None:
        async with daemon(folder, bus, descriptors=1024) as one:
            one.socket.chmod(0o666)
            users = range(2001, 2011)
            more = ("--width=100", "--seconds=30")
            crowd = [await send("crowd", one, *more, f"--uid={user}") for user in users]
            await until(lambda: descriptors(one.child.pid) > CONNECTIONS, within_s=20)
            await asyncio.sleep(1)  # those who are too many come again and again
            now = descriptors(one.child.pid)
            assert now < CONNECTIONS + 200, now
            for child in crowd:
                child.kill()
                await child.communicate()
            assert (await one.status()).schema == 1

    asyncio.run(scenario())
