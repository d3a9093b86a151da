# SPDX-License-Identifier: MulanPSL-2.0
"""What the inside asks of the machine, in our own words. `host/` answers; nothing else does.

Every method has its own deadline and raises `HostUnavailable` when nobody answered within it, and
`HostError` when the answer was a refusal.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Protocol

from agent.disks import DiskFacts, PruneOrder, PruneReport
from agent.facts import (
    FileFacts,
    HostFacts,
    Listener,
    ModelFacts,
    PayloadFacts,
    PodmanSurvey,
    ProcessFacts,
)
from agent.model import JobResult, ResetOutcome, UnitStatus
from agent.supplies import Order, Progress, Report


class UnitManager(Protocol):
    """systemd."""

    async def status(self, unit: str) -> UnitStatus: ...

    async def start(self, unit: str, deadline_s: float) -> JobResult:
        """Starts it and waits for that very job."""
        ...

    async def stop(self, unit: str, deadline_s: float) -> JobResult: ...

    async def reset_failed(self, unit: str) -> None: ...

    async def reload(self) -> None:
        """daemon-reload."""
        ...


class ContainerEngine(Protocol):
    """Podman."""

    async def survey(self, images: Sequence[str]) -> PodmanSurvey:
        """`images` are references that are looked for."""
        ...

    async def remove(self, container: str) -> None:
        """Removes a container by force; one that is not there is no error."""
        ...


class Supplier(Protocol):
    """Brings images and models, in a process that goes on without the agent."""

    async def bring(self, order: Order, tell: Callable[[Progress], None]) -> Report:
        """Carries out `order`, or follows the process that does already; hours, maybe. To cancel
        this leaves the process alone."""
        ...

    async def end(self, instance: str) -> None:
        """What is being brought for it is not wanted any more."""
        ...


class Disks(Protocol):
    """Room, and what is removed to make more."""

    async def look(self, models_dirs: Sequence[str]) -> Sequence[DiskFacts]:
        """Where models lie, and the other places that matter; one that does not answer is not
        told of."""
        ...

    async def prune(self, order: PruneOrder) -> PruneReport:
        """Minutes. One at a time."""
        ...


class EngineLog(Protocol):
    """What an engine prints, by the start of its unit (`UnitStatus.invocation_id`)."""

    def follow(self, instance: str, invocation: str) -> AsyncGenerator[Sequence[str], None]:
        """Its lines from the beginning, many at a time, as they come; ends when nobody can tell
        any more. To be closed (contextlib.aclosing)."""
        ...

    async def tail(self, invocation: str) -> Sequence[str]:
        """The last lines of that start, those of Podman among them."""
        ...


class Payloads(Protocol):
    """Processes of our containers, as the kernel knows them."""

    def find(self) -> Sequence[PayloadFacts]: ...

    def is_alive(self, payload: PayloadFacts) -> bool: ...

    def processor_s(self, container_id: str) -> float | None:
        """What those of that container that live have used; None when there are none to be seen."""
        ...

    def kill(self, payload: PayloadFacts) -> None:
        """SIGKILL; one that has ended is no error."""
        ...


class ProcessEnds(Protocol):
    """Tells of processes that end."""

    def follow(self, container_id: str, ended: Callable[[], None]) -> Callable[[], None]:
        """`ended` is called for each process of that container that ends, of those that live now;
        what is returned ends that."""
        ...


class UnitFiles(Protocol):
    """The files that we render."""

    def read(self, path: PurePosixPath) -> str | None: ...

    def write(self, path: PurePosixPath, text: str, *, private: bool = False) -> None:
        """Atomically and durably; `private`: readable by root alone."""
        ...

    def read_key(self, path: str) -> str:
        """The API key in that file. Raises HostError when it holds none that can be used."""
        ...

    def read_public(self, path: str) -> str:
        """A file that the operator names, as text."""
        ...

    def remove(self, path: PurePosixPath) -> None: ...

    def is_mask(self, path: PurePosixPath) -> bool:
        """Whether `systemctl mask` has put its link to /dev/null there."""
        ...

    async def generator_refusal(self, file_name: str, text: str) -> str | None:
        """Runs the host's own quadlet generator over `text`; None when it accepts it."""
        ...


@dataclass(frozen=True, slots=True)
class ResetOrder:
    """A chip, the chips that are reset with it (itself among them), and the faults it is for."""

    logic_id: int
    ring: tuple[int, ...]
    codes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ResetReport:
    """How it ended. `others`: chips of the ring that somebody outside of the agent uses."""

    outcome: ResetOutcome
    detail: str
    others: frozenset[int] = frozenset()


class NpuDriver(Protocol):
    """npud. Raises nothing: what it says comes as an inventory, or as a report."""

    async def refresh(self) -> None:
        """Has the NPUs read now; returns when an inventory has come, or none does."""
        ...

    async def reset(self, order: ResetOrder) -> ResetReport:
        """Minutes. Resets nothing that a process uses."""
        ...


class FileKind(StrEnum):
    """What is asked of a file that the operator names."""

    PUBLIC = "public"  # it can be read
    PRIVATE = "private"  # and by nobody but root
    API_KEY = "api-key"  # and it holds an API key


class Machine(Protocol):
    """Facts that change seldom."""

    def facts(self, podman_version: tuple[int, int, int], driver_paths: Sequence[str]) -> HostFacts:
        """`driver_paths` are looked for; those that exist come back in the facts."""
        ...

    def model(self, directory: str, revision: str = "") -> ModelFacts:
        """`revision`: of those that we have fetched this one, where it is still there; else, and of
        an operator's own model, what lies at `directory`."""
        ...

    def processes(self, pids: Sequence[int]) -> Sequence[ProcessFacts]:
        """Those of `pids` that live."""
        ...

    def listeners(self) -> Sequence[Listener]: ...

    def file(self, path: str, kind: FileKind) -> FileFacts: ...

    def has_room(self, folder: str) -> bool:
        """False when nothing more can be written below it."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, whatever it says."""

    status: int
    body: bytes


class NoAnswer(StrEnum):
    """Why there was none. These are different things (facts: serving-health)."""

    REFUSED = "refused"  # nobody listens: dead, or not up yet
    TIMEOUT = "timeout"  # busy or hung
    BROKEN = "broken"  # cut off, or not HTTP
    UNABLE = "unable"  # it could not be asked: no port, no descriptor left, another certificate


@dataclass(frozen=True, slots=True)
class Server:
    """Where an engine listens. `certificate`: the PEM file that it must show; empty: no TLS."""

    host: str
    port: int
    certificate: str = ""


@dataclass(frozen=True, slots=True)
class Ask:
    """An HTTP request; `key` goes into its Authorization header, `name` into X-Request-Id, which
    vLLM takes over into its log."""

    method: str
    path: str
    body: bytes = b""
    key: str = ""
    name: str = ""


class Http(Protocol):
    """Requests to engines on this host."""

    async def ask(self, server: Server, request: Ask, deadline_s: float) -> Answer | NoAnswer: ...


@dataclass(frozen=True, slots=True)
class EvidenceNotes:
    """What only the agent knows of an engine that it is about to end; each may be empty."""

    reason: str
    container_id: str = ""
    metrics: str = ""  # the latest text of /metrics
    npus: str = ""


class Evidence(Protocol):
    """Writes down what an engine does, before it is ended."""

    async def gather(self, instance: str, notes: EvidenceNotes, deadline_s: float) -> str | None:
        """The file, or None when there is none by then. Raises nothing: what follows must not
        wait for it any longer, and must not fail with it."""
        ...


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """Something that happened, as it is kept. `at`: seconds since the epoch; `text`: all of it, as
    JSON; the others are what it can be looked for by."""

    id: int  # grows, also over restarts of the agent
    at: float
    instance: str  # empty: about the host or the agent
    kind: str
    npu: int | None
    text: str


@dataclass(frozen=True, slots=True)
class EventQuery:
    """Which events are looked for; empty and None: whatever it is. They come oldest first; where
    there are more than `limit`, the first of them, or with `newest` the last."""

    after: int = 0  # those with a greater id
    instance: str = ""
    kind: str = ""
    npu: int | None = None
    limit: int = 100
    newest: bool = False


class EventKeeper(Protocol):
    """Events that outlive the agent."""

    def add(self, event: StoredEvent) -> None:
        """Written soon, by another thread; waits for nothing."""
        ...

    async def read(self, query: EventQuery) -> Sequence[StoredEvent]:
        """Also those that are not written yet."""
        ...

    async def oldest(self) -> int:
        """The id of the oldest that is kept; 0 when there is none."""
        ...
