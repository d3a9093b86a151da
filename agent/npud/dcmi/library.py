# SPDX-License-Identifier: MulanPSL-2.0
"""libdcmi, loaded: its functions by name, each call announced before it is made.

A symbol that is missing is a feature that is missing (`MISSING` is answered). Touches the driver;
only a forked worker makes one of these.
"""

import ctypes
import os
import re

from agent.npud.dcmi.abi import MISSING, SIGNATURES
from agent.npud.dcmi.calls import CallNote

# Where the driver keeps what libdcmi is linked to (facts: ascend 4). LD_LIBRARY_PATH would have to
# be set before this process started, for all of npud; so what the loader misses is loaded by path.
FOLDERS = (
    "/usr/local/Ascend/driver/lib64",
    "/usr/local/Ascend/driver/lib64/common",
    "/usr/local/Ascend/driver/lib64/driver",
    "/usr/local/dcmi",
)
MAX_MISSED = 32
_MISSED = re.compile(r"^([^/:\s]+): cannot open shared object file")


class CannotLoad(Exception):
    """There is no libdcmi, or it is not one."""


class Library:
    """Raises CannotLoad."""

    def __init__(self, path: str, note: CallNote, folders: tuple[str, ...] = FOLDERS) -> None:
        self._note = note
        loaded = _load(path, folders)
        self._functions = {}
        for name, types in SIGNATURES.items():
            function = getattr(loaded, f"dcmi_{name}", None)
            if function is not None:
                function.argtypes = types
                function.restype = ctypes.c_int
                self._functions[name] = function
        if "init" not in self._functions:
            raise CannotLoad(f"{path} has no dcmi_init")

    def has(self, name: str) -> bool:
        return name in self._functions

    def call(self, name: str, *arguments: object, card: int = -1, chip: int = -1) -> int:
        """libdcmi's return code. It may take for ever; npud looks at the note."""
        function = self._functions.get(name)
        if function is None:
            return MISSING
        self._note.enter(name, card, chip)
        try:
            return int(function(*arguments))
        finally:
            self._note.leave()


def _load(path: str, folders: tuple[str, ...]) -> ctypes.CDLL:
    for _ in range(MAX_MISSED):
        try:
            return ctypes.CDLL(path, mode=os.RTLD_LAZY | os.RTLD_GLOBAL)
        except OSError as error:
            missed = _MISSED.match(str(error))
            found = _find(missed.group(1), folders) if missed else ""
            if not found:
                raise CannotLoad(str(error)) from error
            _load(found, folders)
    raise CannotLoad(f"{path} wants more than {MAX_MISSED} other libraries")


def _find(name: str, folders: tuple[str, ...]) -> str:
    paths = (f"{folder}/{name}" for folder in folders)
    return next((path for path in paths if os.path.exists(path)), "")
