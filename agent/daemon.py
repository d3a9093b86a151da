# SPDX-License-Identifier: MulanPSL-2.0
"""agentd, the composition root: builds everything, connects it, runs it.

Nobody imports this module. It ends only by SIGTERM, or when the system bus is lost: systemd starts
it anew at once, and a new agent adopts what runs (dbus-next cannot reconnect).
"""

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from agent import __version__, journal
from agent.action.start import Actions
from agent.config.kept import keep_last
from agent.config.values import Config, Profile
from agent.control.controller import Controller
from agent.control.messages import InventorySeen, UnitsSeen
from agent.control.record import server as server_of
from agent.control.requests import Requests
from agent.errors import AgentError, ConfigError, Failure
from agent.health.endpoint import wait_until_healthy
from agent.host.config import read_config, read_last, write_last
from agent.host.containers import Podman
from agent.host.files import RenderedFiles
from agent.host.http import LocalHttp
from agent.host.listener import take_listener
from agent.host.machine import LocalMachine
from agent.host.npu import NpuFollower
from agent.host.systemd import Systemd
from agent.model import Health, Phase, engine_unit, front_unit
from agent.notify import notify, watchdog_interval_s
from agent.status.peer import SocketServer
from agent.status.server import build_app
from agent.status.snapshot import Snapshot

log = structlog.get_logger(__name__)

RUN = Path("/run/deepseek-agent")
LAST_CONFIG = "config.json"


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
    config = await _read(options)
    units = Systemd()
    watcher = UnitWatcher(units)
    await units.connect(watcher.on_change)
    controller = _compose(config, read_last(options.state / LAST_CONFIG), units)
    _save(options, controller)
    await watcher.look_at_all(controller)
    follower = NpuFollower(
        str(options.npu_socket), lambda seen: controller.put(InventorySeen(seen))
    )
    requests = Requests(controller)
    app = build_app(controller.board, requests)
    server = SocketServer(app)
    await server.start(take_listener(options.socket))
    notify("READY=1")
    log.info("started", version=__version__)
    try:
        return await _until_done(
            asyncio.create_task(controller.run()),
            asyncio.create_task(follower.run()),
            asyncio.create_task(watcher.run(controller)),
            asyncio.create_task(_reload_on_hangup(options, requests, watcher, controller)),
            asyncio.create_task(_lose_bus(units)),
        )
    finally:
        controller.board.close()
        await server.close()


async def _read(options: Options) -> Config | Failure:
    """A configuration that cannot be used is a state to show, not a reason to be restarted."""
    try:
        return await read_config(options.config_arguments)
    except ConfigError as error:
        log.error("config-refused", reason=error.failure.message, hint=error.failure.hint)
        return error.failure


def _save(options: Options, controller: Controller) -> None:
    """What is in force outlives the agent, for profiles that cannot be used at its next start."""
    try:
        write_last(options.state / LAST_CONFIG, controller.config)
    except OSError as error:
        log.warning("config-not-kept", reason=str(error))


def _compose(config: Config | Failure, last: Config | None, units: Systemd) -> Controller:
    http = LocalHttp()
    actions = Actions(units, Podman(), RenderedFiles(), LocalMachine())

    async def probe(profile: Profile) -> Health:
        key = actions.running_key(profile.name)
        return await wait_until_healthy(http, server_of(profile), profile.served_name, key)

    problem = config if isinstance(config, Failure) else None
    in_force = keep_last(config, last)
    return Controller(in_force, actions, units, probe, Pulse(), config_problem=problem)


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


class UnitWatcher:
    """Asks systemd for the units that it reported a change of; many reports make one question."""

    def __init__(self, units: Systemd) -> None:
        self._units = units
        self._instances: dict[str, str] = {}  # unit -> instance
        self._changed: set[str] = set()
        self._wake = asyncio.Event()

    def on_change(self, unit: str) -> None:
        """From the bus; "" when all may have changed."""
        self._changed |= {self._instances[unit]} if unit else set(self._instances.values())
        self._wake.set()

    async def look_at_all(self, controller: Controller) -> None:
        """Watches the units of all profiles, and reports how they are."""
        for profile in controller.config.profiles:
            for unit in (front_unit(profile.name), engine_unit(profile.name)):
                self._instances[unit] = profile.name
                await self._units.watch(unit)
            await self._look(profile.name, controller)

    async def run(self, controller: Controller) -> None:
        """Ends only by cancellation, or with the bus."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            changed, self._changed = self._changed, set()
            for instance in sorted(changed):
                await self._look(instance, controller)

    async def _look(self, instance: str, controller: Controller) -> None:
        asked_at = time.monotonic()
        # In this order: a stop begins at the front, so an engine that it took down is never seen
        # beside a front that still wishes.
        engine = await self._units.status(engine_unit(instance))
        front = await self._units.status(front_unit(instance))
        controller.put(UnitsSeen(instance, front, engine, asked_at))


async def _reload_on_hangup(
    options: Options, requests: Requests, watcher: UnitWatcher, controller: Controller
) -> None:
    """SIGHUP: a bad configuration leaves the one in force, and says so."""
    hangup = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hangup.set)
    while True:
        await hangup.wait()
        hangup.clear()
        await requests.take_config(await _read(options))
        _save(options, controller)
        await watcher.look_at_all(controller)


async def _lose_bus(units: Systemd) -> None:
    await units.wait_lost()
    log.error("the system bus is gone; leaving, to be started anew")


async def _until_done(*tasks: "asyncio.Task[None]") -> int:
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
