# SPDX-License-Identifier: MulanPSL-2.0
"""What may stand in agent.toml and in a model profile: types, limits and defaults.

Only the short-lived process in `__main__` and the tests import this module (it pulls in pydantic).
"""

import pathlib
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, IPvAnyAddress
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from agent.config.values import Mode, RendererChoice

# Instances become part of unit, container and file names. "-" and "." are safe in all three;
# "@" is not ("not supported by podman", facts: podman-systemd), nor is anything systemd escapes.
INSTANCE_NAME = r"^[a-z0-9][a-z0-9.-]{0,31}$"

ENVIRONMENT_PREFIX = "DEEPSEEK_AGENT_"

Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]


def _single_line(value: str) -> str:
    """Nothing that could start a new line in a unit file."""
    if any(ord(char) < 32 or ord(char) == 127 for char in value):
        raise ValueError("control characters are not allowed")
    return value


def _path(value: str) -> str:
    """A path that Podman's SOURCE:TARGET can carry."""
    if ":" in value:
        raise ValueError('":" is not allowed: Podman cuts a mount there')
    return value


def _argument(value: str) -> str:
    """Podman's quadlet generator loses an empty argument and a lone ";" (seen with 5.4.2)."""
    if value in ("", ";"):
        raise ValueError('an empty argument and ";" are not allowed')
    return value


def _address(value: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Without a zone (fe80::1%eth0), which may hold any character."""
    if isinstance(value, IPv6Address) and value.scope_id is not None:
        raise ValueError("an address with a zone (%) is not allowed")
    return value


def _absolute(value: str) -> str:
    if not value.startswith("/"):
        raise ValueError("the path must be absolute")
    return value


Line = Annotated[str, AfterValidator(_single_line)]
Path = Annotated[Line, Field(min_length=1), AfterValidator(_path)]


class Strict(BaseModel):
    """Unknown keys are refused: a typing error must not go unnoticed for a year."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NeedsModel(Strict):
    """What a model asks of the host; the shipped numbers are the tutorial's table."""

    npu_memory_gib: Annotated[int, Field(ge=1, le=65536)] = 32
    cpu_cores: Annotated[int, Field(ge=1, le=4096)] = 32
    ram_gib: Annotated[int, Field(ge=1, le=65536)] = 32


class VllmModel(Strict):
    """Flags of `vllm serve`."""

    max_model_len: Annotated[int, Field(ge=1)] = 4096
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.8
    dtype: Literal["float16", "bfloat16", "float32", "auto"] = "float16"
    enforce_eager: bool = True
    trust_remote_code: bool = False
    reasoning_parser: Line = "deepseek_r1"
    extra_args: tuple[Annotated[Line, AfterValidator(_argument)], ...] = ()


class ProfileModel(Strict):
    """One file of models.d: the instance has the file's name."""

    served_name: Annotated[Line, Field(min_length=1)]
    model: Path
    image: Annotated[Line, Field(min_length=1)]
    listen: Annotated[IPvAnyAddress, AfterValidator(_address)] = Field(
        default="127.0.0.1", validate_default=True
    )
    port: Port
    npus: Literal["auto", "all"] | Annotated[tuple[int, ...], Field(min_length=1)] = "auto"
    shm_size: Annotated[str, Field(pattern=r"^[1-9][0-9]*[mg]$")] = "1g"
    environment: dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], Line] = {}
    needs: NeedsModel = NeedsModel()
    vllm: VllmModel = VllmModel()


class LimitsModel(Strict):
    """Times that policy decides by, in seconds."""

    backoff_first_s: Annotated[float, Field(gt=0, le=300)] = 1
    backoff_max_s: Annotated[float, Field(ge=1, le=3600)] = 300
    healthy_reset_s: Seconds = 600
    start_wait_s: Annotated[float, Field(ge=10, le=86_400)] = 1800
    recheck_held_s: Annotated[float, Field(ge=10, le=86_400)] = 300


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
    models_dir: Annotated[Path, AfterValidator(_absolute)] = "/var/lib/deepseek/models"
    limits: LimitsModel = LimitsModel()

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
        return (init_settings, env_settings, files)
