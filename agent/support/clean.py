# SPDX-License-Identifier: MulanPSL-2.0
"""Takes secrets and prompts out of what is gathered, by what it is. Pure.

In a text secrets are found by their looks (`evidence.redact`) and by their values, where these are
known. Where names are known, in configuration, environment and command lines, what is not known to
be harmless goes.
"""

import json
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import assert_never

from agent.evidence.redact import REMOVED, redact
from agent.support.prompts import DROPPED, drop_prompts, is_risky


class Kind(Enum):
    """What a text is."""

    TEXT = auto()
    JSON = auto()
    JSON_LINES = auto()
    TOML = auto()
    UNITS = auto()  # unit files, and what systemd tells of units: command lines are in it
    KERNEL = auto()  # only what is about NPUs, memory and disks is of interest


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A text, and what was taken out of it."""

    text: str
    secrets: int
    lines: int


_SECRET_NAME = re.compile(
    r"[\w.-]*(?:key|token|secret|passw(?:or)?d|passwd|pwd|passphrase|credentials?|auth|authorization"
    r"|cookie|identitytoken)",
    re.IGNORECASE,
)
# NAME = value and name: value, which redact leaves alone.
_SPACED = re.compile(
    r"(?P<kept>(?<![\w.-])[\w.-]*(?:[_-]key|apikey|token|secret|password|passwd|passphrase)[\"']?"
    r"[ \t]*[=:][ \t]*)(?!\[removed\])(?:\"[^\"\n]*\"|'[^'\n]*'|[^\s\"',;)}\]]+)",
    re.IGNORECASE,
)
_PEM = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*-----|\Z)", re.DOTALL)
# "--api-key=X", and the words after which a secret stands alone.
_OPTION = re.compile(r"--?(?P<name>[\w.-]+)(?P<value>=.*)?", re.DOTALL)
_ASSIGNMENT = re.compile(r"(?P<option>--env=|-e=?)?(?P<name>[A-Za-z_]\w*)=(?P<value>.*)", re.DOTALL)
_SETS = ("-e", "--env")
_WORD = re.compile(r"(?:[^\s\"']|\"(?:[^\"\\\n]|\\.)*\"?|'[^'\n]*'?)+")
_ENVIRONMENT_KEYS = ("env", "environment")
# The value stands in the unit itself, and may go on in the lines that follow.
_CREDENTIAL = re.compile(
    r"^(\s*SetCredential(?:Encrypted)?\s*=\s*[^:\s]*:)(?:[^\n]*\\\n)*[^\n]*", re.MULTILINE
)
# Names of variables whose values are settings that one wants to see.
_HARMLESS = re.compile(
    r"(?:ASCEND|VLLM|HCCL|PYTORCH|TORCH|OMP|NPU|CANN|ACL|ATB|PYTHON|LC|DEEPSEEK_AGENT|PODMAN)_\w+|"
    r"PATH|LD_LIBRARY_PATH|LANG|HOME|TERM|HOSTNAME|container|USER|SHELL|TZ|PYTHON\w*|"
    r"TASK_QUEUE_ENABLE|HF_HUB_OFFLINE|TRANSFORMERS_OFFLINE|MALLOC_ARENA_MAX|NOTIFY_SOCKET"
)
_KERNEL = re.compile(
    r"davinci|devdrv|devmm|hisi|hdc\b|ascend|hccs|npu|drv_|tsdrv|dvpp|pcieport|AER|Out of memory|"
    r"oom|hung|blocked for|I/O error|EXT4|XFS|nvme|mce|Hardware Error|Linux version|Command line",
    re.IGNORECASE,
)


def clean(kind: Kind, text: str, secrets: Collection[str]) -> Cleaned:
    match kind:
        case Kind.TEXT:
            return clean_text(text, secrets)
        case Kind.JSON:
            return _clean_json(text, secrets)
        case Kind.JSON_LINES:
            parts = [_clean_json(line, secrets, None) for line in text.splitlines() if line]
            whole = "\n".join(part.text.rstrip() for part in parts)
            return Cleaned(
                whole, sum(part.secrets for part in parts), sum(part.lines for part in parts)
            )
        case Kind.TOML:
            return _clean_toml(text, secrets)
        case Kind.UNITS:
            bare = _CREDENTIAL.sub(rf"\1{REMOVED}", text)
            words = "\n".join(_clean_command_line(line) for line in bare.split("\n"))
            return clean_text(words, secrets)
        case Kind.KERNEL:
            chosen = [line for line in text.splitlines() if _KERNEL.search(line)]
            return clean_text("\n".join(chosen), secrets)
        case _:
            assert_never(kind)


def clean_text(text: str, secrets: Collection[str]) -> Cleaned:
    """Line by line, so that a line of JSON goes as a whole where it may hold a prompt."""
    without_keys = _PEM.sub(REMOVED, text)
    if "--env" in text:  # what was started, as it was logged
        lines = without_keys.split("\n")
        without_keys = "\n".join(
            _clean_command_line(line) if "--env" in line else line for line in lines
        )
    kept, dropped = drop_prompts(_clean_string(without_keys, secrets))
    return Cleaned(kept, kept.count(REMOVED), dropped)


def is_secret_name(name: str) -> bool:
    return _SECRET_NAME.fullmatch(name) is not None


def _clean_string(text: str, secrets: Collection[str]) -> str:
    known = sorted(secrets, key=len, reverse=True)  # one may be a part of another
    cleaned = _SPACED.sub(rf"\g<kept>{REMOVED}", redact(text, known))
    return cleaned.replace(f"={REMOVED}]", f"={REMOVED}")  # what had been removed before


# --- words of a command line, variables ----------------------------------------------------------


def clean_words(words: Sequence[str], *, bare_too: bool = True) -> list[str]:
    """Arguments, or variables of an environment; `bare_too`: NAME=value is one wherever it stands,
    also where it is in small letters, as systemd's own fields are."""
    cleaned: list[str] = []
    before = ""
    for word in words:
        cleaned.append(_clean_word(word, before, bare_too))
        before = word
    return cleaned


def _clean_word(word: str, before: str, bare_too: bool) -> str:
    bare = word.strip("\"'")
    assignment = _ASSIGNMENT.fullmatch(bare)
    if assignment is not None and (
        bare_too or assignment["option"] or before in _SETS or assignment["name"].isupper()
    ):
        name, option = assignment["name"], assignment["option"] or ""
        return word if _may_show(name, assignment["value"]) else f"{option}{name}={REMOVED}"
    option = _OPTION.fullmatch(bare)
    if option is not None:
        wanted = option["value"] is not None and is_secret_name(option["name"])
        return f"--{option['name']}={REMOVED}" if wanted else word
    asked = _OPTION.fullmatch(before.strip("\"'"))
    if asked is not None and asked["value"] is None and is_secret_name(asked["name"]):
        return REMOVED
    return word


def _may_show(name: str, value: str) -> bool:
    return not value or (_HARMLESS.fullmatch(name) is not None and not is_secret_name(name))


def _clean_command_line(line: str) -> str:
    """One that sets variables or gives options; any other as it is."""
    key, found, rest = line.partition("=")
    if found and key.strip() in ("Environment", "PassEnvironment"):
        return f"{key}={_clean_each(rest)}"
    if "--" not in line and " -e" not in line:
        return line
    head = f"{key}=" if found and re.fullmatch(r"[A-Z]\w+", key) else ""
    return head + _clean_each(line[len(head) :], bare_too=False)


def _clean_each(text: str, *, bare_too: bool = True) -> str:
    """Its words, in their places."""
    cleaned = iter(clean_words(_WORD.findall(text), bare_too=bare_too))
    return _WORD.sub(lambda _: next(cleaned), text)


# --- JSON ----------------------------------------------------------------------------------------


def _clean_json(text: str, secrets: Collection[str], indent: int | None = 1) -> Cleaned:
    """What cannot be understood is left out, as nobody knows what is where in it."""
    start = re.search(r"^[\[{]", text, re.MULTILINE)
    if start is None:
        return clean_text(text, secrets)
    try:
        value, end = json.JSONDecoder().raw_decode(text[start.start() :])
    except (ValueError, RecursionError):
        before = clean_text(text[: start.start()], secrets)
        return Cleaned(f"{before.text}\n(left out: this is no whole JSON)", before.secrets, 0)
    around = clean_text(text[: start.start()] + text[start.start() + end :].strip("\n"), secrets)
    written = json.dumps(_clean_value(value, "", secrets), ensure_ascii=False, indent=indent)
    whole = f"{around.text}{written}\n"
    return Cleaned(whole, whole.count(REMOVED), around.lines + written.count(DROPPED))


def _clean_value(value: object, key: str, secrets: Collection[str]) -> object:
    if isinstance(value, Mapping):
        if key.lower() in _ENVIRONMENT_KEYS:
            return {name: _clean_variable(name, one, secrets) for name, one in value.items()}
        return {
            _clean_string(name, secrets): _clean_value(one, name, secrets)
            for name, one in value.items()
        }
    if isinstance(value, list):
        if value and all(isinstance(one, str) for one in value):
            return [_clean_leaf(word, "", secrets) for word in clean_words(value)]
        return [_clean_value(one, key, secrets) for one in value]
    return _clean_leaf(value, key, secrets) if isinstance(value, str) else value


def _clean_variable(name: str, value: object, secrets: Collection[str]) -> object:
    if isinstance(value, str) and not _may_show(name, value):
        return REMOVED
    return _clean_value(value, name, secrets)


def _clean_leaf(text: str, key: str, secrets: Collection[str]) -> str:
    if text and is_secret_name(key):
        return REMOVED
    commands = "\n".join(_clean_command_line(line) for line in text.split("\n"))
    cleaned = _clean_string(_PEM.sub(REMOVED, commands), secrets)
    return DROPPED if any(is_risky(line) for line in cleaned.split("\n")) else cleaned


# --- TOML ----------------------------------------------------------------------------------------


def _clean_toml(text: str, secrets: Collection[str]) -> Cleaned:
    """As `key = value`, in full and without comments, which may hold anything."""
    try:
        tree = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # Not its own words: newer versions of Python quote the text.
        where = re.search(r"\(at [^()]*\)$", str(error))
        said = f"(this is no TOML {where[0] if where else ''}; its keys alone:)"
        lines = [said, *_keys(text)]
        return clean_text("\n".join(lines), secrets)
    cleaned = _clean_value(tree, "", secrets)
    written = "\n".join(_flat(cleaned, ""))
    return Cleaned(f"{written}\n", written.count(REMOVED), written.count(DROPPED))


def _keys(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if found := re.match(r"\s*(\[[a-z0-9_.]+\]\s*$|[a-z][a-z0-9_]*\s*(?==))", line):
            yield found[1].strip()


def _flat(value: object, path: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, one in value.items():
            yield from _flat(one, f"{path}.{name}" if path else name)
    else:
        yield f"{path} = {json.dumps(value, ensure_ascii=False, default=str)}"
