# SPDX-License-Identifier: MulanPSL-2.0
"""Where each value of the configuration was set. Pure.

In: validated values, the tables of the files in the order in which they are read, the environment.
Out: the file, or the variable, of each key that does not have its default.
"""

from collections.abc import Iterator, Mapping

from agent.config.explain import Tables
from agent.config.schema import ENVIRONMENT_PREFIX
from agent.json_text import load_json

Origins = dict[str, str]
_NOT_SET = object()


def find_origins(
    values: Mapping[str, object], tables: Tables, environment: Mapping[str, str]
) -> Origins:
    """By key, with a dot between the names of its tables."""
    found = {}
    for location in _leaves(values):
        if where := _where(location, tables, environment):
            found[".".join(location)] = where
    return found


def below(prefix: str, origins: Mapping[str, str]) -> Origins:
    """The same, of keys in a table `prefix`."""
    return {f"{prefix}.{key}": where for key, where in origins.items()}


def _leaves(values: Mapping[str, object]) -> Iterator[tuple[str, ...]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from ((key, *rest) for rest in _leaves(value))
        else:
            yield (key,)


def _where(location: tuple[str, ...], tables: Tables, environment: Mapping[str, str]) -> str:
    """The last one that sets it; empty: nobody."""
    set_here = {name.upper(): name for name in environment}
    for depth in range(len(location), 0, -1):
        words = (ENVIRONMENT_PREFIX + location[0], *location[1:depth])
        name = set_here.get("__".join(words).upper())
        if name is not None and _is_in(environment[name], location[depth:]):
            return name
    files = [str(file) for file, table in tables.items() if _get(table, location) is not _NOT_SET]
    return files[-1] if files else ""


def _is_in(variable: str, rest: tuple[str, ...]) -> bool:
    """A table may be set as one variable, in JSON."""
    if not rest:
        return True
    try:
        return _get(load_json(variable), rest) is not _NOT_SET
    except ValueError:
        return False


def _get(table: object, location: tuple[str, ...]) -> object:
    for part in location:
        if not isinstance(table, Mapping) or part not in table:
            return _NOT_SET
        table = table[part]
    return table
