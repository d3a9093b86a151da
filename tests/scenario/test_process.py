# SPDX-License-Identifier: MulanPSL-2.0
"""agentd as a process of its own, on the fake systemd's bus: how it begins, and how it ends."""

import asyncio
import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from agent.errors import Code
from agent.model import Phase, engine_unit, front_unit
from agent.status.client import AgentClient
from agent.status.snapshot import Snapshot
from tests.build import build_inventory
from tests.fakes.bus import PrivateBus
from tests.fakes.npud import FakeNpud
from tests.fakes.systemd import FakeSystemd
from tests.scenario.world import until

FRONT, ENGINE = front_unit("8b"), engine_unit("8b")
PROFILE = 'served_name = "a"\nmodel = "/nonexistent/model"\nimage = "x"\nport = {port}\n'


@dataclass
class Daemon:
    """A running agentd."""

    folder: Path
    child: asyncio.subprocess.Process
    notices: socket.socket
    systemd: FakeSystemd
    npud: FakeNpud
    heard: list[str] = field(default_factory=list)

    async def status(self) -> Snapshot:
        def ask() -> Snapshot:
            client = AgentClient(self.folder / "agent.sock")
            try:
                return client.status()
            finally:
                client.close()

        return await asyncio.to_thread(ask)

    async def phase(self) -> Phase:
        one = (await self.status()).instance("8b")
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


def write_config(folder: Path, port: str = "2023") -> None:
    (folder / "etc" / "models.d").mkdir(parents=True, exist_ok=True)
    profile = folder / "etc" / "models.d" / "8b.toml"
    profile.write_text(PROFILE.format(port=port))


@contextlib.asynccontextmanager
async def daemon(
    folder: Path, bus: PrivateBus, descriptors: int = 256, bus_is_up: bool = True
) -> AsyncIterator[Daemon]:
    systemd, npud = FakeSystemd(), FakeNpud(folder / "npu.sock")
    systemd.add(FRONT, file_state="enabled")
    systemd.add(ENGINE, load="not-found")
    npud.inventory = build_inventory()
    await systemd.connect(bus.address)
    if not bus_is_up:
        bus.drop()
    await npud.start()
    notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notices.bind(str(folder / "notify"))
    notices.setblocking(False)
    arguments = [f"--{name}={folder}/{name}" for name in ("etc", "share", "state")]
    arguments += [f"--socket={folder}/agent.sock", f"--npu-socket={folder}/npu.sock"]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "agent.daemon", *arguments),
        env={
            **os.environ,
            "PYTHONPATH": os.getcwd(),
            "DBUS_SYSTEM_BUS_ADDRESS": bus.address,
            "NOTIFY_SOCKET": str(folder / "notify"),
            "WATCHDOG_USEC": "1000000",
        },
        stderr=subprocess.PIPE,
        preexec_fn=limit,
    )
    one = Daemon(folder, child, notices, systemd, npud)
    try:
        await one.told("READY=1")
        yield one
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.communicate()
        notices.close()
        await npud.close()
        await systemd.close()
        await asyncio.sleep(0.02)


async def ended(one: Daemon, within_s: float = 30.0) -> int:
    async with asyncio.timeout(within_s):
        return await one.child.wait()


def test_it_tells_systemd_serves_and_leaves(tmp_path: Path, bus: PrivateBus) -> None:
    write_config(tmp_path)

    async def scenario() -> None:
        async with daemon(tmp_path, bus) as one:
            await one.told("WATCHDOG=1")
            await one.told("STATUS=8 NPUs, driver ready")
            snapshot = await one.status()
            assert snapshot.instances[0].phase is Phase.IDLE
            assert len(snapshot.inventory.npus) == 8
            one.child.send_signal(signal.SIGTERM)
            assert await ended(one) == 0
            asked = one.systemd.asked("StartUnit", "StopUnit", "Reload", "ResetFailedUnit")
            assert asked == []

    asyncio.run(scenario())


def test_sigterm_beside_an_attach_that_stays(tmp_path: Path, bus: PrivateBus) -> None:
    write_config(tmp_path)

    async def scenario() -> None:
        async with daemon(tmp_path, bus) as one:
            reader, writer = await asyncio.open_unix_connection(tmp_path / "agent.sock")
            writer.write(b"GET /v1/instances/8b/attach HTTP/1.0\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            one.child.send_signal(signal.SIGTERM)
            assert await ended(one) == 0
            await reader.read()
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    asyncio.run(scenario())


def test_the_bus_goes_away(tmp_path: Path, bus: PrivateBus) -> None:
    """The agent stays, says so, and goes on when the bus is back."""
    write_config(tmp_path)

    async def scenario() -> None:
        async with daemon(tmp_path, bus) as one:
            await one.systemd.close()
            bus.restart()
            lost = await one.reach(lambda seen: seen.systemd_problem is not None)
            assert lost.systemd_problem is not None
            assert lost.systemd_problem.code is Code.SYSTEMD_UNAVAILABLE
            await one.systemd.connect(bus.address)
            await one.reach(lambda seen: seen.systemd_problem is None)
            one.systemd.change(FRONT, "activating")  # it is watched again
            await one.reach(lambda seen: seen.instances[0].phase is not Phase.IDLE)
            assert one.child.returncode is None

    asyncio.run(scenario())


def test_it_begins_without_a_bus(tmp_path: Path, bus: PrivateBus) -> None:
    """It answers all the same: nothing is known, and nothing is done."""
    write_config(tmp_path)

    async def scenario() -> None:
        async with daemon(tmp_path, bus, bus_is_up=False) as one:
            assert (await one.status()).systemd_problem is not None
            reader, writer = await asyncio.open_unix_connection(tmp_path / "agent.sock")
            writer.write(b"GET /v1/instances/8b/attach HTTP/1.0\r\n\r\n")
            assert (await reader.readline()).split()[1] == b"503"  # which attach takes as: later
            writer.close()

    asyncio.run(scenario())


def test_a_profile_that_is_mended(tmp_path: Path, bus: PrivateBus) -> None:
    """A broken file is a state to show, no reason to die; SIGHUP reads it again."""
    write_config(tmp_path, port="99999")

    async def scenario() -> None:
        async with daemon(tmp_path, bus) as one:
            snapshot = await one.status()
            assert "8b" in snapshot.broken[0]
            write_config(tmp_path)
            one.child.send_signal(signal.SIGHUP)
            deadline = time.monotonic() + 30
            while (await one.status()).broken:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
            assert await one.phase() is Phase.IDLE
            one.systemd.change(FRONT, "activating")  # it is watched from now on
            while (await one.phase()) is Phase.IDLE:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)

    asyncio.run(scenario())


def test_a_crowd_of_connections_stops_nothing(tmp_path: Path, bus: PrivateBus) -> None:
    """The socket is open to every local user, who can use up the agent's descriptors."""
    write_config(tmp_path)

    async def scenario() -> None:
        async with daemon(tmp_path, bus, descriptors=64) as one:
            crowd = []
            for _ in range(80):
                crowd.append(client := socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    client.connect(str(tmp_path / "agent.sock"))
            await asyncio.sleep(0.3)
            one.systemd.change(FRONT, "activating")
            await until(lambda: ("LoadUnit", ENGINE) in one.systemd.calls)
            await asyncio.sleep(0.7)
            for client in crowd:
                client.close()
            deadline = time.monotonic() + 30
            while (await one.phase()) in (Phase.IDLE, Phase.STARTING):
                assert time.monotonic() < deadline, await one.phase()
                await asyncio.sleep(0.05)

    asyncio.run(scenario())


# --- metrics -------------------------------------------------------------------------------------


def write_listen(folder: Path, listen: str) -> None:
    (folder / "etc" / "agent.toml").write_text(f'[metrics]\nlisten = "{listen}"\n')


def scrape(port: int) -> str:
    """Empty when nobody listens there."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 2) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        with client.makefile() as answer:
            return answer.read()
    return ""


async def scraped(port: int, wanted: bool) -> None:
    deadline = time.monotonic() + 30
    while bool(await asyncio.to_thread(scrape, port)) is not wanted:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


def test_a_port_for_metrics(tmp_path: Path, bus: PrivateBus) -> None:
    """Taken at first, then another one by a reload, then none."""
    write_config(tmp_path)

    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            taken = other.getsockname()[1]
            write_listen(tmp_path, f"127.0.0.1:{taken}")
            async with daemon(tmp_path, bus) as one:
                seen = await one.reach(lambda seen: "metrics-not-served" in kinds(seen))
                (why,) = (one.message for one in seen.events if one.kind == "metrics-not-served")
                assert "Address already in use" in why
                with socket.create_server(("127.0.0.1", 0)) as free:
                    port = free.getsockname()[1]
                write_listen(tmp_path, f"127.0.0.1:{port}")
                one.child.send_signal(signal.SIGHUP)
                await scraped(port, wanted=True)
                text = await asyncio.to_thread(scrape, port)
                assert 'deepseek_agent_instance_wished{name="8b"} 0\n' in text
                assert "deepseek_agent_process_resident_memory_bytes " in text
                await one.reach(lambda seen: "metrics-served" in kinds(seen))
                write_listen(tmp_path, "")
                one.child.send_signal(signal.SIGHUP)
                await scraped(port, wanted=False)
                one.child.send_signal(signal.SIGTERM)
                assert await ended(one) == 0

    asyncio.run(scenario())


def kinds(seen: Snapshot) -> list[str]:
    return [event.kind for event in seen.events]
