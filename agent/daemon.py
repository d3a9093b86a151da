# SPDX-License-Identifier: MulanPSL-2.0
"""agentd, the composition root: builds everything, connects it, runs it.

Nobody imports this module. It ends only by SIGTERM, or when a task of it fails, which none should:
systemd starts it anew at once, and a new agent adopts what runs.
"""

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from agent import __version__, journal
from agent.action.healing import HealingPodman
from agent.action.start import Actions
from agent.config.kept import keep_last
from agent.config.values import Config, Profile
from agent.control.controller import Controller
from agent.control.memory import Memory, decode_memory, encode_memory
from agent.control.messages import FileTrouble, InventorySeen
from agent.control.record import server as server_of
from agent.control.requests import Requests
from agent.control.watcher import UnitWatcher
from agent.errors import AgentError, ConfigError, Failure
from agent.health.endpoint import wait_until_healthy
from agent.host.config import decode_last, encode_last, read_config
from agent.host.containers import Podman
from agent.host.files import RenderedFiles
from agent.host.http import LocalHttp
from agent.host.kept import KeptFile
from agent.host.listener import take_listener
from agent.host.machine import LocalMachine, read_boot_id
from agent.host.npu import NpuFollower
from agent.host.payloads import ProcPayloads
from agent.host.systemd import Systemd
from agent.model import Health, Phase
from agent.notify import notify, watchdog_interval_s
from agent.render.choose import all_paths
from agent.status.peer import SocketServer
from agent.status.server import build_app
from agent.status.snapshot import Snapshot

log = structlog.get_logger(__name__)

RUN = Path("/run/deepseek-agent")
CONFIG = "config.json"  # what was last in force
MEMORY = "state.json"
FIRST_LOOK_DEADLINE_S = 5.0


@dataclass(frozen=True, slots=True)
class Options:
    """How it was called; the defaults are the package's."""

    socket: Path
    npu_socket: Path
    config_arguments: tuple[str, ...]
    state: Path
    debug: bool


def main(argv: Sequence[str] | None = None) -> int:
    """The process's entry point; returns the exit status."""
    options = _parse(argv)
    journal.set_up(options.debug)
    try:
        return asyncio.run(_run(options))
    except AgentError as error:
        log.error(error.failure.message, hint=error.failure.hint)
        return 1


def _parse(argv: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="agentd", description="deepseek-agent's daemon")
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("--socket", type=Path, default=RUN / "agent.sock")
    parser.add_argument("--npu-socket", type=Path, default=RUN / "npu.sock")
    parser.add_argument("--etc", type=Path, default=Path("/etc/deepseek-agent"))
    parser.add_argument("--share", type=Path, default=Path("/usr/share/deepseek-agent"))
    parser.add_argument("--state", type=Path, default=Path("/var/lib/deepseek-agent"))
    parser.add_argument("--debug", action="store_true")
    parsed = parser.parse_args(argv)
    folders = ("--etc", str(parsed.etc), "--share", str(parsed.share))
    return Options(parsed.socket, parsed.npu_socket, folders, parsed.state, parsed.debug)


async def _run(options: Options) -> int:
    read = await _read(options)
    config_file, memory_file = (KeptFile(options.state / name) for name in (CONFIG, MEMORY))
    last, memory = config_file.load(decode_last), memory_file.load(decode_memory)
    units = Systemd()
    follower = NpuFollower(
        str(options.npu_socket), lambda seen: controller.put(InventorySeen(seen))
    )
    controller = _compose(
        read,
        None if isinstance(last, Failure) else last,
        memory if isinstance(memory, Memory) else Memory(),
        units,
        follower,
        lambda kept: memory_file.offer(encode_memory(kept)),
    )
    for trouble in (last, memory):
        if isinstance(trouble, Failure):
            controller.put(FileTrouble(trouble))
    config_file.offer(encode_last(controller.config))
    watcher = UnitWatcher(units, controller.put, controller.roster.names)
    units.on_job = watcher.on_job
    requests = Requests(controller, watcher.look)
    server = SocketServer(build_app(controller.board, requests))

    async def reload() -> None:
        """A bad configuration leaves the one in force, and says so."""
        await requests.take_config(await _read(options))
        config_file.offer(encode_last(controller.config))
        watcher.look_anew()

    def tell(failure: Failure | None) -> None:
        controller.put(FileTrouble(failure))

    tasks = [
        asyncio.create_task(work)
        for work in (
            controller.run(),
            units.keep(watcher.on_change, watcher.on_systemd),
            watcher.run(),
            follower.run(),
            config_file.run(tell),
            memory_file.run(tell),
            _on_hangup(reload),
        )
    ]
    try:
        await _first_look(watcher)
        await server.start(take_listener(options.socket))
        notify("READY=1")
        log.info("started", version=__version__)
        return await _until_done(tasks)
    finally:
        controller.board.close()
        await server.close()
        units.close()


async def _first_look(watcher: UnitWatcher) -> None:
    """For a moment: then who asks first is told how it is, and not to ask again. Without a bus
    the agent answers all the same."""
    with suppress(TimeoutError):
        async with asyncio.timeout(FIRST_LOOK_DEADLINE_S):
            await watcher.began.wait()


async def _read(options: Options) -> Config | Failure:
    """A configuration that cannot be used is a state to show, not a reason to be restarted."""
    try:
        return await read_config(options.config_arguments)
    except ConfigError as error:
        log.error("config-refused", reason=error.failure.message, hint=error.failure.hint)
        return error.failure


def _compose(
    config: Config | Failure,
    last: Config | None,
    memory: Memory,
    units: Systemd,
    npud: NpuFollower,
    keep: Callable[[Memory], None],
) -> Controller:
    http = LocalHttp()
    podman, files = HealingPodman(Podman(), units), RenderedFiles()
    actions = Actions(units, podman, files, LocalMachine(), ProcPayloads())

    async def probe(profile: Profile) -> Health:
        key = actions.running_key(profile.name)
        return await wait_until_healthy(http, server_of(profile), profile.served_name, key)

    in_force = keep_last(config, last)
    for profile in in_force.profiles:
        files.tidy(all_paths(profile.name))
    return Controller(
        in_force,
        actions,
        npud,
        units,
        probe,
        Pulse(),
        keep,
        memory,
        read_boot_id(),
        config_problem=config if isinstance(config, Failure) else None,
    )


class Pulse:
    """Tells systemd, from the writer's own loop, that it turns, and what it does."""

    def __init__(self) -> None:
        interval_s = watchdog_interval_s()
        # Twice within the limit, as sd_watchdog_enabled(3) advises; the loop turns every 5 s.
        self._every_s = interval_s / 2 if interval_s else None
        self._pinged_at = 0.0
        self._status = ""

    def __call__(self, snapshot: Snapshot) -> None:
        now = time.monotonic()
        if self._every_s is not None and now - self._pinged_at >= self._every_s:
            self._pinged_at = now
            notify("WATCHDOG=1")
        status = _summary(snapshot)
        if status != self._status:
            self._status = status
            notify(f"STATUS={status}")


def _summary(snapshot: Snapshot) -> str:
    wished = [one for one in snapshot.instances if one.wished or one.phase is not Phase.IDLE]
    present = sum(npu.device_present for npu in snapshot.inventory.npus)
    npus = f"{present} NPUs, driver {snapshot.inventory.driver}"
    return "; ".join([npus, *(f"{one.name}: {one.phase}" for one in wished)])


async def _on_hangup(reload: Callable[[], Awaitable[None]]) -> None:
    """SIGHUP: systemctl reload."""
    hangup = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hangup.set)
    while True:
        await hangup.wait()
        hangup.clear()
        await reload()


async def _until_done(tasks: Sequence["asyncio.Task[None]"]) -> int:
    """SIGTERM ends with 0; a task that ends by itself is trouble, and ends all with 1."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    failed = [task for task in tasks if task.done()]
    for task in (stopping, *tasks):
        task.cancel()
    await asyncio.gather(stopping, *tasks, return_exceptions=True)
    for task in failed:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("internal-error", error=repr(error), exc_info=error)
    notify("STOPPING=1")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
