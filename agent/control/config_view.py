# SPDX-License-Identifier: MulanPSL-2.0
"""How the configuration in force is shown: each value with where it was set. Pure.

Secrets are in files of their own, whose paths are told. What an operator may have put elsewhere all
the same is not: values of variables, and of flags whose names say that it is one.
"""

from collections.abc import Iterator, Mapping

import msgspec

from agent.config.values import BrokenProfile, Config, Profile
from agent.errors import Code, Failure
from agent.status.config import ConfigAnswer, ProfileSettings, Setting

# Shown in other ways, or not settings at all.
NOT_SETTINGS = ("profiles", "broken", "faults", "origins")
VARIABLES = "environment."
ARGUMENTS = "vllm.extra_args"


def build_config_answer(config: Config, problem: Failure | None) -> ConfigAnswer:
    """`problem`: why the files are not in force."""
    table = _table(config)
    for name in NOT_SETTINGS:
        del table[name]
    kept = {one.name: one for one in config.profiles}
    broken = {one.name: one for one in config.broken}
    return ConfigAnswer(
        settings=tuple(_settings(table, "", config.origins)),
        profiles=tuple(
            _profile(name, kept.get(name), broken.get(name), config.origins)
            for name in sorted(kept.keys() | broken.keys())
        ),
        problem=problem,
        fault_files=tuple(_failure(one.message, one.hint) for one in config.faults.broken),
    )


def _profile(
    name: str, profile: Profile | None, broken: BrokenProfile | None, origins: Mapping[str, str]
) -> ProfileSettings:
    """One that is broken and was never in force has no settings."""
    table = {} if profile is None else _table(profile)
    table.pop("name", None)
    prefix = f"profiles.{name}."
    own = {key[len(prefix) :]: file for key, file in origins.items() if key.startswith(prefix)}
    problem = None if broken is None else _failure(broken.message, broken.hint)
    return ProfileSettings(name, tuple(_settings(table, "", own)), problem)


def _failure(message: str, hint: str) -> Failure:
    return Failure(Code.CONFIG_INVALID, message, hint)


def _table(value: object) -> dict[str, object]:
    return msgspec.convert(msgspec.to_builtins(value), dict[str, object])


def _settings(
    table: Mapping[str, object], prefix: str, origins: Mapping[str, str]
) -> Iterator[Setting]:
    for name, value in table.items():
        key = f"{prefix}{name}"
        inner = _by_name(value)
        if isinstance(inner, Mapping):
            yield from _settings(inner, f"{key}.", origins)
        else:
            yield _setting(key, value, origins.get(key, ""))


def _by_name(value: object) -> object:
    """A list of things that have names is a table of them, as it was in the file."""
    tables = value if isinstance(value, list | tuple) else ()
    if tables and all(isinstance(one, dict) and "name" in one for one in tables):
        return {one["name"]: {k: v for k, v in one.items() if k != "name"} for one in tables}
    return value


def _setting(key: str, value: object, set_in: str) -> Setting:
    if key.startswith(VARIABLES):
        return Setting(key, "", set_in, hidden=True)
    if key == ARGUMENTS and isinstance(value, list | tuple):
        shown = [_argument(before, one) for before, one in zip(("", *value), value, strict=False)]
        return Setting(key, shown, set_in, hidden=shown != [*value])
    return Setting(key, value, set_in)


def _argument(before: str, argument: str) -> str:
    """A flag and its value can be two arguments."""
    from agent.evidence.redact import REMOVED, redact  # patterns that would stay, seldom wanted

    told = redact(f"{before} {argument}")
    return REMOVED if before.startswith("--") and told.endswith(REMOVED) else redact(argument)
