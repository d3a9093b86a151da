# SPDX-License-Identifier: MulanPSL-2.0
"""Quoting for unit files, as systemd.syntax(7), systemd.service(5) and systemd.unit(5) define it.

Pure. Values with control characters never get here: the configuration refuses them.
"""

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=,+@[]")


def specifiers(value: str) -> str:
    """A value in which nothing is a specifier: "%" doubled."""
    return value.replace("%", "%%")


def unquoted(value: str) -> str:
    """A value that a generator puts on a command line without unquoting it first."""
    return specifiers(value).replace("$", "$$")


def word(value: str) -> str:
    """One word of a list (Environment=, PodmanArgs=): quoted where it has to be."""
    if value and all(char in _PLAIN for char in value):
        return value
    escaped = specifiers(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def argument(value: str) -> str:
    """One argument of a command line: as `word`, and "$" doubled against variable expansion."""
    return word(value.replace("$", "$$"))
