# SPDX-License-Identifier: MulanPSL-2.0
"""agentd as a process of its own, on the fake systemd's bus: how it begins, and how it ends."""

import asyncio
import contextlib
import shutil
import signal
import socket
import time
from pathlib import Path

import pytest

from agent.errors import Code
from agent.model import Phase, engine_unit, front_unit
from agent.status.snapshot import Snapshot
from tests.fakes.bus import PrivateBus
from tests.scenario.agentd import Daemon, daemon, write_config
from tests.scenario.world import until

FRONT, ENGINE = front_unit("8b"), engine_unit("8b")
READER = "tests.fakes.config_reader"


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


def test_a_reader_that_is_killed_keeps_no_model_from_serving(
    tmp_path: Path, bus: PrivateBus
) -> None:
    """Memory is short at a boot. What was last in force is, and the files are read again."""
    before, after = tmp_path / "before", tmp_path / "after"
    write_config(before)
    write_config(after)
    (after / "short").touch()

    async def begin() -> None:
        async with daemon(before, bus, reader=READER) as one:
            await one.told("READY=1")
            kept = before / "state/config.json"
            deadline = time.monotonic() + 30
            while not kept.exists():
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)

    async def begin_again() -> None:
        async with daemon(after, bus, reader=READER) as one:
            seen = await one.status()
            assert seen.config_problem is not None
            assert seen.config_problem.code is Code.CONFIG_UNREAD
            assert seen.broken == ()
            one.systemd.change(FRONT, "activating")
            # It is tried, and not held for a person; here is no Podman.
            seen = await one.reach(lambda seen: seen.instances[0].failures > 0)
            failure = seen.instances[0].failure
            assert failure is not None
            assert failure.code is Code.PODMAN_UNAVAILABLE
            await asyncio.sleep(3)  # it has been read again meanwhile: the same is no event
            assert "config-refused" not in {event.kind for event in (await one.status()).events}
            (after / "short").unlink()
            await one.reach(lambda seen: seen.config_problem is None)

    asyncio.run(begin())
    shutil.copytree(before / "state", after / "state")
    asyncio.run(begin_again())


def test_a_reader_that_is_killed_at_the_very_first_start(tmp_path: Path, bus: PrivateBus) -> None:
    """Then there is nothing to go by; systemd starts the agent again."""
    write_config(tmp_path)
    (tmp_path / "short").touch()

    async def scenario() -> None:
        async with daemon(tmp_path, bus, reader=READER):
            raise AssertionError("it has begun")

    with pytest.raises(AssertionError, match="it ended with 1"):
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
