# SPDX-License-Identifier: MulanPSL-2.0
"""docs/configuration.md: of each key what it does, by etc/*.toml; what it may be, by the schema;
and from when on a change is in force."""

import json
from enum import Enum
from itertools import groupby
from pathlib import Path
from typing import Annotated, Literal, assert_never, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from agent.config import fields
from agent.config.schema import (
    MountModel,
    ProfileModel,
    RegistryModel,
    SettingsModel,
    SourceModel,
)

from .settings import Example, Keys, Table, Words, read_parts

PAGE = "docs/configuration.md"
TEMPLATE = "tests/texts/configuration.md"
MADE = "<!-- Made by `make texts`; do not edit. -->\n"

HEAD = "| key | default | it may be | what it does | in force |\n|---|---|---|---|---|"
AT_ONCE, NEXT_FETCH, NEXT_START = "at once", "next fetch", "next start"
UNITS = {"_s": "seconds", "_gib": "GiB", "max_model_len": "tokens", "parallel": "connections"}
# By key or table; what is not named: agent.toml at once, a profile at the next start.
IN_FORCE = {
    "renderer": NEXT_START,
    "models_dir": NEXT_START,
    "images": NEXT_START,
    "supply.parallel": NEXT_FETCH,
    "supply.modelscope": NEXT_FETCH,
    "supply.huggingface": NEXT_FETCH,
    "registries": NEXT_FETCH,
    "sources": NEXT_FETCH,
}
# What stands in no commented line: tables of which there may be several.
REGISTRY = {
    "mirrors": "Take its place, in this order, and are asked before it.",
    "tls_verify": "`false`: any certificate will do, or none.",
    "ca_file": "A PEM file with the CA of its certificate; for this registry alone.",
    "auth_file": "What `podman login --authfile` has written, or `credential:NAME`.",
}
SOURCE = {
    "hub": "Whose shape its answers have.",
    "repo": "Its name there.",
    "revision": "A branch is looked up once, and again by `deepseekctl update`.",
}
MOUNT = {
    "source": "On the host.",
    "target": "In the container.",
    "read_only": "`false`: the engine may write there.",
}
PLAIN: dict[type, str] = {bool: "`true`, `false`", int: "whole number", float: "number"}
# By the names of `fields`.
WORDS: tuple[tuple[object, str], ...] = (
    (fields.AbsolutePath, "absolute path"),
    (fields.SeenPath, "path"),
    (fields.SeenFolder, "absolute path"),
    (fields.OptionalPath, "absolute path, or empty"),
    (fields.OptionalFile, "absolute path, or empty"),
    (fields.OptionalSecret, "absolute path, `credential:NAME`, or empty"),
    (fields.Image, "name or id of an image"),
    (fields.OptionalImage, "name or id of an image, or empty"),
    (fields.Repo, "`owner/model`"),
    (fields.Revision, "branch, tag or commit"),
    (fields.Endpoint, "`https://hub.example`"),
    (fields.Mirror, "`registry.example:5000/folder`"),
    (fields.Target, "absolute path that is not the agent's or the driver's"),
    (fields.Argument, "text, not empty"),
    (fields.Variable, "name"),
    (fields.Address, "IPv4 or IPv6 address"),
    (fields.OptionalListen, "`ADDRESS:PORT` from 1024 on, or empty"),
    (fields.ShmSize, "number with `m` or `g`"),
    (fields.Npus, '`"auto"`, `"all"`, or list of logic ids'),
    (fields.Name, "text, not empty"),
    (fields.Line, "text"),
)


def pages(tree: Path) -> dict[str, str]:
    """Path below the tree -> Markdown."""
    text = (tree / TEMPLATE).read_text(encoding="utf-8")
    made = {
        "agent.toml": _sections(tree / "etc/agent.toml", SettingsModel, AT_ONCE),
        "registries": _several(RegistryModel, REGISTRY, "registries"),
        "profile.toml": _sections(tree / "etc/profile.toml", ProfileModel, NEXT_START),
        "sources": _several(SourceModel, SOURCE, "sources"),
        "mounts": _several(MountModel, MOUNT, "mounts"),
    }
    for name, words in made.items():
        text = text.replace(f"<!-- {name} -->", words)
    head, _, rest = text.partition("\n")
    return {PAGE: f"{head}\n{MADE}{rest}"}


def _sections(path: Path, model: type[BaseModel], usually: str) -> str:
    """A section for each table, and in it a table of its keys."""
    parts = read_parts(path.read_text(encoding="utf-8"))
    table, chunks = "", list[str]()
    for are_keys, group in groupby(parts, lambda part: isinstance(part, Keys)):
        if are_keys:
            chunks.append(HEAD)
        for part in group:
            match part:
                case Keys(defaults, words):
                    for key, _ in defaults:
                        row = _row(_inner(model, table), key, words, _when(table, key, usually))
                        chunks[-1] += f"\n{row}"
                case Table(name, words):
                    table = name
                    chunks += [f"### `[{name}]`", words]
                case Words(words):
                    chunks.append(words)
                case Example(lines):
                    chunks.append("\n".join(("```", *lines, "```")))
                case _:
                    assert_never(part)
    return "\n\n".join(chunk for chunk in chunks if chunk)


def _several(model: type[BaseModel], words: dict[str, str], table: str) -> str:
    """Keys of a table of which there may be several."""
    when = IN_FORCE.get(table, NEXT_START)
    return "\n".join((HEAD, *(_row(model, key, words[key], when) for key in model.model_fields)))


def _inner(model: type[BaseModel], table: str) -> type[BaseModel]:
    """The model of `a.b`, from that of the whole file."""
    for name in table.split(".") if table else ():
        inner = model.model_fields[name].annotation
        assert isinstance(inner, type)
        assert issubclass(inner, BaseModel)
        model = inner
    return model


def _row(model: type[BaseModel], key: str, words: str, when: str) -> str:
    info = model.model_fields[key]
    default = "required" if info.is_required() else f"`{_toml(info.default)}`"
    cells = (f"`{key}`", default, _kind(info, key), words, when)
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _when(table: str, key: str, usually: str) -> str:
    path = f"{table}.{key}" if table else key
    found = (when for name, when in IN_FORCE.items() if f"{path}.".startswith(f"{name}."))
    return next(found, usually)


# --- what a key may be ---------------------------------------------------------------------------


def _kind(info: FieldInfo, key: str) -> str:
    words = _type(info.annotation, tuple(info.metadata))
    unit = next((unit for name, unit in UNITS.items() if key.endswith(name)), "")
    limits = _limits(info.metadata)
    return ", ".join(word for word in (words, unit, limits) if word)


def _type(kind: object, checks: tuple[object, ...]) -> str:
    """`checks`: what pydantic does with it."""
    for alias, words in WORDS:
        if checks and checks[-len(_checks(alias)) :] == _checks(alias):
            return words
    if get_origin(kind) is Annotated:
        inner, *rest = get_args(kind)
        return _type(inner, tuple(rest))
    if get_origin(kind) is tuple:
        return f"list of {_type(get_args(kind)[0], ())}"
    if get_origin(kind) is dict:
        return "table of " + " = ".join(_type(one, ()) for one in get_args(kind))
    if get_origin(kind) is Literal:
        return _one_of(get_args(kind))
    match kind:
        case type() if issubclass(kind, Enum):
            return _one_of(tuple(one.value for one in kind))
        case type() if issubclass(kind, BaseModel):
            return "tables, see below"
        case type() if kind in PLAIN:
            return PLAIN[kind]
        case _:
            raise ValueError(f"this kind of value is not known: {kind}")


def _checks(alias: object) -> tuple[object, ...]:
    assert get_origin(alias) is Annotated
    return tuple(get_args(alias)[1:])


def _one_of(values: tuple[object, ...]) -> str:
    return ", ".join(f"`{_toml(value)}`" for value in values)


def _limits(checks: list[object]) -> str:
    return " ".join(word for check in checks if (word := _limit(check)))


def _limit(check: object) -> str:
    match check:
        case Ge(ge=least):
            return f"from {least}"
        case Gt(gt=least):
            return f"above {least}"
        case Le(le=most):
            return f"to {most}"
        case Lt(lt=most):
            return f"below {most}"
        case MinLen(min_length=least):
            return f"at least {least}"
        case _:
            return ""  # strict, finite: said once for all; others are words of `WORDS`


def _toml(value: object) -> str:
    """As it is written there."""
    if isinstance(value, BaseModel):
        raise ValueError(f"a table has no default of its own: {value!r}")
    return json.dumps(value, ensure_ascii=False)
