# SPDX-License-Identifier: MulanPSL-2.0
"""What the double shall do: in the environment and two JSON files, out one `Options` value.

Precedence: VLLM_DOUBLE_<NAME> > control file > MODEL/vllm_double.json > default. The files are
looked at again on each step, so that a test can change a running double. Wrong options stop the
double at start; while it runs they are reported once and the last good ones stay in force.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from .failures import FAILURES
from .log import Log

ENV_PREFIX = "VLLM_DOUBLE_"
CONTROL_ENV = "VLLM_DOUBLE_CONTROL"
CONTROL_DEFAULT = "/run/vllm-double.json"
MODEL_FILE = "vllm_double.json"
OFF = -1
CHOICES: dict[str, tuple[str, ...]] = {
    "crash_who": ("api", "engine"),
    "malformed": ("", "http", "short", "json"),
    "fail_at_start": ("", *FAILURES),
}


class OptionError(ValueError):
    """An option that does not exist, or a value it cannot have."""


@dataclass(frozen=True, slots=True)
class Options:
    """One field per option; README.md says what each does."""

    load_s: float = 2.0
    shards: int = 4
    stall_loading: bool = False
    fail_at_start: str = ""
    needs_npu: bool = True
    dev_dir: str = "/dev"
    tokens_per_s: float = 500.0
    prefill_tokens_per_s: float = 20000.0
    first_request_s: float = 0.0
    slowdown: float = 1.0
    hang: bool = False
    hang_after_requests: int = OFF
    crash_who: str = "api"
    crash_exit_code: int = 1
    crash_after_s: float = float(OFF)
    crash_after_requests: int = OFF
    endless: bool = False
    malformed: str = ""
    health_status: int = 200
    metrics_s: float = 0.0
    ignore_sigterm: bool = False
    stop_waits: bool = False


DEFAULTS: dict[str, bool | int | float | str] = {
    field.name: getattr(Options(), field.name) for field in fields(Options)
}


def convert_value(name: str, value: object) -> bool | int | float | str:
    """The value of option `name`, from JSON or from the text of a variable."""
    if name not in DEFAULTS:
        raise OptionError(f"unknown option {name!r}")
    default = DEFAULTS[name]
    try:
        match default:
            case bool():
                return _bool(value)
            case int():
                return _number(int, value)
            case float():
                return _number(float, value)
            case _:
                return _choice(name, value)
    except (TypeError, ValueError) as error:
        raise OptionError(f"option {name} cannot be {value!r}: {error}") from error


def _bool(value: object) -> bool:
    if isinstance(value, bool):
        return value
    words = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    if not isinstance(value, str) or value.lower() not in words:
        raise ValueError("not a boolean")
    return words[value.lower()]


def _number(kind: type[int] | type[float], value: object) -> int | float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise TypeError("not a number")
    return kind(value)


def _choice(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a string")
    if name in CHOICES and value not in CHOICES[name]:
        raise ValueError(f"choose from {', '.join(repr(word) for word in CHOICES[name])}")
    return value


def build_options(*layers: Mapping[str, object]) -> Options:
    """Options from layers, the strongest last."""
    values: dict[str, Any] = {}
    for layer in layers:
        values |= {name: convert_value(name, value) for name, value in layer.items()}
    return Options(**values)


def environment_layer(environ: Mapping[str, str]) -> dict[str, object]:
    return {
        name.removeprefix(ENV_PREFIX).lower(): value
        for name, value in environ.items()
        if name.startswith(ENV_PREFIX) and name != CONTROL_ENV
    }


class OptionsReader:
    """Reads the layers again when a file has changed."""

    def __init__(self, model_dir: str, environ: Mapping[str, str]) -> None:
        self._environment = environment_layer(environ)
        control = environ.get(CONTROL_ENV, CONTROL_DEFAULT)
        self._paths = (os.path.join(model_dir, MODEL_FILE), control)
        self._seen: tuple[object, ...] = ()
        self._options = Options()

    def read(self) -> Options:
        """The options now. Raises OptionError when a layer is wrong."""
        seen = tuple(_signature(path) for path in self._paths)
        if seen != self._seen:
            self._seen = seen
            layers = [_read_layer(path) for path in self._paths]
            self._options = build_options(*layers, self._environment)
        return self._options

    def refresh(self, log: Log) -> Options:
        """As `read`, but wrong layers are logged once and the last good options stay."""
        try:
            return self.read()
        except OptionError as error:
            log.fail("double.py:1", f"engine double keeps its options: {error}")
            return self._options


def _signature(path: str) -> object:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_ino, status.st_mtime_ns, status.st_size)


def _read_layer(path: str) -> dict[str, object]:
    try:
        with open(path, encoding="utf-8") as file:
            layer = json.load(file)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise OptionError(f"cannot read {path}: {error}") from error
    if not isinstance(layer, dict):
        raise OptionError(f"cannot read {path}: not a JSON object")
    return layer
