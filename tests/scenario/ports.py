# SPDX-License-Identifier: MulanPSL-2.0
"""Doubles of ports for what is not under test: Podman, the machine, the places of files."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from agent.errors import AgentError
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
from agent.ports import FileKind, ResetOrder, ResetReport
from tests.build import HEADS, IMAGE_ID, build_host


@dataclass
class FakePodman:
    """`ports.ContainerEngine`."""

    version: tuple[int, int, int] = (5, 4, 2)
    images: dict[str, str] = field(default_factory=dict)  # others have IMAGE_ID
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
        facts = tuple(ImageFacts(image, self.images.get(image, IMAGE_ID)) for image in images)
        return PodmanSurvey(self.version, facts, seen)

    async def remove(self, container: str) -> None:
        """By its id, as Podman takes it beside the name."""
        for one in list(self.containers.values()):
            if container in (one.name, one.container_id):
                self.removed.append(one.name)
                del self.containers[one.name]


@dataclass
class FakeNpuDriver:
    """`ports.NpuDriver`; `on_reset` says what a reset comes to, `on_refresh` is asked for news."""

    resets: list[ResetOrder] = field(default_factory=list)
    refreshes: int = 0
    on_reset: Callable[[ResetOrder], ResetReport] | None = None
    on_refresh: Callable[[], None] | None = None

    async def refresh(self) -> None:
        self.refreshes += 1
        if self.on_refresh is not None:
            self.on_refresh()

    async def reset(self, order: ResetOrder) -> ResetReport:
        self.resets.append(order)
        await asyncio.sleep(0.02)
        if self.on_reset is None:
            return ResetReport(ResetOutcome.REFUSED, "this host resets nothing")
        return self.on_reset(order)


@dataclass
class FakeMachine:
    """`ports.Machine`."""

    host: HostFacts = field(default_factory=build_host)
    problem: str = ""
    alive: dict[int, str] = field(default_factory=dict)  # pid -> /proc/PID/cgroup
    listening: tuple[Listener, ...] = ()
    files: dict[str, str] = field(default_factory=dict)  # path -> problem

    def facts(self, podman_version: tuple[int, int, int], driver_paths: Sequence[str]) -> HostFacts:
        return self.host

    def model(self, directory: str) -> ModelFacts:
        return ModelFacts(directory, 0 if self.problem else HEADS, self.problem)

    def processes(self, pids: Sequence[int]) -> Sequence[ProcessFacts]:
        return [ProcessFacts(pid, self.alive[pid]) for pid in pids if pid in self.alive]

    def listeners(self) -> Sequence[Listener]:
        return self.listening

    def file(self, path: str, kind: FileKind) -> FileFacts:
        return FileFacts(path, self.files.get(path, ""))


@dataclass
class FakePayloads:
    """`ports.Payloads`: processes that end when they are killed, but for those that hang."""

    running: list[PayloadFacts] = field(default_factory=list)
    hanging: set[int] = field(default_factory=set)
    killed: list[int] = field(default_factory=list)

    def find(self) -> Sequence[PayloadFacts]:
        return list(self.running)

    def is_alive(self, payload: PayloadFacts) -> bool:
        return payload in self.running

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
