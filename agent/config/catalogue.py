# SPDX-License-Identifier: MulanPSL-2.0
"""Reads what is known about fault codes: faults.toml of the package, faults.d of the operator.

In: those files. Out: plain data that decodes to `faults.FaultCatalogue`. A file that cannot be used
is listed there with the reason, as a whole: half of what somebody decided is in force nowhere.
"""

import errno
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, StrictFloat, ValidationError

from agent.config.explain import explain
from agent.config.faults import DAY_S, TIMES, FaultLevel
from agent.config.fields import FaultCode, Flag, Line
from agent.config.schema import Release, Strict
from agent.config.toml import TomlTable, merge, read_tables, toml_files, unreadable
from agent.errors import Code, ConfigError

Rules = dict[str, TomlTable]


class FaultModel(Strict):
    """One code. Only `level` has no default: which it needs in one of the files."""

    level: FaultLevel | None = None
    name_en: Line = ""
    name_zh: Line = ""
    do_en: Line = ""
    do_zh: Line = ""
    times: Annotated[int, Field(strict=True, ge=1, le=1000)] = TIMES
    within_s: Annotated[StrictFloat, Field(ge=60, le=30 * DAY_S)] = DAY_S
    release_after_s: Release | None = None
    flaps: Flag = False


class FaultsModel(Strict):
    """One file."""

    faults: dict[FaultCode, FaultModel] = Field(default={})


def read_catalogue(shipped: Path, folder: Path) -> Mapping[str, object]:
    """Never raises: without the package's file every code counts as unknown, and that is told."""
    rules: Rules = {}
    broken: list[object] = []
    for file in (shipped, *_files(folder, broken)):
        try:
            rules |= _with(rules, file)
        except ConfigError as error:
            broken.append(_broken(file, error))
    return {"rules": rules, "broken": broken}


def _files(folder: Path, broken: list[object]) -> tuple[Path, ...]:
    try:
        return toml_files(folder)
    except ConfigError as error:
        broken.append(_broken(folder, error))
        return ()


def _broken(path: Path, error: ConfigError) -> object:
    failure = error.failure
    return {"file": str(path), "message": failure.message, "hint": failure.hint}


def _with(rules: Rules, file: Path) -> Rules:
    """The rules that `file` sets, each on top of what there is."""
    tables = read_tables((file,))
    if not tables:
        raise unreadable(file, FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)))
    try:
        said = FaultsModel.model_validate(tables[file])
    except ValidationError as error:
        raise explain(error, tables, FaultsModel, {}) from error
    return dict(_merged(said, rules, file))


def _merged(said: FaultsModel, rules: Rules, file: Path) -> Iterator[tuple[str, TomlTable]]:
    for code, fault in said.faults.items():
        below = rules.get(code) or FaultModel().model_dump(mode="json")
        rule = merge(below, fault.model_dump(mode="json", exclude_unset=True))
        if rule["level"] is None:
            raise ConfigError(
                Code.CONFIG_INVALID,
                f"cannot use {file}: faults.{code}.level: it is required, since no other file "
                "knows this code",
                f"add the level, one of: {', '.join(FaultLevel)}",
            )
        yield code, {**rule, "code": code, "set_in": str(file)}
