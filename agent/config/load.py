# SPDX-License-Identifier: MulanPSL-2.0
"""Reads the configuration files and validates them.

In: the directories of the package and of the operator. Out: plain data that decodes to
`values.Config`, or a `ConfigError` that names file, key and what is allowed. Touches: those files,
for reading only; an operator's file is never rewritten.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from pydantic_settings import SettingsError

from agent.config.catalogue import read_catalogue
from agent.config.explain import Tables, check_environment, explain
from agent.config.origins import Origins, below, find_origins
from agent.config.schema import ImagesModel, ProfileModel, SettingsModel
from agent.config.toml import TomlTable, merge, read_tables, toml_files
from agent.errors import Code, ConfigError
from agent.model import INSTANCE_NAME, is_instance_name

# Tables of agent.toml that are part of each profile, or of `supply`, once they are read.
FOLDED = ("images", "models_dir", "registries")


@dataclass(frozen=True, slots=True)
class Paths:
    """Where configuration stands."""

    etc: Path = Path("/etc/deepseek-agent")
    share: Path = Path("/usr/share/deepseek-agent")

    def settings_files(self) -> tuple[Path, ...]:
        """agent.toml, then its drop-ins in the order of their names."""
        return (self.etc / "agent.toml", *toml_files(self.etc / "agent.toml.d"))

    def profile_files(self, name: str) -> tuple[Path, ...]:
        """The shipped profile, then the operator's of the same name, which wins key by key."""
        return (self.share / "models.d" / f"{name}.toml", self.etc / "models.d" / f"{name}.toml")

    def profile_names(self) -> tuple[str, ...]:
        """All instances that a file is there for."""
        folders = (self.share / "models.d", self.etc / "models.d")
        found = {file.stem for folder in folders for file in toml_files(folder)}
        return tuple(sorted(found))


def load(paths: Paths) -> Mapping[str, object]:
    """Everything, as data that decodes to `values.Config`.

    Raises ConfigError when agent.toml or a drop-in cannot be used; a profile that cannot be used
    is listed under "broken" and disturbs no other, and so is a file about faults.
    """
    settings, tables = _settings(paths)
    origins = find_origins(settings.model_dump(mode="json"), tables, os.environ)
    of_profiles: Origins = {}
    profiles: list[object] = []
    broken: list[object] = []
    for name in paths.profile_names():
        try:
            profile, its_tables = _profile(paths, name, settings)
            profiles.append(profile)
            of_profiles |= below(f"profiles.{name}", _of_profile(profile, its_tables, origins))
        except ConfigError as error:
            failure = error.failure
            broken.append({"name": name, "message": failure.message, "hint": failure.hint})
    return {
        "mode": settings.mode.value,
        "renderer": settings.renderer.value,
        "limits": settings.limits.model_dump(mode="json"),
        "npu": settings.npu.model_dump(mode="json"),
        "supply": {
            **settings.supply.model_dump(mode="json"),
            "models_dir": settings.models_dir,
            "registries": [
                {"name": name, **one.model_dump(mode="json")}
                for name, one in settings.registries.items()
            ],
        },
        "metrics": settings.metrics.model_dump(mode="json"),
        "faults": read_catalogue(paths.share / "faults.toml", paths.etc / "faults.d"),
        "profiles": profiles,
        "broken": broken,
        "origins": _as_values_have_them(origins) | of_profiles,
    }


def _as_values_have_them(origins: Origins) -> Origins:
    """Keys of the files that stand elsewhere in `values.Config`, or in its profiles alone."""
    kept = {key: where for key, where in origins.items() if key.split(".")[0] not in FOLDED}
    supply = ("models_dir", "registries.")
    folded = {key: where for key, where in origins.items() if key.startswith(supply)}
    return kept | below("supply", folded)


def _of_profile(profile: Mapping[str, object], tables: Tables, settings: Origins) -> Origins:
    """An image that the profile does not name is that of the settings."""
    own = find_origins(profile, tables, {})
    naming = [(table["image"], str(file)) for file, table in tables.items() if "image" in table]
    image, where = naming[-1] if naming else ("", "")
    if image:
        return own | {f"images.{line}": where for line in ImagesModel.model_fields}
    return own | {key: where for key, where in settings.items() if key.startswith("images.")}


def _settings(paths: Paths) -> tuple[SettingsModel, Tables]:
    check_environment()
    # Read here first: it names the file when it is not TOML, pydantic-settings would not.
    tables = read_tables(paths.settings_files())

    class FromFiles(SettingsModel):
        toml_files = tuple(tables)

    try:
        return FromFiles(), tables
    except ValidationError as error:
        raise explain(error, tables, SettingsModel, os.environ) from error
    except (SettingsError, RecursionError) as error:
        raise ConfigError(
            Code.CONFIG_INVALID,
            f"cannot read the environment DEEPSEEK_AGENT_*: {str(error)[:200]}",
            "correct or remove the variable in the service's environment",
        ) from error


def _profile(
    paths: Paths, name: str, settings: SettingsModel
) -> tuple[Mapping[str, object], Tables]:
    if not is_instance_name(name):
        raise ConfigError(
            Code.CONFIG_INVALID,
            f"cannot use the profile {name!r}: its name does not fit {INSTANCE_NAME}",
            "rename the file in models.d",
        )
    tables = read_tables(paths.profile_files(name))
    merged: TomlTable = {}
    for table in tables.values():
        merged = merge(merged, table)
    try:
        profile = ProfileModel.model_validate(merged)
    except ValidationError as error:
        raise explain(error, tables, ProfileModel, {}) from error
    data = profile.model_dump(mode="json")
    images = settings.images.model_dump(mode="json")
    if image := data.pop("image"):
        images = dict.fromkeys(images, image)
    model = str(Path(settings.models_dir) / profile.model)
    return {**data, "name": name, "model": model, "images": images}, tables
