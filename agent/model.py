# SPDX-License-Identifier: MulanPSL-2.0
"""The nouns that cross folders: frozen values without behaviour beyond small predicates.

Standard library only: npud imports this module and has to stay small.
"""

import re
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


class ProductLine(StrEnum):
    """What decides about image, mounts and how chips hang together (facts: ascend, 6)."""

    A2 = "a2"  # Atlas 800I/800T A2: one chip a card
    A3 = "a3"  # Atlas 800I/800T A3: two dies a module, used in pairs
    DUO = "duo"  # 310P, Atlas 300I Duo: several chips a card, each for itself
    UNKNOWN = "unknown"


def product_line(product: str) -> ProductLine:
    """The line of a chip by the driver's name for it: "910B3", "Ascend910", "310P3".

    The first generation (910A, 910ProB, bare 910B) and 310B are UNKNOWN: no vllm-ascend image is
    made for them.
    """
    name = product.removeprefix("Ascend").strip().upper()
    if re.match(r"910B[1-9]", name):
        return ProductLine.A2
    if name == "910" or name.startswith("910_93"):
        return ProductLine.A3
    return ProductLine.DUO if name.startswith("310P") else ProductLine.UNKNOWN


def brother_card(card_id: int) -> int:
    """The card that a reset of an A3's card takes with it, where it exists: they stand in for each
    other's network ports (driver 25.x: dcmi_get_netdev_brother_device). An Atlas 9000 A3 has none;
    it is not told apart."""
    return card_id - 4 if card_id >= 4 else card_id + 4


class DriverState(StrEnum):
    """Whether the Ascend driver answers."""

    READY = "ready"
    ABSENT = "absent"  # no device nodes, no npu-smi: not installed, or not loaded yet
    FAILED = "failed"  # it is there and refuses; `detail` says how
    UNKNOWN = "unknown"  # no answer yet, the probe hangs, or an answer nobody understands


DEVICE_PREFIX = "/dev/davinci"
UNKNOWN_CARD = -1  # of a node that the driver has not (yet) told anything about
MAX_LOGIC_ID = 4096  # far above any machine


# npud's own fault. A code of the driver's has 10 (by the chip) or 01 (by the host) in its first two
# bits (its dms_sensor.c).
MEMORY_LEFT = "0D5E0001"  # memory is used for long, and by no process
# Why the health of a chip is UNKNOWN, where it is the driver itself that has no such chip.
ABSENT = "the driver says that it is absent or not started"
NOT_LISTED = "the driver does not list it any more"
# An idle 910B uses 3.4 of 64 GiB (facts: ascend, 1.2), a 310P shares its DDR with the system.
LEFT_SHARE = 0.3


def is_filled(used_mib: int, size_mib: int) -> bool:
    """Whether more memory of a chip is used than when it is idle; False when it is not told."""
    return used_mib > LEFT_SHARE * size_mib > 0


@dataclass(frozen=True, slots=True)
class Hold:
    """A person wants an instance to be stopped, whoever starts it, until it is released."""

    at: float  # seconds since the epoch
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class NpuProcess:
    """A process that holds memory on a chip, by the driver's account."""

    pid: int
    name: str
    memory_mib: int


class FaultSeverity(StrEnum):
    """The driver's own word for a fault code; a code read without its event has none."""

    HINT = "hint"
    MINOR = "minor"
    MAJOR = "major"
    CRITICAL = "critical"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class NpuFault:
    """One fault code that is present on a chip, or a one-off event."""

    code: str  # eight hex digits, upper case: "80E01801"; the driver's number
    severity: FaultSeverity
    text: str  # the driver's own words
    raised_at: float  # seconds since the epoch: by the event, else when first seen
    one_off: bool = False  # it has happened and does not last; kept for 60 s after it came


@dataclass(frozen=True, slots=True)
class NpuReadings:
    """What a chip measures; None: the driver did not say."""

    temperature_c: int | None = None
    power_w: float | None = None
    utilization_percent: int | None = None  # of the AI cores
    memory_percent: int | None = None
    hbm_temperature_c: int | None = None
    ecc_single: int | None = None  # current counts of the HBM; of the DDR on a 310P
    ecc_double: int | None = None
    isolated_pages: int | None = None
    boot_status: int | None = None


@dataclass(frozen=True, slots=True)
class Npu:
    """One chip as software addresses it: `logic_id` is the N of /dev/davinciN."""

    logic_id: int  # not the driver's, which is another one behind a chip that did not come up
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
    faults: tuple[NpuFault, ...] = ()
    readings: NpuReadings = NpuReadings()
    reason: str = ""  # why `health` is UNKNOWN or the chip is gone: "card dropped (-8012)"
    processes_told: bool = False  # `processes` is what the driver lists; else nobody knows
    node_told: bool = True  # the driver says which node it has; else only its own logic id is known

    def has_memory_left(self) -> bool:
        """Memory is used, and the driver says that no process uses any."""
        filled = is_filled(self.memory_used_mib, self.memory_mib)
        return filled and self.processes_told and not self.processes


@dataclass(frozen=True, slots=True)
class Inventory:
    """All that npud knows about the NPUs of this host at one moment."""

    driver: DriverState
    detail: str = ""  # the driver's own words when `driver` is not READY
    driver_version: str = ""
    npus: tuple[Npu, ...] = ()
    manager_devices: tuple[str, ...] = ()  # those present of davinci_manager, devmm_svm, hisi_hdc
    source: str = ""  # "dcmi", or "npu-smi" where libdcmi cannot be used
    read_at: float = 0.0  # seconds since the epoch
    sequence: int = 0  # grows with every change that npud publishes
    board_id: int | None = None


class ResetOutcome(StrEnum):
    """How a reset of NPUs went."""

    OK = "ok"  # the chips have booted
    FAILED = "failed"
    BUSY = "busy"  # nothing was done: something uses the chip after all, or its fault is gone
    REFUSED = "refused"  # the product or the host does not allow it: it never will


@dataclass(frozen=True, slots=True)
class Unfit:
    """An NPU that no plan may choose."""

    logic_id: int
    reason: str
    passing: bool  # it is being mended: a plan that cannot do without it waits


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
    result: str  # of the service: systemd.exec(5), $SERVICE_RESULT
    exit_status: int  # ExecMainStatus
    fragment_path: str  # the unit file that systemd has read
    source_path: str  # what a generator made that of; empty when none did
    need_daemon_reload: bool
    unit_file_state: str  # "enabled", "disabled", "generated", ...
    invocation_id: str  # changes with every start of the unit
    stop_asked: bool = False  # it went down by a stop that somebody asked for


# --- instances -----------------------------------------------------------------------------------


class Phase(StrEnum):
    """Where an instance stands, in the order in which a start goes through them."""

    IDLE = "idle"  # nobody wishes it
    WAITING = "waiting"  # for something that comes by itself: driver, device, npud
    FETCHING = "fetching"  # image or model is being brought
    STARTING = "starting"  # planning, rendering, systemd starts the container
    LOADING = "loading"  # the container runs, no completion has been answered yet
    SERVING = "serving"
    BACKOFF = "backoff"  # it failed; the next try has its time
    HELD = "held"  # nothing can be done until something outside changes
    STOPPING = "stopping"


class Step(StrEnum):
    """How far an engine that loads has come, in this order."""

    CONTAINER = "container"  # it runs; nothing has been heard of it
    ENGINE = "engine"  # vLLM is there and initialises
    WEIGHTS = "weights"
    COMPILING = "compiling"
    MEMORY = "memory"  # measuring what is left of it, laying out the KV cache
    CAPTURING = "capturing"  # graphs, warming up
    LISTENING = "listening"  # its first token is waited for


@dataclass(frozen=True, slots=True)
class StartProgress:
    """How far it is within a step, where that can be told: `done` of `total` parts."""

    step: Step = Step.CONTAINER
    percent: int | None = None
    done: int | None = None
    total: int | None = None


NO_PROGRESS = StartProgress()


@dataclass(frozen=True, slots=True)
class EngineWork:
    """What an engine that serves says of its work; counts are since its start, and the agent's own
    questions are among them. None: it does not say."""

    requests_running: int
    requests_waiting: int
    prompt_tokens: int
    generation_tokens: int
    requests_finished: int | None = None
    preemptions: int | None = None
    kv_cache_ratio: float | None = None  # of it in use; where it has several, of the fullest
    first_tokens: int | None = None  # answers that have begun
    first_token_wait_s: float | None = None  # from request to first token, of all of them together


# Instances become part of unit, container and file names. "-" and "." are safe in all three;
# "@" is not ("not supported by podman", facts: podman-systemd), nor is anything systemd escapes.
INSTANCE_NAME = r"[a-z0-9][a-z0-9.-]{0,31}"


def is_instance_name(name: str) -> bool:
    """Whether `name` can be one: nothing that passes leaves a folder or a line."""
    return re.fullmatch(INSTANCE_NAME, name) is not None


# Phases in which the NPUs of an instance's latest plan are its own.
HOLDING = (Phase.STARTING, Phase.LOADING, Phase.SERVING, Phase.STOPPING)


def front_unit(instance: str) -> str:
    """The unit that a user enables and starts."""
    return f"deepseek@{instance}.service"


ALL_FRONTS = front_unit("*")


def fronts_instance(unit: str) -> str:
    """Whose front unit it is."""
    return unit.removeprefix("deepseek@").removesuffix(".service")


def engine_unit(instance: str) -> str:
    """The rendered unit that runs the container."""
    return f"deepseek-vllm-{instance}.service"


def evidence_unit(instance: str) -> str:
    """The unit that writes down what the engine does."""
    return f"deepseek-evidence@{instance}.service"


def supply_unit(instance: str) -> str:
    """The unit that brings image and model."""
    return f"deepseek-supply@{instance}.service"


def switch_unit(instance: str) -> str:
    """The unit that has the next start find another image and model."""
    return f"deepseek-switch@{instance}.service"


AGENT_UNIT = "deepseek-agent.service"
# Of the agent's lines in the journal: which instance they are about.
INSTANCE_FIELD = "DEEPSEEK_INSTANCE"
PRUNE_UNIT = "deepseek-prune.service"


def network_unit(instance: str) -> str:
    """The unit that has Podman set up its firewall rules for that container anew."""
    return f"deepseek-network@{instance}.service"


def container_name(instance: str) -> str:
    """The container's name in Podman."""
    return f"deepseek-vllm-{instance}"
