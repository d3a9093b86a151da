# SPDX-License-Identifier: MulanPSL-2.0
"""Gets the configuration from the short-lived process that validates it (`agent.config`)."""

import msgspec

from agent.config.values import Config
from agent.decoding import decode_json
from agent.errors import Code, ConfigError, HostUnavailable
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
    """The configuration in force on disk. Raises ConfigError with file, key and what is allowed,
    and HostUnavailable when that process does not come to say anything: it was killed, or is too
    slow, or has no memory, which says nothing of the files.

    `arguments` choose other directories (`--etc`, `--share`).
    """
    done = await run_module(MODULE, arguments, deadline_s=DEADLINE_S)
    try:
        answer = decode_json(done.output, _Answer)
    except msgspec.MsgspecError as error:
        silent = f"no answer within {DEADLINE_S:g} s"
        why = done.errors.strip()[-300:]
        why = why or (silent if done.status is None else f"exit status {done.status}")
        raise _unread(why) from error
    if answer.error is not None:
        kind = HostUnavailable if answer.error.code is Code.CONFIG_UNREAD else ConfigError
        raise kind(answer.error.code, answer.error.message, answer.error.hint)
    if answer.config is None:
        raise _unread("no answer")
    return answer.config


def _unread(why: str) -> HostUnavailable:
    return HostUnavailable(
        Code.CONFIG_UNREAD,
        f"cannot read the configuration: {why}",
        "it is read again by itself; is memory short, or a disk ill? see: free, dmesg",
    )
