# SPDX-License-Identifier: MulanPSL-2.0
"""A host in simulated time on which engines differ by their image: `virtual` with updates."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from agent.config.values import Config, Profile
from agent.control.controller import Controller
from agent.control.requests import Requests
from agent.model import Health, JobResult, Phase, UnitActive
from agent.render.choose import RUN_QUADLET
from agent.status.snapshot import InstanceView, UpdateView
from agent.supplies import Order, Report
from tests.build import IMAGE_ID
from tests.scenario import virtual
from tests.scenario.ports import RootedFiles

STOP_S = 3.0  # what is under way is waited for
OLD, NEW, NEWER = IMAGE_ID, "1" * 64, "2" * 64
QUADLET = RUN_QUADLET / "deepseek-vllm-8b.container"


@dataclass
class Engines(virtual.Units):
    """`lives` and `silent` say of an image how long it lives and that it never answers."""

    files: RootedFiles = field(kw_only=True)
    lives: dict[str, float] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    refuses: JobResult | None = None  # nothing can be started: how each such job ends
    ran: list[str] = field(default_factory=list)  # images, in the order of their starts

    @property
    def image(self) -> str:
        """That the unit file names."""
        text = self.files.read(QUADLET) or ""
        return next((one for one in (OLD, NEW, NEWER) if one in text), "")

    async def start(self, unit: str, deadline_s: float) -> JobResult:
        if self.refuses is not None:
            return self.refuses
        self.lives_s = self.lives.get(self.image)
        result = await super().start(unit, deadline_s)
        self.ran.append(self.image)
        return result

    async def stop(self, unit: str, deadline_s: float) -> JobResult:
        await asyncio.sleep(STOP_S)
        return await super().stop(unit, deadline_s)

    async def answers(self, profile: Profile) -> Health:
        if self.image in self.silent:
            await asyncio.get_running_loop().create_future()
        return await super().answers(profile)


@dataclass
class Host:
    """What a test plays on."""

    folder: Path
    around: virtual.Around = field(default_factory=virtual.Around)
    config: Config | None = None

    def __post_init__(self) -> None:
        self.files = RootedFiles(self.folder)
        self.engines = Engines(files=self.files)
        self.around.machine.revision = "r1"
        self.around.supplier.switched = self._switch
        self.offer(NEW)

    def offer(self, image_id: str, revision: str = "r1") -> None:
        """What is there when it is looked for by now."""
        report = Report(None, image_id, "sha256:00", "commit", model_folder=revision)
        self.around.supplier.brings = lambda order: report

    def _switch(self, order: Order) -> Report:
        if order.revision:
            self.around.machine.revision = order.revision
        return Report(None)

    @property
    def kept(self) -> dict[str, str]:
        """Images by their role, as they were named last."""
        return {str(one.role): one.image_id for one in self.around.supplier.switches[-1].kept}


@dataclass
class Life:
    """One life of the agent on that host."""

    host: Host
    controller: Controller
    requests: Requests

    @property
    def view(self) -> InstanceView:
        return self.controller.board.snapshot.instances[0]

    @property
    def update(self) -> UpdateView:
        assert self.view.update is not None
        return self.view.update

    @property
    def kinds(self) -> list[str]:
        return [str(one.kind) for one in self.controller.board.snapshot.events]

    def told(self, kind: str) -> str:
        """The latest of that kind."""
        events = self.controller.board.snapshot.events
        return next(one.message for one in reversed(events) if one.kind == kind)

    async def until(self, condition: Callable[[], object], within_s: float = 4000.0) -> None:
        """In simulated time."""
        deadline = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < deadline, f"{self.view}\n{self.kinds}"
            await asyncio.sleep(0.1)

    async def serve(self, image_id: str = OLD) -> None:
        await self.until(
            lambda: self.view.phase is Phase.SERVING and self.host.engines.image == image_id
        )

    async def stop(self) -> None:
        """systemctl stop: systemd takes the engine down."""
        units = self.host.engines
        units.front = units.engine = UnitActive.INACTIVE
        await units.tell()
        await self.until(lambda: self.view.phase is Phase.IDLE)

    async def start(self) -> None:
        self.host.engines.front = UnitActive.ACTIVATING
        await self.host.engines.tell()


@asynccontextmanager
async def life(host: Host) -> AsyncIterator[Life]:
    """From a start of the agent to its end, of which nobody is told."""
    controller, task = await virtual.begin(
        host.engines, host.files, host.around, config=host.config
    )

    async def look(instance: str) -> None:
        await host.engines.tell()

    async def reload() -> None:
        raise NotImplementedError

    try:
        await asyncio.sleep(0.1)
        yield Life(host, controller, Requests(controller, look, reload, host.engines))
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
