# SPDX-License-Identifier: MulanPSL-2.0
"""The configuration in force, as the API shows it."""

from dataclasses import dataclass
from typing import Any

from agent.errors import Failure
from agent.status.snapshot import SCHEMA


@dataclass(frozen=True, slots=True)
class Setting:
    """A value. `set_in`: the file, or the variable of the agent's environment; empty: nobody has
    set it, it is the default."""

    key: str  # "limits.start_wait_s"; below a profile without its name: "vllm.dtype"
    value: Any
    set_in: str
    hidden: bool = False  # it may hold a secret, and is not told


@dataclass(frozen=True, slots=True)
class ProfileSettings:
    """Of one instance. `problem`: why its files as they are now are not in force."""

    name: str
    settings: tuple[Setting, ...]
    problem: Failure | None


@dataclass(frozen=True, slots=True)
class ConfigAnswer:
    """`problem`: why agent.toml as it is now is not in force."""

    settings: tuple[Setting, ...]
    profiles: tuple[ProfileSettings, ...]
    problem: Failure | None
    fault_files: tuple[Failure, ...]  # those about faults of NPUs that cannot be used
    schema: int = SCHEMA
