# SPDX-License-Identifier: MulanPSL-2.0
"""The configuration as the rest of the program sees it: frozen, complete, without defaults.

`schema` validates and fills in the defaults, in a short-lived process of its own: pydantic costs
more memory than the whole resident daemon has. A test keeps the two field for field the same.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import assert_never

from agent.config.faults import NO_FAULTS, FaultCatalogue
from agent.errors import Code, ConfigError
from agent.model import (
    INSTANCE_NAME,
    Inventory,
    ProductLine,
    is_instance_name,
    product_line,
)
from agent.supplies import MODELS_DIR, Hub

# The times in which systemd lets a unit stop are made for it (render/workload.py).
MAX_DRAIN_S = 120


class Mode(StrEnum):
    """Whether the agent acts, or only watches and says what it would do."""

    ACT = "act"
    OBSERVE = "observe"


class RendererChoice(StrEnum):
    """Which kind of unit file is written; AUTO goes by the host (design: two renderers)."""

    AUTO = "auto"
    QUADLET = "quadlet"
    UNIT = "unit"


class SubHealth(StrEnum):
    """What comes of an NPU that is not quite well."""

    SHOW = "show"
    QUARANTINE = "quarantine"


class ResetScope(StrEnum):
    """What a reset of one NPU may take with it."""

    NEVER = "never"  # nothing is reset
    CARD = "card"  # the other chips of its card or module
    RING = "ring"  # all that are wired to it, on some hosts every NPU


@dataclass(frozen=True, slots=True)
class Needs:
    """What a model asks of the host."""

    npu_memory_gib: int
    cpu_cores: int
    ram_gib: int
    disk_gib: int  # for model and image together


@dataclass(frozen=True, slots=True)
class Images:
    """The container image for each line of NPUs."""

    a2: str
    a3: str
    duo: str

    def of(self, line: ProductLine) -> str:
        """Empty for a line that no image is known for."""
        names = {ProductLine.A2: self.a2, ProductLine.A3: self.a3, ProductLine.DUO: self.duo}
        return names.get(line, "")


@dataclass(frozen=True, slots=True)
class ModelRepo:
    """Where a hub keeps the files of a model."""

    hub: Hub
    repo: str
    revision: str  # branch, tag or commit


@dataclass(frozen=True, slots=True)
class ExtraMount:
    """A folder or file of the host that the operator wants in the container."""

    source: str
    target: str
    read_only: bool


@dataclass(frozen=True, slots=True)
class VllmOptions:
    """Flags of `vllm serve` that a profile sets."""

    max_model_len: int
    gpu_memory_utilization: float
    dtype: str
    enforce_eager: bool
    trust_remote_code: bool
    reasoning_parser: str  # empty: none
    extra_args: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Profile:
    """One model as an instance: `deepseek@<name>`."""

    name: str
    served_name: str
    model: str  # absolute path on the host
    products: tuple[ProductLine, ...]  # what it is known, or said, to run on
    images: Images
    listen: str
    port: int
    api_key_file: str  # absolute path; empty: none is asked for
    open_without_api_key: bool  # the operator's own words for it
    tls_certificate: str  # absolute path of a PEM file; empty: plain HTTP
    tls_key: str
    npus: str | tuple[int, ...]  # "auto", "all", or logic ids
    shm_size: str
    environment: dict[str, str]
    mounts: tuple[ExtraMount, ...]
    needs: Needs
    vllm: VllmOptions
    # With defaults, as what an agent before these keys wrote down (running/, config.json) lacks
    # them.
    start_budget_s: float = 0.0  # until it answers; 0: by its size and what it needed before
    longest_step_s: float = 0.0  # without a token, and not hung; 0: by max_model_len and compiling
    drain_s: int = 30  # so long a stop waits for requests that run; 0: not at all
    sources: tuple[ModelRepo, ...] = ()  # of the model, in the order in which they are tried
    read_only_root: bool = False  # of the container; what it has to write is in memory

    def image_for(self, inventory: Inventory) -> str:
        """The image's reference for the NPUs of this host; that for A2 while none is known."""
        products = {npu.product for npu in inventory.npus if npu.product}  # one, of 8 NPUs
        there = {product_line(product) for product in products}
        fitting = (line for line in self.products if line in there)
        return self.images.of(next(fitting, ProductLine.A2))


@dataclass(frozen=True, slots=True)
class BrokenProfile:
    """A profile that cannot be used, and why; the others are not touched by it."""

    name: str
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class Limits:
    """Times that policy decides by; all in seconds."""

    backoff_first_s: float
    backoff_max_s: float
    healthy_reset_s: float  # so long healthy, and the count of failures starts anew
    start_wait_s: float  # a start job must not stay pending longer than this without progress
    recheck_held_s: float  # a held instance is planned again (not started blindly) this often


@dataclass(frozen=True, slots=True)
class NpuSettings:
    """What is done about faults of NPUs; times in seconds."""

    sub_health: SubHealth
    reset: ResetScope
    release_after_s: float  # an NPU that was set aside is tried again, this long after its fault
    restart_after_s: float  # a fault of the levels RestartRequest and RestartBusiness has to last
    flap_raise_s: float  # one that flaps has to last this long before it counts
    flap_clear_s: float  # ... and to stay away this long before it is over
    breaker_window_s: float  # more than half of the NPUs within this time: it is not the NPUs


@dataclass(frozen=True, slots=True)
class HubSettings:
    """How one hub is reached: itself and its mirrors, in the order in which they are tried."""

    endpoints: tuple[str, ...]
    token_file: str  # absolute path, or "credential:NAME"; empty: none is sent
    ca_file: str  # PEM; empty: what the system trusts
    tls_verify: bool


@dataclass(frozen=True, slots=True)
class Registry:
    """How one registry is reached; `mirrors` are asked before it."""

    name: str  # as in the name of an image: "quay.io", "registry.example:5000"
    mirrors: tuple[str, ...]  # what takes the place of `name`: "mirror.example/quay"
    tls_verify: bool
    ca_file: str
    auth_file: str  # of `podman login`, or "credential:NAME"; empty: what Podman finds itself


@dataclass(frozen=True, slots=True)
class SupplySettings:
    """Where images and models come from, when they are not there."""

    fetch: bool  # False: only when a person asks for it
    parallel: int  # connections
    keep_free_gib: int  # on each file system that is written to
    modelscope: HubSettings
    huggingface: HubSettings
    registries: tuple[Registry, ...]
    prune: bool = True  # what nobody uses goes by itself where a disk is too full
    models_dir: str = MODELS_DIR

    def hub(self, hub: Hub) -> HubSettings:
        match hub:
            case Hub.MODELSCOPE:
                return self.modelscope
            case Hub.HUGGINGFACE:
                return self.huggingface
            case _:
                assert_never(hub)


@dataclass(frozen=True, slots=True)
class MetricsSettings:
    """Where Prometheus may ask, besides the agent's socket."""

    listen: str  # "127.0.0.1:9834"; empty: nowhere


NO_METRICS = MetricsSettings("")
_NO_HUB = HubSettings((), "", "", True)
NO_SUPPLY = SupplySettings(False, 4, 20, _NO_HUB, _NO_HUB, (), prune=False)


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that the operator decided."""

    mode: Mode
    renderer: RendererChoice
    limits: Limits
    profiles: tuple[Profile, ...]
    broken: tuple[BrokenProfile, ...]
    npu: NpuSettings
    faults: FaultCatalogue
    # What an older agent wrote down lacks these.
    supply: SupplySettings = NO_SUPPLY
    metrics: MetricsSettings = NO_METRICS
    # By key ("limits.start_wait_s", "profiles.8b.port"): the file, or the variable, that sets it.
    # What has its default is not there.
    origins: dict[str, str] = field(default_factory=dict)

    def shares_model(self, profile: Profile) -> bool:
        """Whether another instance has the same folder."""
        others = (one.model for one in self.profiles if one.name != profile.name)
        return profile.model in others

    def profile(self, name: str) -> Profile | BrokenProfile | None:
        """The profile of that name; what is broken comes first. None when there is none."""
        everything: tuple[Profile | BrokenProfile, ...] = (*self.broken, *self.profiles)
        return next((one for one in everything if one.name == name), None)


def find_profile(config: Config, name: str) -> Profile:
    """Raises ConfigError when there is none of that name, or none that can be used."""
    found = config.profile(name)
    match found:
        case Profile():
            return found
        case BrokenProfile():
            raise ConfigError(Code.CONFIG_INVALID, found.message, found.hint)
        case None:
            raise no_profile(config, name)


def no_profile(config: Config, name: str) -> ConfigError:
    """Of a name that `config` has none for."""
    names = ", ".join(one.name for one in config.profiles) or "none"
    where = f"write /etc/deepseek-agent/models.d/{name}.toml, or correct the name"
    proper = f"a name fits {INSTANCE_NAME}; correct it"
    return ConfigError(
        Code.INSTANCE_UNKNOWN,
        f"cannot serve {name!r}: there is no profile of that name (there are: {names})",
        where if is_instance_name(name) else proper,
    )


# In force when the files cannot be used at the start: nothing is known, so nothing is touched.
NO_CONFIG = Config(
    mode=Mode.OBSERVE,
    renderer=RendererChoice.AUTO,
    limits=Limits(1.0, 300.0, 600.0, 1800.0, 300.0),
    profiles=(),
    broken=(),
    npu=NpuSettings(SubHealth.SHOW, ResetScope.CARD, 604_800.0, 60.0, 20.0, 60.0, 300.0),
    faults=NO_FAULTS,
)
