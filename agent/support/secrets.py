# SPDX-License-Identifier: MulanPSL-2.0
"""The secrets that the configuration names: their values, to be removed wherever they stand.

Reads files only. Whoever may not read one cannot have its content in a bundle either.
"""

import base64
import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

from agent.host.reading import read_regular
from agent.support.clean import is_secret_name
from agent.support.sources import ETC

# What engines were started with, and the keys of this name or that.
ENVIRONMENTS = Path("run/deepseek-agent/env")
FILE_KEYS = ("api_key_file", "token_file", "auth_file", "tls_key")
# Anything shorter also stands where it is no secret.
SHORTEST = 6


def find_secrets(root: Path) -> frozenset[str]:
    """Of the host whose files are below `root`."""
    found: set[str] = set()
    for path in sorted((root / ETC).glob("**/*.toml")):
        try:
            tree = tomllib.loads(_read(path))
        except (ValueError, RecursionError):
            continue
        found.update(_in_settings(tree, "", root))
    for path in sorted((root / ENVIRONMENTS).glob("*")):
        found.update(line.partition("=")[2].strip("\"'") for line in _read(path).splitlines())
    return frozenset(one for one in found if len(one) >= SHORTEST)


def _in_settings(value: object, key: str, root: Path) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, one in value.items():
            # Variables are cleaned by their names where they stand; elsewhere by their values.
            if key == "environment" and is_secret_name(name) and isinstance(one, str):
                yield one
            yield from _in_settings(one, name, root)
    elif isinstance(value, list):
        for one in value:
            yield from _in_settings(one, key, root)
    elif isinstance(value, str) and key in FILE_KEYS and value.startswith("/"):
        yield from _in_file(_read(root / value.lstrip("/")))


def _in_file(text: str) -> Iterator[str]:
    """A key or token alone, a PEM file, or what `podman login` has written."""
    try:
        entries = json.loads(text).get("auths", {}).values()
    except (ValueError, AttributeError, RecursionError):
        yield from (line.strip() for line in text.splitlines() if "-----" not in line)
        return
    for entry in entries:
        for word in entry.values() if isinstance(entry, dict) else ():
            if isinstance(word, str):
                yield word
                yield _password(word)


def _password(auth: str) -> str:
    try:
        return base64.b64decode(auth).decode().partition(":")[2]
    except ValueError:
        return ""


def _read(path: Path) -> str:
    """Empty for what cannot be read."""
    try:
        return read_regular(path).decode(errors="replace")
    except (OSError, ValueError):
        return ""
