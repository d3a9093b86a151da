# SPDX-License-Identifier: MulanPSL-2.0
"""Reads TOML files for `load` and `catalogue`: an error names the file. Writes nothing."""

import os
import tomllib
from codecs import BOM_UTF8
from pathlib import Path

from agent.errors import Code, ConfigError
from agent.host.reading import read_regular

TomlTable = dict[str, object]


def merge(below: TomlTable, above: TomlTable) -> TomlTable:
    """Tables are merged, everything else is replaced."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        merged[key] = merge(old, value) if both else value  # type: ignore[arg-type]
    return merged


def toml_files(folder: Path) -> tuple[Path, ...]:
    """By name. A folder that is there and cannot be read is a fault: what it says would be lost."""
    try:
        names = sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError as error:
        raise unreadable(folder, error) from error
    return tuple(folder / name for name in names if name.endswith(".toml") and name != ".toml")


def read_tables(files: tuple[Path, ...]) -> dict[Path, TomlTable]:
    """Of those files that are there."""
    found: dict[Path, TomlTable] = {}
    for file in files:
        try:
            found[file] = _parse(read_regular(file))
        except FileNotFoundError:
            continue
        # tomllib lets two more through: of numbers with 4300 digits, and of deep nesting.
        except (OSError, ValueError, RecursionError) as error:
            raise unreadable(file, error) from error
    return found


def _parse(text: bytes) -> TomlTable:
    if text.startswith(BOM_UTF8):
        raise ValueError("it begins with a byte order mark; save it as UTF-8 without one")
    return tomllib.loads(text.decode())


def unreadable(path: Path, error: Exception) -> ConfigError:
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
