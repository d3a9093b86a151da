# SPDX-License-Identifier: MulanPSL-2.0
"""agentd, the composition root: builds everything, connects it, runs it.

Nobody imports this module. It ends only by SIGTERM, or when a task of it fails, which none should:
systemd starts it anew at once, and a new agent adopts what runs.
"""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog

from agent import __version__, journal
from agent.action.healing import HealingPodman
from agent.action.start import Actions
from agent.config.kept import keep_last
from agent.config.values import Config, Profile
from agent.control.config_files import ConfigFiles, is_unread
from agent.control.controller import Controller
from agent.control.events import EVENTS_KEPT
from agent.control.memory import Memory, decode_memory, encode_memory
from agent.control.messages import FileTrouble, InventorySeen, MetricsPortSeen
from agent.control.observers import Measured, Observers, Told, Where
from agent.control.record import server as server_of
from agent.control.requests import Requests
from agent.control.watcher import UnitWatcher
from agent.errors import AgentError, Failure, HostUnavailable
from agent.health.endpoint import wait_until_healthy
from agent.health.guard import Guard
from agent.health.log_watch import LogWatch
from agent.host.config import decode_last, encode_last, read_config
from agent.host.containers import Podman
from agent.host.disks import LocalDisks
from agent.host.ends import PidfdEnds
from agent.host.events import EventStore
from agent.host.evidence import EvidenceUnit
from agent.host.files import RenderedFiles
from agent.host.http import LocalHttp
from agent.host.kept import KeptFile
from agent.host.listener import open_tcp, take_listener
from agent.host.logs import JournalLog
from agent.host.machine import LocalMachine, read_boot_id, read_forwarding
from agent.host.npu import NpuFollower
from agent.host.own_process import read_own_process
from agent.host.payloads import ProcPayloads
from agent.host.supply import SupplyUnit
from agent.host.systemd import Systemd
from agent.model import Health
from agent.notify import notify
from agent.ports import StoredEvent
from agent.pulse import Pulse
from agent.render.choose import all_paths
from agent.render.workload import ENGINE_PORT
from agent.status.api.app import build_app, build_scrape_app
from agent.status.api.metrics import MetricsText
from agent.status.api.peer import SocketServer
from agent.status.api.scrape import ScrapePort
from agent.status.changes import Changes
from agent.status.snapshot import Snapshot

log = structlog.get_logger(__name__)

RUN = Path("/run/deepseek-agent")
CONFIG = "config.json"  # what was last in force
MEMORY = "state.json"
EVENTS = "events.db"
FIRST_LOOK_DEADLINE_S = 5.0


@dataclass(frozen=True, slots=True)
class Options:
    """How it was called; the defaults are the package's."""

    socket: Path = RUN / "agent.sock"
    npu_socket: Path = RUN / "npu.sock"
    etc: Path = Path("/etc/deepseek-agent")
    share: Path = Path("/usr/share/deepseek-agent")
    state: Path = Path("/var/lib/deepseek-agent")
    debug: bool = False

    @property
    def config_arguments(self) -> tuple[str, ...]:
        return ("--etc", str(self.etc), "--share", str(self.share))


def main(argv: Sequence[str] | None = None) -> int:
    """The process's entry point; returns the exit status."""
    options = _parse(sys.argv[1:] if argv is None else argv)
    journal.set_up(options.debug)
    try:
        return asyncio.run(_run(options))
    except AgentError as error:
        log.error(error.failure.message, hint=error.failure.hint)
        return 1


def _parse(arguments: Sequence[str]) -> Options:
    default = Options()
    if not arguments:
        return default
    import argparse  # 0.5 MiB that would stay; systemd starts it without arguments

    parser = argparse.ArgumentParser(prog="agentd", description="deepseek-agent's daemon")
    parser.add_argument("--version", action="version", version=__version__)
    for name in ("socket", "npu-socket", "etc", "share", "state"):
        known = getattr(default, name.replace("-", "_"))
        parser.add_argument(f"--{name}", type=Path, default=known)
    parser.add_argument("--debug", action="store_true")
    return Options(**vars(parser.parse_args(arguments)))


async def _run(options: Options) -> int:
    files = ConfigFiles(partial(read_config, options.config_arguments))
    read = await files.read()
    config_file, memory_file = (KeptFile(options.state / name) for name in (CONFIG, MEMORY))
    last, memory = config_file.load(decode_last), memory_file.load(decode_memory)
    if isinstance(read, Failure) and is_unread(read) and not isinstance(last, Config):
        # Nothing is known of any model, and nobody may be told that it cannot serve.
        raise HostUnavailable(read.code, read.message, read.hint)
    store = EventStore(options.state / EVENTS)
    told_before = await store.open(EVENTS_KEPT)
    units, changes, pulse = Systemd(), Changes(), Pulse()

    def turned(snapshot: Snapshot) -> None:
        changes.turn(snapshot)
        pulse(snapshot)

    follower = NpuFollower(
        str(options.npu_socket), lambda seen: controller.put(InventorySeen(seen))
    )
    controller = _compose(
        read,
        None if isinstance(last, Failure) else last,
        memory if isinstance(memory, Memory) else Memory(),
        units,
        follower,
        turned,
        lambda kept: memory_file.offer(encode_memory(kept)),
        store,
        told_before,
    )
    for trouble in (last, memory):
        if isinstance(trouble, Failure):
            controller.put(FileTrouble(trouble))
    config_file.offer(encode_last(controller.config))
    watcher = UnitWatcher(units, controller.put, controller.roster.names)
    units.on_job = watcher.on_job

    async def reload() -> Failure | None:
        """A bad configuration leaves the one in force; returns what is wrong with it."""
        read = await files.read()
        await requests.take_config(read)
        config_file.offer(encode_last(controller.config))
        watcher.look_anew()
        port.want(controller.config.metrics.listen)
        return read if isinstance(read, Failure) else None

    def tell_port(failure: Failure | None) -> None:
        controller.put(MetricsPortSeen(failure))

    def tell_file(failure: Failure | None) -> None:
        controller.put(FileTrouble(failure))

    requests = Requests(controller, watcher.look, reload, units)
    metrics = MetricsText(controller.board, read_own_process)
    port = ScrapePort(build_scrape_app(metrics), open_tcp, tell_port)
    port.want(controller.config.metrics.listen)
    server = SocketServer(build_app(controller.board, requests, metrics, options.share, changes))

    tasks = [
        asyncio.create_task(work)
        for work in (
            controller.run(),
            units.keep(watcher.on_change, watcher.on_systemd),
            watcher.run(),
            follower.run(),
            config_file.run(tell_file),
            memory_file.run(tell_file),
            store.run(tell_file),
            port.run(),
            _on_hangup(reload),
            files.keep_reading(reload),
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
        await config_file.close()
        await memory_file.close()
        await store.close()
        units.close()


async def _first_look(watcher: UnitWatcher) -> None:
    """For a moment: then who asks first is told how it is, and not to ask again. Without a bus
    the agent answers all the same."""
    with suppress(TimeoutError):
        async with asyncio.timeout(FIRST_LOOK_DEADLINE_S):
            await watcher.began.wait()


def _compose(
    config: Config | Failure,
    last: Config | None,
    memory: Memory,
    units: Systemd,
    npud: NpuFollower,
    turned: Callable[[Snapshot], None],
    keep: Callable[[Memory], None],
    history: EventStore,
    told_before: Sequence[StoredEvent],
) -> Controller:
    http = LocalHttp()
    supplier, files = SupplyUnit(units), RenderedFiles()
    podman = HealingPodman(Podman(), units, supplier.is_pulling)
    payloads = ProcPayloads()
    actions = Actions(units, podman, files, LocalMachine(), payloads, EvidenceUnit(units))
    engines = Guard(http, PidfdEnds(payloads), ENGINE_PORT, payloads, read_forwarding)

    async def probe(profile: Profile) -> Health:
        key = actions.running_key(profile.name)
        return await wait_until_healthy(http, server_of(profile), profile.served_name, key)

    async def guard(profile: Profile, where: Where, told: Told, measured: Measured) -> None:
        key = actions.running_key(profile.name)
        await engines.watch(profile, server_of(profile), key, where, told, measured)

    in_force = keep_last(config, last)
    for profile in in_force.profiles:
        files.tidy(all_paths(profile.name))
    return Controller(
        in_force,
        actions,
        npud,
        units,
        Observers(probe, guard, LogWatch(JournalLog())),
        supplier,
        LocalDisks(units),
        turned,
        keep,
        memory,
        read_boot_id(),
        history,
        told_before,
        config_problem=config if isinstance(config, Failure) else None,
    )


async def _on_hangup(reload: Callable[[], Awaitable[object]]) -> None:
    """SIGHUP: as `systemctl reload`, without an answer."""
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
