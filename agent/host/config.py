# SPDX-License-Identifier: MulanPSL-2.0
"""Gets the configuration from the short-lived process that validates it (`agent.config`)."""

import msgspec

from agent.config.values import Config
from agent.decoding import decode_json
from agent.errors import Code, ConfigError
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


def decode_last(text: str) -> Config | None:
    """What `encode_last` has kept. None when another version wrote it, with other fields: then a
    profile that this one refuses is not in force at all, which the status shows. Raises ValueError
    for what no version writes."""
    try:
        return decode_json(text, Config)
    except msgspec.ValidationError:
        return None
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error


def encode_last(config: Config) -> str:
    """What is in force outlives the agent, for profiles that cannot be used at its next start."""
    return msgspec.json.encode(config).decode()


async def read_config(arguments: tuple[str, ...] = ()) -> Config:
    """The configuration in force on disk. Raises ConfigError with file, key and what is allowed.

    `arguments` choose other directories (`--etc`, `--share`).
    """
    done = await run_module(MODULE, arguments, deadline_s=DEADLINE_S)
    try:
        answer = decode_json(done.output, _Answer)
    except msgspec.MsgspecError as error:
        why = done.errors.strip()[-300:] or f"exit status {done.status}"
        raise ConfigError(Code.CONFIG_INVALID, f"cannot read the configuration: {why}") from error
    if answer.error is not None:
        raise ConfigError(answer.error.code, answer.error.message, answer.error.hint)
    if answer.config is None:
        raise ConfigError(Code.CONFIG_INVALID, "cannot read the configuration: no answer")
    return answer.config
