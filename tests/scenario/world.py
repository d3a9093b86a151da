# SPDX-License-Identifier: MulanPSL-2.0
"""A host for the real agent: a bus with a fake systemd on it, attach, engines, Podman, files.

`World` is what is outside and outlives an agent; `Agent` is what daemon.py puts together.
"""

import asyncio
import contextlib
import json
import re
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent import exits
from agent.action.start import Actions
from agent.config.faults import NO_FAULTS, FaultCatalogue
from agent.config.values import Config, Mode, Profile, SupplySettings
from agent.control.controller import Controller
from agent.control.events import EVENTS_KEPT
from agent.control.memory import Memory
from agent.control.messages import InventorySeen
from agent.control.observers import Measured, Observers, Told, Where
from agent.control.record import server as server_of
from agent.control.requests import Requests
from agent.control.watcher import UnitWatcher
from agent.errors import Failure
from agent.health.endpoint import wait_until_healthy
from agent.health.guard import Guard
from agent.health.log_watch import LogWatch
from agent.host.http import LocalHttp
from agent.host.systemd import Systemd
from agent.model import Health, Inventory, Phase, container_name, engine_unit, front_unit
from agent.render.choose import other_paths
from agent.render.workload import ENGINE_PORT
from agent.status.api.app import build_app
from agent.status.api.metrics import MetricsText
from agent.status.api.peer import SocketServer
from agent.status.snapshot import EventView, InstanceView
from tests.build import (
    LIMITS,
    SUPPLY,
    build_config,
    build_container,
    build_inventory,
    build_profile,
)
from tests.fakes.bus import PrivateBus
from tests.fakes.events import FakeEventKeeper
from tests.fakes.systemd import FakeSystemd, Job
from tests.scenario.endpoint import Endpoint
from tests.scenario.ports import (
    FakeDisks,
    FakeEngineLog,
    FakeEvidence,
    FakeMachine,
    FakeNpuDriver,
    FakePayloads,
    FakePodman,
    FakeSupplier,
    RootedFiles,
)

ACTING = ("StartUnit", "StopUnit", "ResetFailedUnit", "Reload")
BOOT = "0d7e5a52-7b1a-4f0e-8a3c-3b1f3f6f2a11"
QUICK = replace(LIMITS, backoff_first_s=0.05, backoff_max_s=0.2)


@dataclass
class World:
    """Everything outside of the agent."""

    folder: Path
    bus: PrivateBus
    profiles: tuple[str, ...] = ("8b",)
    systemd: FakeSystemd = field(default_factory=FakeSystemd)
    podman: FakePodman = field(default_factory=FakePodman)
    machine: FakeMachine = field(default_factory=FakeMachine)
    payloads: FakePayloads = field(default_factory=FakePayloads)
    memory: Memory = field(default_factory=Memory)
    events: FakeEventKeeper = field(default_factory=FakeEventKeeper)
    inventory: Inventory = field(default_factory=build_inventory)
    npud: FakeNpuDriver = field(default_factory=FakeNpuDriver)
    evidence: FakeEvidence = field(default_factory=FakeEvidence)
    supplier: FakeSupplier = field(default_factory=FakeSupplier)
    disks: FakeDisks = field(default_factory=FakeDisks)
    logs: FakeEngineLog = field(default_factory=FakeEngineLog)
    loads: bool = True  # an engine's port opens when its container has started
    address: str = ""  # of containers, as this host reaches them
    listen: str = "127.0.0.1"
    forwards: bool = True  # the kernel, packets of other hosts
    mode: Mode = Mode.ACT
    faults: FaultCatalogue = NO_FAULTS
    start_budget_s: float = 0.0
    supply: SupplySettings = SUPPLY
    refused: Failure | None = None  # why the configuration cannot be used
    npus: dict[str, tuple[int, ...]] = field(default_factory=dict)  # by profile; else "auto"

    def __post_init__(self) -> None:
        self.files = RootedFiles(self.folder / "root")
        self.endpoints = {name: Endpoint() for name in self.profiles}
        self.lines: dict[str, list[dict[str, object]]] = {name: [] for name in self.profiles}
        self._attached: dict[str, asyncio.Task[None]] = {}
        self._opening: set[asyncio.Task[None]] = set()
        for name in self.profiles:
            front, engine = front_unit(name), engine_unit(name)
            self.systemd.add(front, file_state="enabled")
            self.systemd.add(engine, load="not-found")
            self.systemd.beside[engine] = front
            self.systemd.jobs[front] = Job(ends=False)  # attach says when
            self.systemd.jobs[engine] = Job(after_s=0.05)  # Podman takes longer than that
        self.systemd.on_starting = self._on_starting
        self.systemd.on_started = self._on_started
        self.systemd.on_stopped = self._on_stopped
        self.systemd.on_reload = self._load

    @property
    def socket(self) -> Path:
        return self.folder / "agent.sock"

    def config(self, **changes: object) -> Config:
        profiles = tuple(self.profile(name) for name in self.profiles)
        config = build_config(
            *profiles, mode=self.mode, limits=QUICK, faults=self.faults, supply=self.supply
        )
        return replace(config, **changes)  # type: ignore[arg-type]

    def profile(self, name: str) -> Profile:
        return build_profile(
            name=name,
            served_name=name,
            port=self.endpoints[name].port,
            listen=self.listen,
            start_budget_s=self.start_budget_s,
            npus=self.npus.get(name, "auto"),
        )

    def keep(self, memory: Memory) -> None:
        """What an agent leaves for the next one."""
        self.memory = memory

    def acted(self) -> list[tuple[str, str]]:
        """What changes something, of all that was asked of systemd."""
        return self.systemd.asked(*ACTING)

    def engine(self, name: str = "8b") -> str:
        """The rendered unit's state."""
        return self.systemd.units[engine_unit(name)].active

    def front(self, name: str = "8b") -> str:
        return self.systemd.units[front_unit(name)].active

    # --- what people and faults do ---------------------------------------------------------------

    def start(self, name: str = "8b") -> None:
        """systemctl start deepseek@NAME."""
        self.systemd.start(front_unit(name))

    def stop(self, name: str = "8b") -> None:
        """systemctl stop deepseek@NAME: systemd passes it on (PartOf=), attach gets SIGTERM."""
        self._detach(name)
        self.systemd.jobs[front_unit(name)].ends = True
        self.systemd.stop(front_unit(name))

    def begin_stop(self, name: str = "8b") -> None:
        """Not yet passed on."""
        self._detach(name)
        self.systemd.change(front_unit(name), "deactivating")

    def kill_engine(self, name: str = "8b") -> None:
        self._on_stopped(engine_unit(name))
        self.systemd.crash(engine_unit(name), "exit-code", 1)

    def kill_front(self, name: str = "8b", result: str = "signal", exit_status: int = 9) -> None:
        """attach is killed, or fails; ExecStopPost= leaves the engine alone."""
        self._detach(name)
        self.systemd.crash(front_unit(name), result, exit_status)

    def run_engine(self, name: str = "8b", *npus: int) -> None:
        """It has been running since before the agent."""
        text = " ".join(f"/dev/davinci{npu}" for npu in npus or (0,))
        self.files.write(other_paths(Path("/"), name)[0], text)  # type: ignore[arg-type]
        self._load()
        self._on_started(engine_unit(name))
        self.systemd.units[engine_unit(name)].active = "active"
        self.systemd.units[front_unit(name)].active = "active"

    # --- attach, as its unit runs it -------------------------------------------------------------

    def attach(self, name: str = "8b") -> None:
        self._detach(name)
        self._attached[name] = asyncio.create_task(self._attach(name))

    def _detach(self, name: str) -> None:
        if (task := self._attached.pop(name, None)) is not None:
            task.cancel()

    async def _attach(self, name: str) -> None:
        front, resumed = front_unit(name), False
        while True:
            with contextlib.suppress(OSError):
                async for line in self._read(name, resumed):
                    resumed = True
                    self.lines[name].append(line)
                    if isinstance(line.get("exit"), int):
                        self.systemd.crash(front, "exit-code", int(str(line["exit"])))
                        return
                    if line["ready"] is True and self.systemd.units[front].active != "active":
                        self.systemd.change(front, "active")
            await asyncio.sleep(0.02)  # the agent has gone; attach connects anew

    async def _read(self, name: str, resumed: bool) -> AsyncIterator[dict[str, object]]:
        reader, writer = await asyncio.open_unix_connection(self.socket)
        try:
            target = f"/v1/instances/{name}/attach?resumed={resumed:d}"
            writer.write(f"GET {target} HTTP/1.0\r\nHost: agent\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            if head.split()[1] == b"404":
                yield {"exit": exits.PERSON, "ready": False, "status": "unknown"}
            while (line := await reader.readline()).endswith(b"\n"):
                yield json.loads(line)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    # --- what systemd and Podman do --------------------------------------------------------------

    def _load(self) -> None:
        """daemon-reload: a unit exists when there is a file for it."""
        for name in self.profiles:
            unit = self.systemd.units[engine_unit(name)]
            paths = [path for path in other_paths(Path("/"), name) if self.files.read(path)]  # type: ignore[arg-type]
            unit.load = "loaded" if paths else "not-found"
            unit.fragment = str(paths[0]) if paths else ""

    def _on_starting(self, unit: str) -> None:
        for name in self.profiles:
            if unit == front_unit(name):
                self.attach(name)

    def _on_started(self, unit: str) -> None:
        for name in self.profiles:
            if unit == engine_unit(name):
                text = self.files.read(Path(self.systemd.units[unit].fragment)) or ""  # type: ignore[arg-type]
                devices = sorted(set(re.findall(r"/dev/davinci\d+", text)))
                container = build_container(container_name(name), *devices, address=self.address)
                self.podman.containers[container.name] = container
                if self.loads:
                    self.load(name)

    def load(self, name: str = "8b") -> None:
        """The model is loaded."""
        task = asyncio.create_task(self.endpoints[name].open())
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    def _on_stopped(self, unit: str) -> None:
        for name in self.profiles:
            if unit == engine_unit(name):
                self.podman.containers.pop(container_name(name), None)
                self.endpoints[name].close()

    async def close(self) -> None:
        tasks = [*self._attached.values(), *self._opening]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for endpoint in self.endpoints.values():
            endpoint.end()
        await self.systemd.close()
        await asyncio.sleep(0.02)


@dataclass
class Agent:
    """One life of agentd, put together as in daemon.py."""

    world: World
    controller: Controller
    requests: Requests
    units: Systemd
    server: SocketServer
    listener: socket.socket
    tasks: list[asyncio.Task[None]]

    @classmethod
    async def begin(cls, world: World) -> "Agent":
        units = Systemd(world.bus.address)
        http = LocalHttp()

        async def probe(profile: Profile) -> Health:
            key = actions.running_key(profile.name)
            return await wait_until_healthy(http, server_of(profile), profile.served_name, key)

        async def guard(profile: Profile, where: Where, told: Told, measured: Measured) -> None:
            key = actions.running_key(profile.name)
            await engines.watch(profile, server_of(profile), key, where, told, measured)

        engines = Guard(http, world.payloads, ENGINE_PORT, world.payloads, lambda _: world.forwards)
        actions = Actions(
            units, world.podman, world.files, world.machine, world.payloads, world.evidence
        )
        controller = Controller(
            world.config(),
            actions,
            world.npud,
            units,
            Observers(probe, guard, LogWatch(world.logs)),
            world.supplier,
            world.disks,
            lambda snapshot: None,
            world.keep,
            world.memory,
            BOOT,
            world.events,
            world.events.kept[-EVENTS_KEPT:],
        )
        watcher = UnitWatcher(units, controller.put, controller.roster.names)
        units.on_job = watcher.on_job

        async def reload() -> Failure | None:
            await requests.take_config(world.config())
            return world.refused

        requests = Requests(controller, watcher.look, reload, units)
        metrics = MetricsText(controller.board, lambda: None)
        server = SocketServer(build_app(controller.board, requests, metrics))
        world.socket.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(world.socket))
        listener.listen()
        listener.setblocking(False)
        await server.start(listener)
        tasks = [
            asyncio.create_task(controller.run()),
            asyncio.create_task(watcher.run()),
            asyncio.create_task(units.keep(watcher.on_change, watcher.on_systemd)),
        ]
        await watcher.began.wait()
        controller.put(InventorySeen(world.inventory))
        await until(lambda: controller.desk.inventory is world.inventory)
        return cls(world, controller, requests, units, server, listener, tasks)

    async def end(self) -> None:
        """As by SIGTERM or a crash: nothing is said to systemd."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.controller.board.close()
        await self.server.close()
        self.listener.close()
        self.units.close()

    def view(self, name: str = "8b") -> InstanceView:
        found = self.controller.board.snapshot.instance(name)
        assert found is not None
        return found

    def events(self, name: str = "8b") -> list[EventView]:
        """What happened to an instance while this agent ran, in order."""
        before = {one.id for one in self.controller.told_before}
        events = [one for one in self.controller.board.snapshot.events if one.id not in before]
        return [event for event in events if event.instance == name]

    def kinds(self, name: str = "8b") -> list[str]:
        return [str(event.kind) for event in self.events(name)]

    def see(self, inventory: Inventory) -> None:
        """npud says so."""
        self.world.inventory = inventory
        self.controller.put(InventorySeen(inventory))

    async def reach(self, phase: Phase, name: str = "8b", within_s: float = 30.0) -> None:
        await until(lambda: self.view(name).phase is phase, lambda: f"{self.view(name)}", within_s)


async def until(
    condition: Callable[[], object], say: Callable[[], str] = str, within_s: float = 30.0
) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s:g} s: {say()}")
        await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def host(world: World) -> AsyncIterator[World]:
    """The bus and what is on it; no agent yet."""
    await world.systemd.connect(world.bus.address)
    try:
        yield world
    finally:
        await world.close()


@contextlib.asynccontextmanager
async def running(world: World) -> AsyncIterator[Agent]:
    """An agent on `world`."""
    agent = await Agent.begin(world)
    try:
        yield agent
    finally:
        await agent.end()


Play = Callable[[World, Agent], Awaitable[None]]


def play(world: World, scenario: Play) -> None:
    """A scenario with one agent from the beginning to the end."""

    async def whole() -> None:
        async with host(world), running(world) as agent:
            await scenario(world, agent)

    asyncio.run(whole())


async def recheck(world: World, agent: Agent) -> None:
    """The time for it has come."""
    record = agent.controller.roster.get("8b")
    assert record is not None
    record.state = replace(record.state, not_before=0.0)
    looked = record.state.since
    agent.see(world.inventory)  # no news, but the writer turns
    await until(lambda: record.state.since != looked)
