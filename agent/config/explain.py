# SPDX-License-Identifier: MulanPSL-2.0
"""Faults of the configuration in words: file, key, what is wrong, what is allowed.

In: pydantic's errors, and the tables that were read. Out: `ConfigError`. Touches nothing but the
names in the environment.
"""

import difflib
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from agent.config.schema import ENVIRONMENT_PREFIX, SettingsModel
from agent.errors import Code, ConfigError

# pydantic speaks of Python's types; these are TOML's.
WORDS = {
    "missing": "it is required",
    "tuple_type": "it must be a list, in [ ]",
    "dict_type": "it must be a table",
    "model_type": "it must be a table",
    "string_type": "it must be text, in quotes",
    "int_type": "it must be a whole number, without quotes",
    "float_type": "it must be a number, without quotes",
    "bool_type": "it must be true or false, without quotes",
}

Tables = Mapping[Path, Mapping[str, object]]  # in the order in which they are read


def explain(
    error: ValidationError,
    tables: Tables,
    model: type[BaseModel],
    environment: Mapping[str, str],
) -> ConfigError:
    """The first fault in words, with the key and where it is set; the others by their keys."""
    first, *others = error.errors(include_url=False)
    location = [*(str(part) for part in first["loc"]), *_of_several(first)]
    where, key = _locate(tables, location, environment)
    if first["type"] == "missing":
        key = ".".join(location)
    more = f" (and {len(others)} more)" if others else ""
    if first["type"] == "extra_forbidden":
        what = f"unknown key{_allowed(location[-1], _keys(model, location[:-1]))}"
    else:
        plain = first["msg"].removeprefix("Value error, ").replace("Input should", "it must")
        what = WORDS.get(first["type"], plain)
    refused = f"cannot use {where}: {what}{more}"
    if key:
        refused = f"cannot use {where}: {_visible(key)}: {what}{more}"
    return ConfigError(
        Code.CONFIG_INVALID,
        refused,
        "correct the key, then: deepseekctl config check",
    )


def _of_several(fault: ErrorDetails) -> list[str]:
    """The key, below the table, at which a fault of several keys is told (`schema`)."""
    key = fault.get("ctx", {}).get("key")
    return str(key).split(".") if key else []


def check_environment() -> None:
    """A variable with our prefix that means nothing is a typing error, and refused like one."""
    known = {name.upper(): name for name in _variables(SettingsModel, ENVIRONMENT_PREFIX)}
    for name in os.environ:
        if name.upper().startswith(ENVIRONMENT_PREFIX) and name.upper() not in known:
            raise ConfigError(
                Code.CONFIG_INVALID,
                f"cannot use the environment's {name}: unknown variable"
                f"{_allowed(name.upper(), known)}",
                "correct or remove the variable in the service's environment",
            )


def _variables(model: type[BaseModel], prefix: str) -> list[str]:
    names = []
    for key, field in model.model_fields.items():
        names.append(f"{prefix}{key.upper()}")
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            names += _variables(inner, f"{prefix}{key.upper()}__")
    return names


def _allowed(wrong: str, allowed: Collection[str]) -> str:
    """The nearest of what is allowed, where one is near; else all of it."""
    near = difflib.get_close_matches(wrong, allowed, n=1)
    if near:
        return f'; did you mean "{near[0]}"?'
    return f"; allowed: {', '.join(sorted(allowed))}" if allowed else ""


def _keys(model: type[BaseModel], location: list[str]) -> Collection[str]:
    """The keys of the table at `location`; nothing where it is not one of ours."""
    inner: Any = model
    for part in location:
        if get_origin(inner) is dict:
            inner = get_args(inner)[1]
            continue
        field = getattr(inner, "model_fields", {}).get(part)
        inner = getattr(field, "annotation", None)
    return tuple(getattr(inner, "model_fields", ()))


def _locate(tables: Tables, location: list[str], environment: Mapping[str, str]) -> tuple[str, str]:
    """Where a key is set, and its name. pydantic's location goes on below what the files hold: the
    branch of a union, "[key]"; and the last one to set a key is the one that counts."""
    set_here = {name.upper(): name for name in environment}
    for depth in range(len(location), 0, -1):  # a table may be set as one variable, in JSON
        name = "__".join((ENVIRONMENT_PREFIX + location[0], *location[1:depth])).upper()
        if name in set_here:
            return f"the environment's {set_here[name]}", ".".join(location)
    found: list[str] = []
    where = ""
    for file, table in tables.items():
        prefix = _prefix(table, location)
        if prefix and len(prefix) >= len(found):
            found, where = prefix, str(file)
    if found:
        return where, ".".join(found)
    there = " and ".join(str(file) for file in tables)
    return there or "the configuration", ".".join(location)


def _visible(key: str) -> str:
    """A key may hold anything; a terminal gets to see it and not to obey it."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in key)


def _prefix(table: object, location: list[str]) -> list[str]:
    """As much of `location` as `table` has."""
    found = []
    for part in location:
        if isinstance(table, Mapping) and part in table:
            table = table[part]
        elif isinstance(table, list) and part.isdecimal() and int(part) < len(table):
            table = table[int(part)]
        else:
            break
        found.append(part)
    return found
