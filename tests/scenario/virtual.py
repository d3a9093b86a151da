# SPDX-License-Identifier: MulanPSL-2.0
"""The real writer in simulated time: hours in seconds, on ports that live in this process.

`VirtualLoop` goes on to the next deadline as soon as nothing else is to be done, and `monotonic` is
its clock; threads are none, so that nothing happens outside of it.
"""

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest

from agent import threads
from agent.action.start import Actions
from agent.config.values import Config, Profile
from agent.control.controller import Controller
from agent.control.events import EVENTS_KEPT
from agent.control.memory import Memory, decode_memory, encode_memory
from agent.control.messages import InventorySeen, SystemdSeen, UnitsSeen
from agent.control.observers import Measured, Observers, Told, Where
from agent.health.log_watch import LogWatch
from agent.model import Health, JobResult, UnitActive, UnitStatus, engine_unit, front_unit
from tests.build import SUPPLY, build_config, build_inventory, build_profile
from tests.fakes.events import FakeEventKeeper
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

Kind = TypeVar("Kind")


class _Waiting(selectors.SelectSelector):
    """Waits for nothing: what would be waited for has come."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout:
            self.loop.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    now = 1000.0

    def __init__(self) -> None:
        selector = _Waiting()
        selector.loop = self
        super().__init__(selector)
        self.set_default_executor(_Inline())

    def time(self) -> float:
        return self.now


class _Inline(ThreadPoolExecutor):
    """asyncio.to_thread(), in this one."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except BaseException as error:
            done.set_exception(error)
        return done


class _Here:
    """A thread of agent/threads.py, in this one."""

    def __init__(self, target: Callable[[], None], **_words: object) -> None:
        self.start = target

    def is_alive(self) -> bool:
        return False


def run(monkeypatch: pytest.MonkeyPatch, work: Callable[[], Coroutine[Any, Any, Kind]]) -> Kind:
    """asyncio.run() in simulated time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        wall = time.time() - loop.now
        with monkeypatch.context() as patch:
            patch.setattr(threads, "Thread", _Here)
            patch.setattr(time, "monotonic", lambda: loop.now)
            patch.setattr(time, "time", lambda: wall + loop.now)
            return runner.run(work())


@dataclass
class Units:
    """`ports.UnitManager`, with an engine whose end a test decides: `lives_s` after its start, and
    `serves_s` after it, or never.
    """

    put: Callable[[object], None] = lambda message: None
    lives_s: float | None = None  # None: for ever
    serves_s: float = 30.0
    takes_s: float = 2.0  # a start, as Podman needs it
    engine: UnitActive = UnitActive.INACTIVE
    front: UnitActive = UnitActive.ACTIVATING
    started: list[float] = field(default_factory=list)  # monotonic
    _invocation: int = 0

    async def status(self, unit: str) -> UnitStatus:
        front = unit == front_unit("8b")
        active = self.front if front else self.engine
        failed = not front and self.engine is UnitActive.FAILED
        return UnitStatus(
            unit,
            "loaded",
            active,
            "",
            "exit-code" if failed else "success",
            1 if failed else 0,
            "/run/containers/systemd/deepseek-vllm-8b.container",
            "",
            False,
            "enabled",
            "front" if front else str(self._invocation),
        )

    async def start(self, unit: str, deadline_s: float) -> JobResult:
        assert unit == engine_unit("8b")
        await asyncio.sleep(self.takes_s)
        self.started.append(time.monotonic())
        self._invocation += 1
        self.engine = UnitActive.ACTIVE
        if self.lives_s is not None:
            asyncio.get_running_loop().call_later(self.lives_s, self._die, self._invocation)
        return JobResult.DONE

    async def stop(self, unit: str, deadline_s: float) -> JobResult:
        self.engine = UnitActive.INACTIVE
        return JobResult.DONE

    async def reset_failed(self, unit: str) -> None:
        if self.engine is UnitActive.FAILED:
            self.engine = UnitActive.INACTIVE

    async def reload(self) -> None:
        pass

    async def dispatch_start(self, unit: str) -> None:
        raise AssertionError(f"nobody asks for {unit}")

    async def dispatch_stop(self, unit: str) -> None:
        raise AssertionError(f"nobody asks for {unit}")

    def die(self) -> None:
        """The engine that there is."""
        self._die(self._invocation)

    def _die(self, invocation: int) -> None:
        if invocation == self._invocation:
            self.engine = UnitActive.FAILED
            self._tell = asyncio.ensure_future(self.tell())

    async def tell(self) -> None:
        """systemd says how the units are."""
        front, engine = front_unit("8b"), engine_unit("8b")
        seen = UnitsSeen(
            "8b", await self.status(front), await self.status(engine), time.monotonic()
        )
        self.put(seen)

    async def answers(self, profile: Profile) -> Health:
        """`Probe`: when it serves."""
        await asyncio.sleep(max(0.0, self.started[-1] + self.serves_s - time.monotonic()))
        return Health.HEALTHY


@dataclass
class Around:
    """What is on the host beside the units; it outlives a writer."""

    podman: FakePodman = field(default_factory=FakePodman)
    machine: FakeMachine = field(default_factory=FakeMachine)
    supplier: FakeSupplier = field(default_factory=FakeSupplier)
    logs: FakeEngineLog = field(default_factory=FakeEngineLog)
    memory: Memory = field(default_factory=Memory)
    events: FakeEventKeeper = field(default_factory=FakeEventKeeper)
    boot: str = "boot"

    def keep(self, memory: Memory) -> None:
        self.memory = memory


async def begin(
    units: Units,
    files: RootedFiles,
    around: Around | None = None,
    disks: FakeDisks | None = None,
    config: Config | None = None,
) -> tuple[Controller, "asyncio.Task[None]"]:
    """A writer that wishes 8b to serve on a host that lacks nothing."""
    around, npud = around or Around(), FakeNpuDriver()
    files.written = _Nothing()

    async def guard(profile: Profile, where: Where, told: Told, measured: Measured) -> None:
        await asyncio.get_running_loop().create_future()

    controller = Controller(
        config or build_config(build_profile(), supply=SUPPLY),
        Actions(units, around.podman, files, around.machine, FakePayloads(), FakeEvidence()),
        npud,
        units,
        Observers(units.answers, guard, LogWatch(around.logs)),
        around.supplier,
        disks or FakeDisks(),
        lambda snapshot: None,
        around.keep,
        decode_memory(encode_memory(around.memory)),
        around.boot,
        around.events,
        around.events.kept[-EVENTS_KEPT:],
    )
    units.put = controller.put  # type: ignore[assignment]
    controller.put(SystemdSeen(None))
    controller.put(InventorySeen(build_inventory()))
    await units.tell()
    return controller, asyncio.create_task(controller.run())


class _Nothing(list[str]):
    """Keeps nothing of what is written in hours."""

    def append(self, one: str) -> None:
        pass
