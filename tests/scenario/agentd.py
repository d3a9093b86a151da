# SPDX-License-Identifier: MulanPSL-2.0
"""agentd as a process of its own, begun as its launcher does it, on the fake systemd's bus, beside
a fake npud."""

import asyncio
import contextlib
import os
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agent.model import Phase, engine_unit, front_unit
from agent.status.client import AgentClient
from agent.status.snapshot import Snapshot
from tests.build import build_inventory
from tests.fakes.bus import PrivateBus
from tests.fakes.npud import FakeNpud
from tests.fakes.podman_api import FakePodmanApi
from tests.fakes.systemd import FakeSystemd

REPOSITORY = Path(__file__).resolve().parents[2]
PROFILE = 'served_name = "a"\nmodel = "/nonexistent/model"\nimage = "x"\nport = {port}\n'
# As rpm/launchers has it; and where the test's Podman is, when there is one, and who reads the
# configuration.
LAUNCHER = """
import functools, sys
from agent.lean import spare_agentd
spare_agentd()
from agent import daemon
from agent.host import config
podman, config.MODULE, *arguments = sys.argv[1:]
if podman:
    daemon.Podman = functools.partial(daemon.Podman, ("--socket", podman))
sys.exit(daemon.main(arguments))
"""


@dataclass
class Daemon:
    """A running agentd."""

    folder: Path
    child: asyncio.subprocess.Process
    notices: socket.socket
    systemd: FakeSystemd
    npud: FakeNpud
    heard: list[str] = field(default_factory=list)

    @property
    def socket(self) -> Path:
        return self.folder / "agent.sock"

    async def status(self) -> Snapshot:
        def ask() -> Snapshot:
            client = AgentClient(self.socket)
            try:
                return client.status()
            finally:
                client.close()

        return await asyncio.to_thread(ask)

    async def phase(self, name: str = "8b") -> Phase:
        one = (await self.status()).instance(name)
        assert one is not None
        return one.phase

    async def reach(
        self, condition: Callable[[Snapshot], bool], within_s: float = 30.0
    ) -> Snapshot:
        """Until the status is so."""
        deadline = time.monotonic() + within_s
        while not condition(seen := await self.status()):
            assert time.monotonic() < deadline, seen
            await asyncio.sleep(0.05)
        return seen

    async def told(self, word: str, within_s: float = 30.0) -> str:
        """Waits for what systemd is to be told, or has been."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            with contextlib.suppress(BlockingIOError):
                self.heard.append(self.notices.recv(4096).decode())
                continue
            found = [notice for notice in self.heard if word in notice]
            if found:
                return found[-1]
            assert self.child.returncode is None, f"it ended with {self.child.returncode}"
            await asyncio.sleep(0.01)
        raise AssertionError(f"systemd was not told {word}")


def write_config(folder: Path, port: str = "2023", name: str = "8b") -> None:
    (folder / "etc" / "models.d").mkdir(parents=True, exist_ok=True)
    profile = folder / "etc" / "models.d" / f"{name}.toml"
    profile.write_text(PROFILE.format(port=port))


@contextlib.asynccontextmanager
async def daemon(
    folder: Path,
    bus: PrivateBus,
    descriptors: int = 256,
    bus_is_up: bool = True,
    npus: int = 8,
    instances: Sequence[str] = ("8b",),
    stderr: int = subprocess.PIPE,
    podman: FakePodmanApi | None = None,
    reader: str = "agent.config",
) -> AsyncIterator[Daemon]:
    """`stderr`: where what it logs goes; a pipe takes 64 KiB before anybody reads it."""
    systemd, npud = FakeSystemd(), FakeNpud(folder / "npu.sock")
    for name in instances:
        systemd.add(front_unit(name), file_state="enabled")
        systemd.add(engine_unit(name), load="not-found")
    npud.inventory = build_inventory(npus)
    (folder / "share").mkdir(exist_ok=True)
    for file in ("openapi.json", "faults.toml"):
        shutil.copy(REPOSITORY / "etc" / file, folder / "share")
    await systemd.connect(bus.address)
    if not bus_is_up:
        bus.drop()
    await npud.start()
    if podman is not None:
        await podman.start()
    notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notices.bind(str(folder / "notify"))
    notices.setblocking(False)
    arguments = [f"--{name}={folder}/{name}" for name in ("etc", "share", "state")]
    arguments += [f"--socket={folder}/agent.sock", f"--npu-socket={folder}/npu.sock"]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", LAUNCHER, f"unix://{podman.path}" if podman else ""),
        *(reader, *arguments),
        env={
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "DBUS_SYSTEM_BUS_ADDRESS": bus.address,
            "NOTIFY_SOCKET": str(folder / "notify"),
            "WATCHDOG_USEC": "1000000",
            "MALLOC_ARENA_MAX": "1",  # as its unit has it
        },
        stderr=stderr,
        preexec_fn=limit,
    )
    one = Daemon(folder, child, notices, systemd, npud)
    try:
        await one.told("READY=1", within_s=20)
        yield one
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.communicate()
        notices.close()
        await npud.close()
        if podman is not None:
            await podman.close()
        await systemd.close()
        await asyncio.sleep(0.02)
