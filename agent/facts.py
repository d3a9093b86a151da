# SPDX-License-Identifier: MulanPSL-2.0
"""What a plan is made of besides the profile: facts of the host, of Podman, of models and files.

Frozen values, as in `model`. Standard library only.
"""

import re
from dataclasses import dataclass

from agent.model import Inventory, Unfit

SCHEMA = 1  # of `Facts` as JSON
_VERSION = re.compile(r"([0-9]{1,4})\.([0-9]{1,4})(?:\.([0-9]{1,4}))?(?:[-+~][!-~]*)?")


def parse_version(text: str) -> tuple[int, int, int] | None:
    """Podman's: "4.9", "4.9.4" and "5.6.0-dev"; None for what is no version."""
    found = _VERSION.fullmatch(text)
    if found is None:
        return None
    major, minor, patch = found.groups(default="0")
    return int(major), int(minor), int(patch)


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What the planner has to know of the machine itself."""

    cgroup_version: int  # 1 or 2
    podman_version: tuple[int, int, int]
    cpu_cores: int
    ram_mib: int
    architecture: str  # "aarch64", "x86_64"
    driver_paths: tuple[str, ...]  # of the driver's files that a container needs, those that exist
    container_init: bool = False  # Podman finds catatonit, so a container can have an init
    pids_controller: bool = False  # the kernel can limit a container's processes and threads


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """A container image in local storage; `image_id` is empty when it is not there."""

    reference: str
    image_id: str  # 64 hex digits without "sha256:"


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A model directory; `problem` says why it cannot be served, empty when it can."""

    directory: str
    attention_heads: int  # from the model's own config.json, 0 when unknown
    problem: str = ""
    present: bool = True  # the directory is there
    kv_heads: int = 0  # of grouped-query attention; 0: as many as attention heads
    disk_mib: int = 0  # size of the file system that holds the directory, or would; 0: unknown
    weights_mib: int = 0  # of its weight files together; 0: unknown
    identity: str = ""  # another one when a file has come, gone or changed; empty: unknown
    revision: str = ""  # of those that we have fetched, the one in use; empty: an operator's


@dataclass(frozen=True, slots=True)
class ContainerFacts:
    """A container in Podman's storage and what it holds."""

    name: str
    container_id: str
    running: bool
    unit: str  # the label PODMAN_SYSTEMD_UNIT, empty when it has none
    devices: tuple[str, ...]  # paths on the host
    address: str = ""  # on its first network; empty when it has none, or does not run


@dataclass(frozen=True, slots=True)
class PayloadFacts:
    """A process of a container of ours."""

    pid: int
    started: int  # in clock ticks since the boot: tells it from a later one of the same number
    container_id: str
    unit: str = ""  # that runs the container, as far as the host tells without Podman


@dataclass(frozen=True, slots=True)
class PodmanSurvey:
    """One look at Podman: its version, the images asked for, and all containers."""

    version: tuple[int, int, int]
    images: tuple[ImageFacts, ...]
    containers: tuple[ContainerFacts, ...]


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image that Podman has, for this machine or another one."""

    reference: str
    architecture: str  # as Go names it: "arm64"; empty: not told


@dataclass(frozen=True, slots=True)
class PodmanStore:
    """Where Podman keeps things, and the images that were asked for."""

    driver: str  # "overlay", "vfs"
    storage: str
    temporary: str
    images: tuple[StoredImage, ...]


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """A process that lives, of those that the driver names as holders of NPU memory."""

    pid: int
    cgroup: str  # /proc/PID/cgroup as it stands: it tells whose container the process is in


@dataclass(frozen=True, slots=True)
class OwnProcess:
    """What this process has used."""

    cpu_s: float
    resident_bytes: int


@dataclass(frozen=True, slots=True)
class Listener:
    """A TCP port of this host that somebody listens on."""

    address: str
    port: int


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A file that the operator names for the engine; `problem` is empty when it can be used."""

    path: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Neighbor:
    """Another instance that is up or on its way, and what it has."""

    name: str
    npus: tuple[int, ...]
    listen: str
    port: int


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a plan is made of, besides the profile. `deepseekctl facts` writes it as JSON."""

    host: HostFacts
    podman: PodmanSurvey
    inventory: Inventory
    models: tuple[ModelFacts, ...]
    files: tuple[FileFacts, ...] = ()
    processes: tuple[ProcessFacts, ...] = ()
    listeners: tuple[Listener, ...] = ()
    neighbors: tuple[Neighbor, ...] = ()
    unfit: tuple[Unfit, ...] = ()  # NPUs that are set aside, or being mended
    host_suspect: str = ""  # why it is the host that is ill, and not its NPUs; empty: it is not
    # False: nobody could ask Podman (not root). Then images and containers are not judged.
    podman_seen: bool = True
    schema: int = SCHEMA

    def model(self, directory: str) -> ModelFacts | None:
        return next((one for one in self.models if one.directory == directory), None)

    def image_id(self, reference: str) -> str:
        """Empty when it is not in Podman's storage."""
        found = (one.image_id for one in self.podman.images if one.reference == reference)
        return next(found, "")

    def file_problem(self, path: str) -> str:
        """Empty when the file can be used, or was not looked at."""
        return next((one.problem for one in self.files if one.path == path), "")
