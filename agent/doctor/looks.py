# SPDX-License-Identifier: MulanPSL-2.0
"""What `host/` sees of a machine for the doctor: frozen values, and why something was not seen.

Nothing here is needed to serve a model: that is in `agent.facts`.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar, Union


class Why(StrEnum):
    """Why a look has brought nothing."""

    SILENT = "silent"  # no answer within its deadline
    FAILED = "failed"
    NEEDS_ROOT = "needs-root"
    NOT_ASKED = "not-asked"  # there is nothing to look at, or no reason to


@dataclass(frozen=True, slots=True)
class Unseen:
    """Nothing was seen; `text` says why, in words that may stand alone."""

    why: Why
    text: str
    hint: str = ""


Kind = TypeVar("Kind")
Seen = Union[Kind, Unseen]  # noqa: UP007 - Kind | Unseen is no generic alias


class SelinuxMode(StrEnum):
    """OFF: not in the kernel, or without a policy."""

    OFF = "off"
    PERMISSIVE = "permissive"
    ENFORCING = "enforcing"


@dataclass(frozen=True, slots=True)
class Selinux:
    """`has_module`: the module of deepseek-agent is in the policy, and models have its label."""

    mode: SelinuxMode
    has_module: bool = False


@dataclass(frozen=True, slots=True)
class Kernel:
    """Its control groups and limits; None for what could not be read."""

    cgroup_version: int
    controllers: tuple[str, ...]
    pid_max: int | None
    threads_max: int | None
    open_files: int | None  # fs.nr_open: the most that a process may be given


@dataclass(frozen=True, slots=True)
class Clock:
    """Seconds since the epoch. `synchronized`: None where the kernel does not say."""

    now: float
    synchronized: bool | None
    built_at: float | None  # when the installed package was made; None: unknown


@dataclass(frozen=True, slots=True)
class Node:
    """A file in /dev with a name of the driver's."""

    path: str
    is_device: bool
    mode: int  # the permission bits
    owner: str
    group: str


@dataclass(frozen=True, slots=True)
class DriverFiles:
    """What the driver's package has left on the disk, and its nodes."""

    nodes: tuple[Node, ...]
    version: str  # version.info; empty: there is none
    install_status: str  # Driver_Install_Status; empty: not told
    paths: tuple[str, ...]  # of those that a container needs, those that exist
    npu_smi: str  # where it is; empty: nowhere


@dataclass(frozen=True, slots=True)
class Firmware:
    """Of one card, as the driver tells it."""

    card_id: int
    version: str
    compatibility: str  # "OK", "NOK", "UNKNOWN", "NOT SUPPORT", or empty


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model directory against its manifest, without reading the content."""

    directory: str
    has_manifest: bool
    problems: tuple[str, ...]  # "model-00002-of-00002.safetensors: missing"


@dataclass(frozen=True, slots=True)
class Reached:
    """An address that something would be fetched from."""

    address: str
    host: str
    lookup_problem: str = ""  # why the name has no address; empty: it has, or a proxy looks it up
    problem: str = ""  # why nobody answers there; empty: somebody does
    proxy: str = ""
    by_podman: bool = False  # it pulls from there, by itself
    lacks_proxy: bool = False  # which asks without one, and supply has one
