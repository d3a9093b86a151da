# SPDX-License-Identifier: MulanPSL-2.0
"""Spares npud the module `inspect`, which brings ast, dis and tokenize: 1.2 MiB of resident memory.

dataclasses of Python 3.11 import it for one thing, the docstring of a class that has none. Whoever
asks for anything else gets the real one; later dataclasses do.
"""

import sys
from types import ModuleType


class _Inspect(ModuleType):
    def signature(self, _class: object) -> str:
        return ""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get("inspect") is self:
            del sys.modules["inspect"]
        import inspect

        return getattr(inspect, name)


def spare_inspect() -> None:
    """Before the first import of dataclasses; no harm after it."""
    if "inspect" not in sys.modules:
        sys.modules["inspect"] = _Inspect("inspect")
