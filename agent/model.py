# SPDX-License-Identifier: MulanPSL-2.0
"""The nouns that cross folders: frozen values without behaviour beyond small predicates.

Standard library only: npud imports this module and has to stay small.
"""

from dataclasses import dataclass
from enum import StrEnum


class Health(StrEnum):
    """What a check found out. UNKNOWN (no data, a failed probe) is never a reason to act."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"


# --- NPUs ----------------------------------------------------------------------------------------


class NpuHealth(StrEnum):
    """The driver's own word for a chip (npu-smi table, DCMI 0..3); UNKNOWN for anything else."""

    OK = "ok"
    WARNING = "warning"
    ALARM = "alarm"
    CRITICAL = "critical"
    UNKNOWN = "unknown"


class DriverState(StrEnum):
    """Whether the Ascend driver answers."""

    READY = "ready"
    ABSENT = "absent"  # no device nodes, no npu-smi: not installed, or not loaded yet
    FAILED = "failed"  # it is there and refuses; `detail` says how
    UNKNOWN = "unknown"  # no answer yet, the probe hangs, or an answer nobody understands


@dataclass(frozen=True, slots=True)
class NpuProcess:
    """A process that holds memory on a chip, by the driver's account."""

    pid: int
    name: str
    memory_mib: int


@dataclass(frozen=True, slots=True)
class Npu:
    """One chip as software addresses it: `logic_id` is the N of /dev/davinciN."""

    logic_id: int
    card_id: int
    chip_id: int
    device: str
    device_present: bool
    product: str  # as the driver names it: "910B3", "Ascend910", "310P3"
    health: NpuHealth
    memory_mib: int  # 0 when the driver did not say
    memory_used_mib: int
    bus_id: str = ""
    processes: tuple[NpuProcess, ...] = ()


@dataclass(frozen=True, slots=True)
class Inventory:
    """All that npud knows about the NPUs of this host at one moment."""

    driver: DriverState
    detail: str = ""  # the driver's own words when `driver` is not READY
    driver_version: str = ""
    npus: tuple[Npu, ...] = ()
    manager_devices: tuple[str, ...] = ()  # those present of davinci_manager, devmm_svm, hisi_hdc
    source: str = ""  # "npu-smi", later "dcmi"
    read_at: float = 0.0  # seconds since the epoch
    sequence: int = 0  # grows with every change that npud publishes


# --- the host ------------------------------------------------------------------------------------


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


@dataclass(frozen=True, slots=True)
class ContainerFacts:
    """A container in Podman's storage and what it holds."""

    name: str
    container_id: str
    running: bool
    unit: str  # the label PODMAN_SYSTEMD_UNIT, empty when it has none
    devices: tuple[str, ...]  # paths on the host


@dataclass(frozen=True, slots=True)
class PodmanSurvey:
    """One look at Podman: its version, the image asked for, and all containers."""

    version: tuple[int, int, int]
    image: ImageFacts
    containers: tuple[ContainerFacts, ...]


# --- systemd -------------------------------------------------------------------------------------


class UnitActive(StrEnum):
    """systemd's ActiveState; what a newer systemd adds becomes UNKNOWN."""

    ACTIVE = "active"
    RELOADING = "reloading"
    INACTIVE = "inactive"
    FAILED = "failed"
    ACTIVATING = "activating"
    DEACTIVATING = "deactivating"
    REFRESHING = "refreshing"  # from systemd 257 on: active, its mounts are being renewed
    UNKNOWN = "unknown"

    @classmethod
    def _missing_(cls, value: object) -> "UnitActive":
        return cls.UNKNOWN

    def is_up(self) -> bool:
        """True while the unit runs or is on its way up."""
        return self in (
            UnitActive.ACTIVE,
            UnitActive.RELOADING,
            UnitActive.REFRESHING,
            UnitActive.ACTIVATING,
        )

    def is_down(self) -> bool:
        """True when nothing of the unit runs, as far as systemd knows."""
        return self in (UnitActive.INACTIVE, UnitActive.FAILED)


class JobResult(StrEnum):
    """How systemd says that a job ended (JobRemoved signal)."""

    DONE = "done"
    CANCELED = "canceled"
    TIMEOUT = "timeout"
    FAILED = "failed"
    DEPENDENCY = "dependency"
    SKIPPED = "skipped"
    UNKNOWN = "unknown"

    @classmethod
    def _missing_(cls, value: object) -> "JobResult":
        return cls.UNKNOWN


@dataclass(frozen=True, slots=True)
class UnitStatus:
    """A systemd unit at one moment."""

    name: str
    load_state: str  # "loaded", "not-found", "bad-setting", "masked", ...
    active: UnitActive
    sub_state: str
    result: str  # of the service: "success", "exit-code", "signal", "watchdog", "oom-kill", ...
    exit_status: int  # ExecMainStatus
    fragment_path: str
    need_daemon_reload: bool
    unit_file_state: str  # "enabled", "disabled", "generated", ...
    invocation_id: str  # changes with every start of the unit


# --- instances -----------------------------------------------------------------------------------


class Phase(StrEnum):
    """Where an instance stands, in the order in which a start goes through them."""

    IDLE = "idle"  # nobody wishes it
    WAITING = "waiting"  # for something that comes by itself: driver, device, npud
    STARTING = "starting"  # planning, rendering, systemd starts the container
    LOADING = "loading"  # the container runs, no completion has been answered yet
    SERVING = "serving"
    BACKOFF = "backoff"  # it failed; the next try has its time
    HELD = "held"  # nothing can be done until something outside changes
    STOPPING = "stopping"


def front_unit(instance: str) -> str:
    """The unit that a user enables and starts."""
    return f"deepseek@{instance}.service"


def engine_unit(instance: str) -> str:
    """The rendered unit that runs the container."""
    return f"deepseek-vllm-{instance}.service"


def container_name(instance: str) -> str:
    """The container's name in Podman."""
    return f"deepseek-vllm-{instance}"
