# SPDX-License-Identifier: MulanPSL-2.0
"""What may stand in agent.toml and in a model profile: keys, limits and defaults.

Only the short-lived process in `__main__` and the tests import this module (it pulls in pydantic).
"""

import json
import pathlib
from ipaddress import ip_address
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictFloat, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from agent.config.fields import (
    AbsolutePath,
    Address,
    Argument,
    Count,
    Endpoints,
    Flag,
    Image,
    Line,
    Mirror,
    Name,
    Npus,
    OptionalFile,
    OptionalImage,
    OptionalListen,
    OptionalPath,
    OptionalSecret,
    Port,
    RegistryName,
    Repo,
    Revision,
    Seconds,
    SeenFolder,
    SeenPath,
    ShmSize,
    Target,
    Variable,
)
from agent.config.flags import served_names
from agent.config.values import MAX_DRAIN_S, Mode, RendererChoice, ResetScope, SubHealth
from agent.supplies import MODELS_DIR, Hub

ENVIRONMENT_PREFIX = "DEEPSEEK_AGENT_"
# Quoting doubles a character at most.
MAX_TOTAL = 256 * 1024
IMAGE = "quay.io/ascend/vllm-ascend:v0.18.0"


class Strict(BaseModel):
    """Unknown keys are refused: a typing error must not go unnoticed for a year."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NeedsModel(Strict):
    """What a model asks of the host; the shipped numbers are the tutorial's table."""

    npu_memory_gib: Count = 32
    cpu_cores: Count = 32
    ram_gib: Count = 32
    disk_gib: Count = 60


class VllmModel(Strict):
    """Flags of `vllm serve`."""

    max_model_len: Annotated[int, Field(strict=True, ge=1, le=2**31 - 1)] = 4096
    gpu_memory_utilization: Annotated[StrictFloat, Field(gt=0, le=1)] = 0.8
    dtype: Literal["float16", "bfloat16", "float32", "auto"] = "float16"
    enforce_eager: Flag = True
    trust_remote_code: Flag = False
    reasoning_parser: Line = "deepseek_r1"
    extra_args: tuple[Argument, ...] = ()


class MountModel(Strict):
    """One more folder or file in the container."""

    source: AbsolutePath
    target: Target
    read_only: Flag = True


class SourceModel(Strict):
    """Where a hub keeps the model."""

    hub: Hub
    repo: Repo
    revision: Revision


class ProfileModel(Strict):
    """One file of models.d: the instance has the file's name."""

    served_name: Name
    model: SeenPath
    sources: tuple[SourceModel, ...] = ()
    products: Annotated[tuple[Literal["a2", "a3", "duo"], ...], Field(min_length=1)] = ("a2", "a3")
    image: OptionalImage = ""  # empty: that of [images] in agent.toml for the host's NPUs
    listen: Address = "127.0.0.1"
    port: Port
    api_key_file: OptionalPath = ""
    open_without_api_key: Flag = False
    tls_certificate: OptionalPath = ""
    tls_key: OptionalPath = ""
    npus: Npus = "auto"
    shm_size: ShmSize = "1g"
    read_only_root: Flag = False
    drain_s: Annotated[int, Field(strict=True, ge=0, le=MAX_DRAIN_S)] = 30
    environment: dict[Variable, Line] = {}
    mounts: tuple[MountModel, ...] = ()
    needs: NeedsModel = NeedsModel()
    vllm: VllmModel = VllmModel()
    start_budget_s: Seconds = 0
    longest_step_s: Annotated[StrictFloat, Field(ge=0, le=3600)] = 0

    @model_validator(mode="after")
    def _open_with_a_key(self) -> Self:
        """What an engine answers to a network, it answers to whoever has the key."""
        guarded = self.api_key_file or self.open_without_api_key
        if not guarded and not ip_address(self.listen).is_loopback:
            raise _about(
                "listen",
                "this opens the engine to the network, and there is no API key: set api_key_file, "
                "or say open_without_api_key = true",
            )
        return self

    @model_validator(mode="after")
    def _tls_as_a_pair(self) -> Self:
        if bool(self.tls_certificate) != bool(self.tls_key):
            one = "tls_certificate" if self.tls_certificate else "tls_key"
            raise _about(one, "tls_certificate and tls_key go together: set both or none")
        return self

    @model_validator(mode="after")
    def _answers_to_its_name(self) -> Self:
        names = served_names(self.vllm.extra_args)
        if names and self.served_name not in names:
            raise _about(
                "vllm.extra_args",
                "the names behind --served-model-name lack served_name, for which the agent asks: "
                "put it first",
            )
        return self

    @model_validator(mode="after")
    def _fits_a_line(self) -> Self:
        """All of it stands in one line of a unit file, quoted, and systemd ignores one of 1 MiB and
        more (LONG_LINE_MAX, src/basic/def.h; seen with 252 and 257)."""
        pairs = (f"{name}={value}" for name, value in self.environment.items())
        mounts = (f"{mount.source}:{mount.target}" for mount in self.mounts)
        if sum(len(one.encode()) for one in (*self.vllm.extra_args, *pairs, *mounts)) > MAX_TOTAL:
            raise _about(
                "environment",
                f"it is longer than {MAX_TOTAL} bytes together with mounts and vllm.extra_args",
            )
        return self

    @model_validator(mode="after")
    def _targets_differ(self) -> Self:
        targets = [mount.target.rstrip("/") for mount in self.mounts]
        if len(set(targets)) != len(targets):
            raise _about("mounts", "two mounts have the same target")
        return self


def _about(key: str, words: str) -> PydanticCustomError:
    """A fault of several keys together, told at one of them."""
    return PydanticCustomError("together", words, {"key": key})


class ImagesModel(Strict):
    """Images of vllm-ascend for openEuler, by line of NPUs (facts: ascend, 5)."""

    a2: Image = f"{IMAGE}-openeuler"
    a3: Image = f"{IMAGE}-a3-openeuler"
    duo: Image = f"{IMAGE}-310p-openeuler"


class LimitsModel(Strict):
    """Times that policy decides by, in seconds."""

    backoff_first_s: Annotated[StrictFloat, Field(gt=0, le=300)] = 1
    backoff_max_s: Annotated[StrictFloat, Field(ge=1, le=3600)] = 300
    healthy_reset_s: Seconds = 600
    start_wait_s: Annotated[StrictFloat, Field(ge=10, le=86_400)] = 1800
    recheck_held_s: Annotated[StrictFloat, Field(ge=10, le=86_400)] = 300

    @model_validator(mode="after")
    def _first_below_max(self) -> Self:
        if self.backoff_first_s > self.backoff_max_s:
            raise _about("backoff_first_s", "it must not be above backoff_max_s")
        return self


Release = Annotated[StrictFloat, Field(ge=60, le=366 * 86_400, allow_inf_nan=False)]


class NpuModel(Strict):
    """What is done about faults of NPUs; times in seconds."""

    sub_health: SubHealth = SubHealth.SHOW
    reset: ResetScope = ResetScope.CARD
    release_after_s: Release = 604_800
    restart_after_s: Annotated[StrictFloat, Field(ge=1, le=3600)] = 60
    flap_raise_s: Annotated[StrictFloat, Field(ge=0, le=3600)] = 20
    flap_clear_s: Annotated[StrictFloat, Field(ge=0, le=3600)] = 60
    breaker_window_s: Annotated[StrictFloat, Field(ge=10, le=3600)] = 300


class ModelscopeModel(Strict):
    """ModelScope and its mirrors."""

    endpoints: Endpoints = ("https://modelscope.cn",)
    token_file: OptionalSecret = ""
    ca_file: OptionalFile = ""
    tls_verify: Flag = True


class HuggingfaceModel(ModelscopeModel):
    """Hugging Face and its mirrors; from China the first answers, the second does not."""

    endpoints: Endpoints = ("https://hf-mirror.com", "https://huggingface.co")


class SupplyModel(Strict):
    """Where what is missing comes from."""

    fetch: Flag = True
    parallel: Annotated[int, Field(strict=True, ge=1, le=16)] = 4
    keep_free_gib: Annotated[int, Field(strict=True, ge=0, le=65536)] = 20
    prune: Flag = True
    modelscope: ModelscopeModel = ModelscopeModel()
    huggingface: HuggingfaceModel = HuggingfaceModel()


class RegistryModel(Strict):
    """A registry of images, by its name."""

    mirrors: tuple[Mirror, ...] = ()
    tls_verify: Flag = True
    ca_file: OptionalFile = ""
    auth_file: OptionalSecret = ""


class MetricsModel(Strict):
    """Where Prometheus may ask, besides the agent's socket."""

    listen: OptionalListen = ""


class _Environment(EnvSettingsSource):
    """Variables are text; numbers and flags in them are read as TOML and JSON write them."""

    def __call__(self) -> dict[str, Any]:
        found: dict[str, Any] = _typed(super().__call__())
        return found


def _typed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _typed(one) for key, one in value.items()}
    try:
        number = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value
    return number if isinstance(number, bool | int | float) else value


class SettingsModel(BaseSettings):
    """agent.toml, its drop-ins, and DEEPSEEK_AGENT_* of the environment (which wins)."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter="__",
    )
    toml_files: ClassVar[tuple[pathlib.Path, ...]] = ()

    mode: Mode = Mode.ACT
    renderer: RendererChoice = RendererChoice.AUTO
    models_dir: SeenFolder = MODELS_DIR
    images: ImagesModel = ImagesModel()
    limits: LimitsModel = LimitsModel()
    npu: NpuModel = NpuModel()
    supply: SupplyModel = SupplyModel()
    registries: dict[RegistryName, RegistryModel] = {}
    metrics: MetricsModel = MetricsModel()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment over files; later files over earlier ones, key by key."""
        files = TomlConfigSettingsSource(settings_cls, list(cls.toml_files), deep_merge=True)
        return (init_settings, _Environment(settings_cls), files)
