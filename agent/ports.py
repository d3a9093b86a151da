# SPDX-License-Identifier: MulanPSL-2.0
"""What the inside asks of the machine, in our own words. `host/` answers; nothing else does.

Every method has its own deadline and raises `HostUnavailable` when nobody answered within it, and
`HostError` when the answer was a refusal.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Protocol

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


class Payloads(Protocol):
    """Processes of our containers, as the kernel knows them."""

    def find(self) -> Sequence[PayloadFacts]: ...

    def is_alive(self, payload: PayloadFacts) -> bool: ...

    def kill(self, payload: PayloadFacts) -> None:
        """SIGKILL; one that has ended is no error."""
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

    def model(self, directory: str) -> ModelFacts: ...

    def processes(self, pids: Sequence[int]) -> Sequence[ProcessFacts]:
        """Those of `pids` that live."""
        ...

    def listeners(self) -> Sequence[Listener]: ...

    def file(self, path: str, kind: FileKind) -> FileFacts: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, whatever it says."""

    status: int
    body: bytes


class NoAnswer(StrEnum):
    """Why there was none. These are three different things (facts: serving-health)."""

    REFUSED = "refused"  # nobody listens: dead, or not up yet
    TIMEOUT = "timeout"  # busy or hung
    BROKEN = "broken"  # cut off, or not HTTP


@dataclass(frozen=True, slots=True)
class Server:
    """Where an engine listens. `certificate`: the PEM file that it must show; empty: no TLS."""

    host: str
    port: int
    certificate: str = ""


@dataclass(frozen=True, slots=True)
class Ask:
    """An HTTP request; `key` goes into its Authorization header."""

    method: str
    path: str
    body: bytes = b""
    key: str = ""


class Http(Protocol):
    """Requests to engines on this host."""

    async def ask(self, server: Server, request: Ask, deadline_s: float) -> Answer | NoAnswer: ...
