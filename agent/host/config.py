# SPDX-License-Identifier: MulanPSL-2.0
"""Gets the configuration from the short-lived process that validates it (`agent.config`)."""

from contextlib import suppress
from pathlib import Path

import msgspec

from agent.config.values import Config
from agent.errors import Code, ConfigError
from agent.host.files import write_atomically
from agent.host.process import run_module

MODULE = "agent.config"
# Importing pydantic takes half a second on a busy core.
DEADLINE_S = 30.0


class _Error(msgspec.Struct):
    code: Code
    message: str
    hint: str


class _Answer(msgspec.Struct):
    config: Config | None = None
    error: _Error | None = None


def read_last(path: Path) -> Config | None:
    """What was in force when `write_last` was called; None when there is nothing that can be read.

    A version with other fields cannot read it either. Then a profile that it refuses is not in
    force at all, which the status shows.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Config)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def write_last(path: Path, config: Config) -> None:
    """Keeps it for the next start. Raises OSError."""
    text = msgspec.json.encode(config).decode()
    with suppress(OSError):
        if path.read_text(encoding="utf-8") == text:
            return
    write_atomically(path, text, mode=0o600)


async def read_config(arguments: tuple[str, ...] = ()) -> Config:
    """The configuration in force on disk. Raises ConfigError with file, key and what is allowed.

    `arguments` choose other directories (`--etc`, `--share`).
    """
    done = await run_module(MODULE, arguments, deadline_s=DEADLINE_S)
    try:
        answer = msgspec.json.decode(done.output, type=_Answer)
    except msgspec.MsgspecError as error:
        why = done.errors.strip()[-300:] or f"exit status {done.status}"
        raise ConfigError(Code.CONFIG_INVALID, f"cannot read the configuration: {why}") from error
    if answer.error is not None:
        raise ConfigError(answer.error.code, answer.error.message, answer.error.hint)
    if answer.config is None:
        raise ConfigError(Code.CONFIG_INVALID, "cannot read the configuration: no answer")
    return answer.config
