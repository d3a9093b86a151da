# SPDX-License-Identifier: MulanPSL-2.0
"""Reads the configuration files and validates them.

In: the directories of the package and of the operator. Out: plain data that decodes to
`values.Config`, or a `ConfigError` that names file, key and what is allowed. Touches: those files,
for reading only; an operator's file is never rewritten.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from pydantic_settings import SettingsError

from agent.config.schema import ENVIRONMENT_PREFIX, INSTANCE_NAME, ProfileModel, SettingsModel
from agent.errors import Code, ConfigError

TomlTable = dict[str, object]


@dataclass(frozen=True, slots=True)
class Paths:
    """Where configuration stands."""

    etc: Path = Path("/etc/deepseek-agent")
    share: Path = Path("/usr/share/deepseek-agent")

    def settings_files(self) -> tuple[Path, ...]:
        """agent.toml, then its drop-ins in the order of their names."""
        return (self.etc / "agent.toml", *sorted((self.etc / "agent.toml.d").glob("*.toml")))

    def profile_files(self, name: str) -> tuple[Path, ...]:
        """The shipped profile, then the operator's of the same name, which wins key by key."""
        return (self.share / "models.d" / f"{name}.toml", self.etc / "models.d" / f"{name}.toml")

    def profile_names(self) -> tuple[str, ...]:
        """All instances that a file is there for."""
        found = {
            file.stem
            for folder in (self.share, self.etc)
            for file in (folder / "models.d").glob("*.toml")
        }
        return tuple(sorted(found))


def load(paths: Paths) -> Mapping[str, object]:
    """Everything, as data that decodes to `values.Config`.

    Raises ConfigError when agent.toml or a drop-in cannot be used; a profile that cannot be used
    is listed under "broken" and disturbs no other.
    """
    settings = _settings(paths)
    profiles: list[object] = []
    broken: list[object] = []
    for name in paths.profile_names():
        try:
            profiles.append(_profile(paths, name, Path(settings.models_dir)))
        except ConfigError as error:
            failure = error.failure
            broken.append({"name": name, "message": failure.message, "hint": failure.hint})
    return {
        "mode": settings.mode.value,
        "renderer": settings.renderer.value,
        "limits": settings.limits.model_dump(mode="json"),
        "profiles": profiles,
        "broken": broken,
    }


def _settings(paths: Paths) -> SettingsModel:
    for file in paths.settings_files():
        _read_toml(file)  # names the file when it is not TOML; pydantic-settings would not

    class FromFiles(SettingsModel):
        toml_files = paths.settings_files()

    try:
        return FromFiles()
    except ValidationError as error:
        raise _explain(error, paths.settings_files()) from error
    except SettingsError as error:
        raise ConfigError(
            Code.CONFIG_INVALID,
            f"cannot read the environment DEEPSEEK_AGENT_*: {error}",
            "correct or remove the variable in the service's environment",
        ) from error


def _profile(paths: Paths, name: str, models_dir: Path) -> Mapping[str, object]:
    if re.fullmatch(INSTANCE_NAME, name) is None:
        raise ConfigError(
            Code.CONFIG_INVALID,
            f"cannot use the profile {name!r}: its name does not fit {INSTANCE_NAME}",
            "rename the file in models.d",
        )
    files = paths.profile_files(name)
    merged: TomlTable = {}
    for file in files:
        merged = _merge(merged, _read_toml(file))
    try:
        profile = ProfileModel.model_validate(merged)
    except ValidationError as error:
        raise _explain(error, files) from error
    data = profile.model_dump(mode="json")
    return {**data, "name": name, "model": str(models_dir / profile.model)}


def _merge(below: TomlTable, above: TomlTable) -> TomlTable:
    """Tables are merged, everything else is replaced."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        merged[key] = _merge(old, value) if both else value  # type: ignore[arg-type]
    return merged


def _read_toml(file: Path) -> TomlTable:
    try:
        with file.open("rb") as stream:
            return tomllib.load(stream)
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            Code.CONFIG_INVALID, f"cannot read {file}: {error}", "correct the file"
        ) from error


def _explain(error: ValidationError, files: tuple[Path, ...]) -> ConfigError:
    """The first fault in words, with the key and where it is set."""
    first = error.errors(include_url=False)[0]
    where, key = _locate(files, [str(part) for part in first["loc"]])
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    what = "unknown key" if first["type"] == "extra_forbidden" else first["msg"]
    return ConfigError(
        Code.CONFIG_INVALID,
        f"cannot use {where}: {key}: {what}{more}",
        "correct the key, then: deepseekctl config check",
    )


def _locate(files: tuple[Path, ...], location: list[str]) -> tuple[str, str]:
    """Where a key is set, and its name. pydantic's location goes on below what the files hold: the
    branch of a union, "[key]"; and the last one to set a key is the one that counts."""
    variable = "__".join((ENVIRONMENT_PREFIX + location[0].upper(), *map(str.upper, location[1:])))
    if variable in os.environ:
        return f"the environment's {variable}", ".".join(location)
    found: list[str] = []
    where = ""
    for file in files:
        prefix = _prefix(_read_toml(file), location)
        if prefix and len(prefix) >= len(found):
            found, where = prefix, str(file)
    if found:
        return where, ".".join(found)
    there = " and ".join(str(file) for file in files if file.exists())
    return there or "the configuration", ".".join(location)


def _prefix(table: object, location: list[str]) -> list[str]:
    """As much of `location` as `table` has."""
    found = []
    for part in location:
        if isinstance(table, dict) and part in table:
            table = table[part]
        elif isinstance(table, list) and part.isdecimal() and int(part) < len(table):
            table = table[int(part)]
        else:
            break
        found.append(part)
    return found
