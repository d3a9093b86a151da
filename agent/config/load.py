# SPDX-License-Identifier: MulanPSL-2.0
"""Reads the configuration files and validates them.

In: the directories of the package and of the operator. Out: plain data that decodes to
`values.Config`, or a `ConfigError` that names file, key and what is allowed. Touches: those files,
for reading only; an operator's file is never rewritten.
"""

import os
import tomllib
from codecs import BOM_UTF8
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from pydantic_settings import SettingsError

from agent.config.explain import check_environment, explain
from agent.config.schema import ProfileModel, SettingsModel
from agent.errors import Code, ConfigError
from agent.model import INSTANCE_NAME, is_instance_name

TomlTable = dict[str, object]


@dataclass(frozen=True, slots=True)
class Paths:
    """Where configuration stands."""

    etc: Path = Path("/etc/deepseek-agent")
    share: Path = Path("/usr/share/deepseek-agent")

    def settings_files(self) -> tuple[Path, ...]:
        """agent.toml, then its drop-ins in the order of their names."""
        return (self.etc / "agent.toml", *_toml_files(self.etc / "agent.toml.d"))

    def profile_files(self, name: str) -> tuple[Path, ...]:
        """The shipped profile, then the operator's of the same name, which wins key by key."""
        return (self.share / "models.d" / f"{name}.toml", self.etc / "models.d" / f"{name}.toml")

    def profile_names(self) -> tuple[str, ...]:
        """All instances that a file is there for."""
        folders = (self.share / "models.d", self.etc / "models.d")
        found = {file.stem for folder in folders for file in _toml_files(folder)}
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
            profiles.append(_profile(paths, name, settings))
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
    check_environment()
    # Read here first: it names the file when it is not TOML, pydantic-settings would not.
    tables = _read_tables(paths.settings_files())

    class FromFiles(SettingsModel):
        toml_files = tuple(tables)

    try:
        return FromFiles()
    except ValidationError as error:
        raise explain(error, tables, SettingsModel, os.environ) from error
    except (SettingsError, RecursionError) as error:
        raise ConfigError(
            Code.CONFIG_INVALID,
            f"cannot read the environment DEEPSEEK_AGENT_*: {str(error)[:200]}",
            "correct or remove the variable in the service's environment",
        ) from error


def _profile(paths: Paths, name: str, settings: SettingsModel) -> Mapping[str, object]:
    if not is_instance_name(name):
        raise ConfigError(
            Code.CONFIG_INVALID,
            f"cannot use the profile {name!r}: its name does not fit {INSTANCE_NAME}",
            "rename the file in models.d",
        )
    tables = _read_tables(paths.profile_files(name))
    merged: TomlTable = {}
    for table in tables.values():
        merged = _merge(merged, table)
    try:
        profile = ProfileModel.model_validate(merged)
    except ValidationError as error:
        raise explain(error, tables, ProfileModel, {}) from error
    data = profile.model_dump(mode="json")
    images = settings.images.model_dump(mode="json")
    if image := data.pop("image"):
        images = dict.fromkeys(images, image)
    model = str(Path(settings.models_dir) / profile.model)
    return {**data, "name": name, "model": model, "images": images}


def _merge(below: TomlTable, above: TomlTable) -> TomlTable:
    """Tables are merged, everything else is replaced."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        merged[key] = _merge(old, value) if both else value  # type: ignore[arg-type]
    return merged


def _toml_files(folder: Path) -> tuple[Path, ...]:
    """By name. A folder that is there and cannot be read is a fault: what it says would be lost."""
    try:
        names = sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError as error:
        raise _unreadable(folder, error) from error
    return tuple(folder / name for name in names if name.endswith(".toml") and name != ".toml")


def _read_tables(files: tuple[Path, ...]) -> dict[Path, TomlTable]:
    """Of those files that are there."""
    found: dict[Path, TomlTable] = {}
    for file in files:
        try:
            found[file] = _parse(file.read_bytes())
        except FileNotFoundError:
            continue
        # tomllib lets two more through: of numbers with 4300 digits, and of deep nesting.
        except (OSError, ValueError, RecursionError) as error:
            raise _unreadable(file, error) from error
    return found


def _parse(text: bytes) -> TomlTable:
    if text.startswith(BOM_UTF8):
        raise ValueError("it begins with a byte order mark; save it as UTF-8 without one")
    return tomllib.loads(text.decode())


def _unreadable(path: Path, error: Exception) -> ConfigError:
    match error:
        case OSError():
            why = str(error.strerror)
        case UnicodeDecodeError():
            why = f"it is not UTF-8 (byte {error.start + 1})"
        case RecursionError():
            why = "it is nested too deep"
        case _:
            why = str(error)
    hint = "correct the file, then: deepseekctl config check"
    if isinstance(error, PermissionError):
        hint = f"run it as root, or let others read it: ls -ld {path}"
    return ConfigError(Code.CONFIG_INVALID, f"cannot read {path}: {why}", hint)
