# SPDX-License-Identifier: MulanPSL-2.0
"""Doubles of ports for what is not under test: Podman, the machine, the places of files."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from agent.disks import GIB, DiskFacts, PruneOrder, PruneReport, Role
from agent.errors import AgentError, Code, Failure, HostError
from agent.facts import (
    ContainerFacts,
    FileFacts,
    HostFacts,
    ImageFacts,
    Listener,
    ModelFacts,
    PayloadFacts,
    PodmanSurvey,
    ProcessFacts,
)
from agent.host.files import RenderedFiles
from agent.model import ResetOutcome
from agent.ports import EvidenceNotes, FileKind, ResetOrder, ResetReport
from agent.supplies import Order, Progress, Purpose, Report
from tests.build import HEADS, IMAGE_ID, build_host


@dataclass
class FakePodman:
    """`ports.ContainerEngine`."""

    version: tuple[int, int, int] = (5, 4, 2)
    images: dict[str, str] = field(default_factory=dict)  # others have IMAGE_ID, ids their own
    containers: dict[str, ContainerFacts] = field(default_factory=dict)
    broken: AgentError | None = None
    survey_takes_s: float = 0.0
    surveys: int = 0
    removed: list[str] = field(default_factory=list)

    async def survey(self, images: Sequence[str]) -> PodmanSurvey:
        self.surveys += 1
        seen = tuple(self.containers.values())
        await asyncio.sleep(self.survey_takes_s)
        if self.broken is not None:
            raise self.broken
        facts = tuple(ImageFacts(image, self._find(image)) for image in images)
        return PodmanSurvey(self.version, facts, seen)

    def _find(self, image: str) -> str:
        return self.images.get(image, image if len(image) == len(IMAGE_ID) else IMAGE_ID)

    async def remove(self, container: str) -> None:
        """By its id, as Podman takes it beside the name."""
        for one in list(self.containers.values()):
            if container in (one.name, one.container_id):
                self.removed.append(one.name)
                del self.containers[one.name]


@dataclass
class FakeNpuDriver:
    """`ports.NpuDriver`; `on_reset` says what a reset comes to, and when `before_reset` is over;
    `on_refresh` is asked for news."""

    resets: list[ResetOrder] = field(default_factory=list)
    refreshes: int = 0
    on_reset: Callable[[ResetOrder], ResetReport] | None = None
    on_refresh: Callable[[], None] | None = None
    before_reset: Callable[[], Awaitable[None]] | None = None

    async def refresh(self) -> None:
        self.refreshes += 1
        if self.on_refresh is not None:
            self.on_refresh()

    async def reset(self, order: ResetOrder) -> ResetReport:
        self.resets.append(order)
        if self.before_reset is None:
            await asyncio.sleep(0.02)
        else:
            await self.before_reset()
        if self.on_reset is None:
            return ResetReport(ResetOutcome.REFUSED, "this host resets nothing")
        return self.on_reset(order)


@dataclass
class FakeEngineLog:
    """`ports.EngineLog`: what the engine of any start prints, and what it had printed at its end;
    None: there is no journal."""

    lines: list[str] | None = field(default_factory=list)
    last_words: tuple[str, ...] = ()
    followed: int = 0
    tail_takes_s: float = 0.0

    async def follow(self, instance: str, invocation: str) -> AsyncGenerator[Sequence[str], None]:
        self.followed += 1
        told = 0
        while self.lines is not None:
            if new := tuple(self.lines[told:]):
                told += len(new)
                yield new
            await asyncio.sleep(0.01)
        raise HostError(Code.INTERNAL, "cannot run journalctl: no such file")

    async def tail(self, invocation: str) -> Sequence[str]:
        await asyncio.sleep(self.tail_takes_s)
        if self.lines is None:
            raise HostError(Code.INTERNAL, "cannot run journalctl: no such file")
        return self.last_words


@dataclass
class FakeEvidence:
    """`ports.Evidence`; `file` is what it comes to."""

    file: str | None = "/var/lib/deepseek-agent/evidence/8b-1.txt"
    gathered: list[tuple[str, EvidenceNotes]] = field(default_factory=list)

    async def gather(self, instance: str, notes: EvidenceNotes, deadline_s: float) -> str | None:
        self.gathered.append((instance, notes))
        await asyncio.sleep(0)
        return self.file


@dataclass
class FakeSupplier:
    """`ports.Supplier`. What `brings` does to the world it says by its report; without it nothing
    is found anywhere, as where no source is reached and the import folder is empty."""

    brings: Callable[[Order], Report] | None = None
    orders: list[Order] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    progress: tuple[Progress, ...] = ()
    takes_s: float = 0.0
    switches: list[Order] = field(default_factory=list)
    switched: Callable[[Order], Report] = lambda order: Report(None)
    switch_takes_s: float = 0.0

    async def bring(self, order: Order, tell: Callable[[Progress], None]) -> Report:
        if order.purpose is Purpose.SWITCH:
            self.switches.append(order)
            await asyncio.sleep(self.switch_takes_s)
            return self.switched(order)
        self.orders.append(order)
        for progress in self.progress:
            tell(progress)
        await asyncio.sleep(self.takes_s)
        if self.brings is not None:
            return self.brings(order)
        if order.model is not None and order.model.recheck:
            return Report(None)  # its files are what they should be
        code = Code.MODEL_MISSING if order.model is not None else Code.IMAGE_MISSING
        return Report(Failure(code, f"cannot find what {order.instance} lacks", "bring it"))

    async def end(self, instance: str) -> None:
        self.ended.append(instance)


@dataclass
class FakeDisks:
    """`ports.Disks`: one file system, on which everything lies."""

    free_bytes: int = 500 * GIB
    looks: int = 0
    orders: list[PruneOrder] = field(default_factory=list)
    prunes: Callable[[PruneOrder], PruneReport] | None = None
    hangs: bool = False  # a look does not come back
    breaks: int = 0  # so many looks raise what nobody expects

    async def look(self, models_dirs: Sequence[str]) -> Sequence[DiskFacts]:
        self.looks += 1
        if self.looks <= self.breaks:
            raise RuntimeError("can't start new thread")
        if self.hangs:
            return ()
        places = [(Role.MODELS, one) for one in models_dirs] + [(Role.STATE, "/var/lib/x")]
        return [DiskFacts(role, place, 1, self.free_bytes, 900 * GIB) for role, place in places]

    async def prune(self, order: PruneOrder) -> PruneReport:
        self.orders.append(order)
        if self.prunes is not None:
            return self.prunes(order)
        return PruneReport(order.number, (), dry_run=order.dry_run)


@dataclass
class FakeMachine:
    """`ports.Machine`."""

    host: HostFacts = field(default_factory=build_host)
    problem: str = ""
    alive: dict[int, str] = field(default_factory=dict)  # pid -> /proc/PID/cgroup
    listening: tuple[Listener, ...] = ()
    files: dict[str, str] = field(default_factory=dict)  # path -> problem
    weights_mib: int = 0
    identity: str = "as it came"  # of every model's files
    present: bool = True  # every model's folder
    revision: str = ""  # that the links of models lead to
    stored: tuple[str, ...] = ()  # revisions of every model beside it
    full: tuple[str, ...] = ()  # folders without room

    def facts(self, podman_version: tuple[int, int, int], driver_paths: Sequence[str]) -> HostFacts:
        return self.host

    def model(self, directory: str, revision: str = "") -> ModelFacts:
        return ModelFacts(
            directory,
            0 if self.problem else HEADS,
            self.problem or ("" if self.present else "the folder does not exist"),
            present=self.present,
            weights_mib=self.weights_mib,
            identity=self.identity,
            revision=revision if self.revision and revision in self.stored else self.revision,
        )

    def processes(self, pids: Sequence[int]) -> Sequence[ProcessFacts]:
        return [ProcessFacts(pid, self.alive[pid]) for pid in pids if pid in self.alive]

    def listeners(self) -> Sequence[Listener]:
        return self.listening

    def file(self, path: str, kind: FileKind) -> FileFacts:
        return FileFacts(path, self.files.get(path, ""))

    def has_room(self, folder: str) -> bool:
        return folder not in self.full


@dataclass
class FakePayloads:
    """`ports.Payloads`: processes that end when they are killed, but for those that hang."""

    running: list[PayloadFacts] = field(default_factory=list)
    hanging: set[int] = field(default_factory=set)
    killed: list[int] = field(default_factory=list)
    ended: dict[str, Callable[[], None]] = field(default_factory=dict)

    def find(self) -> Sequence[PayloadFacts]:
        return list(self.running)

    def is_alive(self, payload: PayloadFacts) -> bool:
        return payload in self.running

    def processor_s(self, container_id: str) -> float | None:
        return 0.0  # they sleep

    def follow(self, container_id: str, ended: Callable[[], None]) -> Callable[[], None]:
        self.ended[container_id] = ended
        return lambda: None

    def kill(self, payload: PayloadFacts) -> None:
        self.killed.append(payload.pid)
        if payload in self.running and payload.pid not in self.hanging:
            self.running.remove(payload)


@dataclass
class RootedFiles:
    """The real `RenderedFiles` below a folder; the generator's word is the test's."""

    root: Path
    refusal: str | None = None
    fails: BaseException | None = None
    written: list[str] = field(default_factory=list)

    def read(self, path: PurePosixPath) -> str | None:
        return RenderedFiles().read(self.at(path))

    def write(self, path: PurePosixPath, text: str, *, private: bool = False) -> None:
        self.written.append(str(path))
        RenderedFiles().write(self.at(path), text, private=private)

    def read_key(self, path: str) -> str:
        return RenderedFiles().read_key(str(self.at(PurePosixPath(path))))

    def read_public(self, path: str) -> str:
        return RenderedFiles().read_public(str(self.at(PurePosixPath(path))))

    def remove(self, path: PurePosixPath) -> None:
        RenderedFiles().remove(self.at(path))

    def is_mask(self, path: PurePosixPath) -> bool:
        return RenderedFiles().is_mask(self.at(path))

    async def generator_refusal(self, file_name: str, text: str) -> str | None:
        if self.fails is not None:
            raise self.fails
        return self.refusal

    def at(self, path: PurePosixPath) -> PurePosixPath:
        return PurePosixPath(self.root) / str(path).lstrip("/")
