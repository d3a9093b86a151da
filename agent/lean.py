# SPDX-License-Identifier: MulanPSL-2.0
"""Spares a process what its libraries import and it never uses (docs/adr/0003).

Called before those are imported, by the launchers (rpm/launchers). Whoever
asks for what was spared gets the real one after all, and pays for it; only what was left out is
taken for not installed, which the libraries that it is done for are made for.
"""

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

CO_COROUTINE = 0x80  # of a code object's flags: `async def` (inspect, "Code Objects Bit Flags")


def spare_agentd() -> None:
    # Its command line, click, multiprocessing: 1.9 MiB. (uvicorn.lifespan.off asks it for Config.)
    _spare_package("uvicorn", {"Config": "uvicorn.config"})
    _spare_package("pickle", {"PicklingError": "_pickle"})  # structlog catches it
    # Read by no code that runs in it: dictConfig, sockets, introspection of types, glib.
    _put_off(
        "logging.config",
        "structlog.stdlib",
        "structlog.threadlocal",
        "msgspec.inspect",
        "dbus_next.glib",
    )
    # Of the standard library, by functions that it never calls, or only to print where an
    # exception came from.
    _put_off("ast", "tokenize", "locale", "calendar")
    spare_dataclasses()
    _leave_out("typing_extensions")  # msgspec takes typing then, which has all of it
    _leave_out("rich")  # structlog has colored tracebacks where it is there


def spare_supply() -> None:
    spare_dataclasses()
    _leave_out("click")  # httpx has a command line where it is there: 1.6 MiB
    _leave_out("anyio", "trio")  # httpcore has locks of theirs where they are there
    _leave_out("typing_extensions")
    _put_off("msgspec.inspect")


def spare_podman() -> None:
    """A third of the time that podman-py takes to be imported."""
    spare_dataclasses()
    _leave_out("rich")  # podman-py has progress bars where it is there: 30 ms
    _leave_out("typing_extensions")


def spare_dataclasses() -> None:
    """Before the first import of what defines dataclasses."""
    spare_inspect()
    from agent.dataclass_methods import share_methods  # not at the top: it imports dataclasses

    share_methods()


def spare_inspect() -> None:
    """The module `inspect` brings ast, dis and tokenize: 1.2 MiB. dataclasses of Python 3.11 import
    it for one thing, the docstring of a class that has none; later ones do not. Before the first
    import of dataclasses; no harm after it."""
    if "inspect" not in sys.modules:
        sys.modules["inspect"] = _Inspect("inspect")


class _Inspect(ModuleType):
    def signature(self, of: object) -> object:
        """Of a class: that is dataclasses, for its docstring."""
        return "" if isinstance(of, type) else self._real("signature", of)

    def iscoroutinefunction(self, function: object) -> bool:
        """asyncio asks for it with each handler of a signal."""
        code = getattr(function, "__code__", None)
        if code is None:
            return bool(self._real("iscoroutinefunction", function))
        return bool(code.co_flags & CO_COROUTINE)

    def _real(self, name: str, of: object) -> object:
        return self.__getattr__(name)(of)  # type: ignore[operator]

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get("inspect") is self:
            del sys.modules["inspect"]
        import inspect

        return getattr(inspect, name)


def _spare_package(name: str, known: Mapping[str, str]) -> None:
    """Its modules can be imported, and nothing else of it is. `known`: names that it has all the
    same, and the module of each."""
    from importlib.util import module_from_spec  # not at the top: npud needs none of it

    spec = PathFinder.find_spec(name)
    if spec is None or name in sys.modules:
        return
    package = _Package(name)
    package.__dict__.update(vars(module_from_spec(spec)), _known=known)
    sys.modules[name] = package


class _Package(ModuleType):
    """Not run yet: that is done for the first name which it does not have."""

    _known: Mapping[str, str]

    def __getattr__(self, name: str) -> object:
        spec = self.__spec__
        if name.startswith("__") or spec is None or spec.loader is None:
            raise AttributeError(name)
        if name in self._known:
            return getattr(import_module(self._known[name]), name)
        self.__class__ = ModuleType  # type: ignore[assignment]
        spec.loader.exec_module(self)
        return getattr(self, name)


def _put_off(*names: str) -> None:
    """These are loaded when something of them is used, or when a second module imports them."""
    sys.meta_path.insert(0, _PutOff(names))


class _PutOff:
    """A finder (sys.meta_path)."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in self._names:
            return None
        from importlib.util import LazyLoader

        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec


def _leave_out(*names: str) -> None:
    """Importing one is an ImportError (Python's reference, 5.3.1)."""
    for name in names:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]
