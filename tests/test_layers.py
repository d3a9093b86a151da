# SPDX-License-Identifier: MulanPSL-2.0
"""Who may import whom (docs/data-flow.md), read from the sources; and what is loaded in the end."""

import ast
import asyncio
import functools
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from agent.lean import _Inspect

TREE = Path(__file__).resolve().parents[1]
PACKAGE = TREE / "agent"

# What each part may import of our own: modules or folders below `agent`; itself always.
# Of `config` no more than named, because `load` and `schema` bring pydantic.
MAY_IMPORT: Mapping[str, tuple[str, ...]] = {
    "": (),  # agent/__init__.py
    "model": (),
    "references": (),
    "errors": (),
    "facts": ("model",),
    "exits": (),
    "dataclass_methods": (),
    "lean": ("dataclass_methods",),
    "decoding": (),
    "json_text": (),
    "cells": (),
    "chinese": ("language",),
    "language": ("chinese",),
    "screen": ("language",),
    "command_line": ("language", "cells", "terminal"),
    "terminal": ("errors", "supplies", "wording", "language"),
    "tls": (),
    "certificate": (),
    "image_build": ("command_line", "language"),
    "notify": (),
    "pulse": ("model", "notify", "status"),
    "threads": (),
    "journal": ("model",),
    "supplies": ("errors",),
    "disks": ("errors",),
    "wording": ("supplies", "language"),
    "ports": ("model", "facts", "supplies", "disks"),
    "config": (
        "model",
        "references",
        "errors",
        "supplies",
        "exits",
        "terminal",
        "language",
        "host.reading",
        "json_text",
    ),
    "plan": ("model", "errors", "facts", "supplies", "config.values"),
    "render": ("model", "facts", "config.values", "plan"),
    "policy": (
        "model",
        "errors",
        "exits",
        "supplies",
        "wording",
        "disks",
        "config.values",
        "config.faults",
    ),
    "health": ("model", "errors", "facts", "config.flags", "config.values", "ports", "decoding"),
    "action": (
        "threads",
        "certificate",
        "model",
        "errors",
        "facts",
        "supplies",
        "config.values",
        "plan",
        "render",
        "ports",
        "decoding",
    ),
    "status": (
        "model",
        "errors",
        "facts",
        "supplies",
        "disks",
        "wording",
        "language",
        "cells",
        "exits",
        "tls",
        "certificate",
        "ports",
        "decoding",
    ),
    "control": (
        "",
        "certificate",
        "model",
        "errors",
        "facts",
        "supplies",
        "disks",
        "wording",
        "config.values",
        "config.kept",
        "ports",
        "policy",
        "action",
        "status",
        "plan.supply",
        "render.workload",
        "evidence.redact",
        "decoding",
    ),
    # What was seen comes in as values, so that each check can be tried with a broken host.
    "doctor": (
        "model",
        "errors",
        "exits",
        "facts",
        "disks",
        "wording",
        "config.values",
        "plan",
        "render.choose",
        "policy.disks",
        "status.snapshot",
        "language",
        "cells",
    ),
    "host": (
        "threads",
        "lean",
        "model",
        "references",
        "errors",
        "facts",
        "supplies",
        "disks",
        "config.values",
        "doctor.looks",
        "ports",
        "tls",
        "decoding",
        "json_text",
    ),
    "npud": ("model", "notify", "json_text"),
    "attach": ("exits", "notify"),
    "drain": ("model", "host.payloads", "tls"),
    "evidence": ("model", "disks", "host.payloads", "json_text"),
    # It gathers what there is of all of them; it decides nothing.
    "support": (
        "",
        "errors",
        "ports",
        "wording",
        "language",
        "command_line",
        "terminal",
        "evidence",
        "status",
        "host.atomic",
        "host.reading",
    ),
    "supply": (
        "",
        "model",
        "errors",
        "supplies",
        "disks",
        "wording",
        "language",
        "notify",
        "terminal",
        "host.atomic",
        "host.image_damage",
        "host.image_load",
        "host.image_space",
        "host.image_sync",
        "host.podman_folder",
        "host.reading",
        "references",
        "decoding",
        "json_text",
    ),
    # What bundles are to instances, for `bundling`.
    "pins": ("config.values", "errors", "language", "status", "supplies", "supply", "wording"),
    "cli_acts": ("errors", "language", "status"),
    "cli_look": ("screen", "status"),
    "cli_quarantine": ("language", "status"),
    "cli_supply": ("errors", "language", "status", "terminal", "wording"),
    "cli": (
        "",
        "cli_acts",
        "cli_look",
        "cli_quarantine",
        "cli_supply",
        "model",
        "errors",
        "exits",
        "render",
        "status",
        "ports",
        "command_line",
        "terminal",
    ),
}
# The composition roots: the daemon, and the processes behind `deepseekctl render`, `bundle`
# and `doctor`.
# Nobody may import them: they stand in no row above.
EVERYTHING = ("daemon", "preview", "bundling", "doctoring")
PURE = ("config", "plan", "render", "policy", "doctor")
STANDARD_LIBRARY_ONLY = (
    "model",
    "references",
    "errors",
    "facts",
    "exits",
    "dataclass_methods",
    "lean",
    "supplies",
    "disks",
    "wording",
    "cells",
    "chinese",
    "language",
    "screen",
    "command_line",
    "tls",
    "certificate",
    "image_build",
    "notify",
    "ports",
    "npud",
    "attach",
    "drain",
    "evidence",
    *PURE,
)
# Pure as well, in a layer that is not.
PURE_FOLDERS = ("status.metrics.",)
EFFECTS = ("asyncio", "socket", "os", "subprocess", "time", "random", "logging", "threading")
# The short-lived process that reads the files; it is not part of the pure core.
READS_FILES = (
    "config.schema",
    "config.fields",
    "config.explain",
    "config.load",
    "config.toml",
    "config.catalogue",
    "config.__main__",
)
ONLY_IN = {
    "dbus_next": ("host.bus",),
    "podman": ("host.podman.verbs", "host.images", "host.image_whole"),
    "pydantic": (
        "config.schema",
        "config.fields",
        "config.explain",
        "config.load",
        "config.catalogue",
    ),
    "pydantic_core": ("config.schema", "config.explain"),
    "pydantic_settings": ("config.schema", "config.load"),
}
# Too big for the resident daemon (design, section 4).
NOT_IN_AGENTD = ("pydantic", "pydantic_settings", "podman", "requests")


# --- the checker ---------------------------------------------------------------------------------


def read_tree(package: Path) -> dict[str, set[str]]:
    """Module -> what it imports anywhere in it, both as dotted names; ours without `agent.`."""
    files = {
        ".".join(path.relative_to(package).with_suffix("").parts)
        .removesuffix("__init__")
        .strip("."): path
        for path in package.rglob("*.py")
    }
    return {name: set(_imports(name, path, set(files))) for name, path in files.items()}


def _imports(module: str, path: Path, ours: set[str]) -> Iterator[str]:
    folder = ["agent", *module.split(".")] if module else ["agent"]
    if path.name != "__init__.py":
        folder = folder[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _resolve(alias.name, ours)
        elif isinstance(node, ast.ImportFrom):
            base = folder[: len(folder) - node.level + 1] if node.level else []
            origin = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            for alias in node.names:
                yield from _resolve(f"{origin}.{alias.name}", ours)


def _resolve(name: str, ours: set[str]) -> Iterator[str]:
    """Foreign names as they are; of ours the module that holds the name, as `agent:MODULE`."""
    if name.partition(".")[0] != "agent":
        yield name
        return
    inner = name.partition(".")[2]
    while inner and inner not in ours:
        inner = inner.rpartition(".")[0]
    yield f"agent:{inner}"


def violations(tree: Mapping[str, set[str]]) -> Iterator[str]:
    for module, imports in sorted(tree.items()):
        layer = module.partition(".")[0]
        for name in sorted(imports):
            if name.startswith("agent:"):
                yield from _ours(module, layer, name.removeprefix("agent:"))
            else:
                yield from _foreign(module, layer, name)


def _ours(module: str, layer: str, imported: str) -> Iterator[str]:
    if layer in EVERYTHING:
        return
    if layer not in MAY_IMPORT:
        yield f"{module}: {layer} stands in no row of the table"
        return
    allowed = (layer, *MAY_IMPORT[layer])
    if not any(imported == one or (one and imported.startswith(f"{one}.")) for one in allowed):
        yield f"{module}: {layer} may not import {imported or 'agent'}"


def _foreign(module: str, layer: str, name: str) -> Iterator[str]:
    head = name.partition(".")[0]
    if head in ONLY_IN and module not in ONLY_IN[head]:
        yield f"{module}: only {' and '.join(ONLY_IN[head])} may import {head}"
    if module in READS_FILES:
        return
    if layer in STANDARD_LIBRARY_ONLY and head not in sys.stdlib_module_names:
        yield f"{module}: {layer} takes the standard library only, not {head}"
    pure = layer in PURE or module.startswith(PURE_FOLDERS)
    if pure and (head in EFFECTS or name == "pathlib.Path"):
        yield f"{module}: {layer} is pure, so no {name}"


def reachable(tree: Mapping[str, set[str]], start: str) -> dict[str, str]:
    """What importing `start` loads of ours, packages included: module -> who imports it."""
    found = {start: start}
    queue = [start]
    while queue:
        module = queue.pop()
        parents = [module.rsplit(".", depth)[0] for depth in range(1, module.count(".") + 1)]
        names = [name.removeprefix("agent:") for name in tree[module] if name.startswith("agent:")]
        for name in (*parents, *names, ""):
            if name in tree and name not in found:
                found[name] = module
                queue.append(name)
    return found


def loads(tree: Mapping[str, set[str]], start: str, banned: tuple[str, ...]) -> list[str]:
    return [
        f"{module} (by {importer}) imports {name}"
        for module, importer in sorted(reachable(tree, start).items())
        for name in sorted(tree[module])
        if name.partition(".")[0] in banned
    ]


# --- our tree ------------------------------------------------------------------------------------


def test_nobody_imports_what_it_may_not() -> None:
    assert list(violations(read_tree(PACKAGE))) == []


def test_every_permission_is_used() -> None:
    tree = read_tree(PACKAGE)
    used = {
        (module.partition(".")[0], name.removeprefix("agent:"))
        for module, names in tree.items()
        for name in names
        if name.startswith("agent:")
    }
    unused = [
        f"{layer}: {one}"
        for layer, allowed in MAY_IMPORT.items()
        for one in allowed
        if not any(a == layer and (b == one or b.startswith(f"{one}.")) for a, b in used)
    ]
    assert unused == []


def test_agentd_loads_nothing_big() -> None:
    assert loads(read_tree(PACKAGE), "daemon", NOT_IN_AGENTD) == []


def test_every_row_of_the_table_is_there() -> None:
    parts = {module.partition(".")[0] for module in read_tree(PACKAGE)}
    assert parts == {*MAY_IMPORT, *EVERYTHING}


# What the launchers' processes may not have loaded when they run.
NOT_IN_A_SMALL_ONE = ("asyncio", "msgspec", "structlog", *NOT_IN_AGENTD)
NOT_IN = {
    "agentd": (
        *("click", "uvicorn.main", "multiprocessing", "starlette", "anyio", "httpx", "html"),
        *("argparse", "gettext", "tempfile", "shutil", "logging.config", "structlog.stdlib"),
        *("typing_extensions", "msgspec.inspect", "http.client", *NOT_IN_AGENTD),
        *("inspect", "ast", "tokenize", "locale", "calendar", "pickle"),
    ),
    "npud": ("inspect", "argparse", "importlib.util", "httpx", *NOT_IN_A_SMALL_ONE),
    # One of it runs beside every model.
    "attach": ("dataclasses", "logging", "typing_extensions", *NOT_IN_A_SMALL_ONE),
    "drain": NOT_IN_A_SMALL_ONE,
    "evidence": NOT_IN_A_SMALL_ONE,
    "supply": (
        *("click", "inspect", "anyio", "trio", "typing_extensions", "asyncio", "structlog"),
        *NOT_IN_AGENTD,
    ),
}
# What some of them load only when they work.
AT_WORK = {
    "agentd": """
import asyncio, signal
from agent.status.api.peer import SocketServer
async def begin():
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, asyncio.Event().set)
asyncio.run(begin())
SocketServer(None)
""",
    "supply": """
from agent.supplies import Hub, ModelSource
from agent.supply.net import HubClient
HubClient(ModelSource(Hub.HUGGINGFACE, "http://127.0.0.1:9", "a/b", "main"), 1).close()
""",
}
WHAT_IS_LOADED = """
from importlib.util import _LazyModule as put_off
from agent.lean import _Inspect, _Package
stand_ins = (type(None), put_off, _Inspect, _Package)
print(*(name for name, module in modules.items() if type(module) not in stand_ins))
"""


def load(launcher: str) -> str:
    """A program that does as a launcher does, but for what `main` does."""
    text = (TREE / "rpm/launchers" / f"{launcher}.in").read_text(encoding="utf-8")
    paths = [str(TREE), *(path for path in sys.path if "site-packages" in path)]
    head = re.sub(r"sys\.path.*\n", f"sys.path[:0] = {paths}\n", text)
    return head.replace("sys.exit(main())", "")


@pytest.mark.parametrize("launcher", NOT_IN)
def test_a_process_loads_nothing_big(launcher: str) -> None:
    """In a real interpreter: libraries may bring what no source of ours names."""
    noted = "\nmodules = dict(sys.modules)\n"
    script = load(launcher) + AT_WORK.get(launcher, "") + noted + WHAT_IS_LOADED
    done = subprocess.run(
        [sys.executable, "-ISB", "-c", script],
        cwd=TREE,
        env={"MAINPID": "1"},  # without it drain has nothing to do
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = done.stdout.split()
    assert "agent" in loaded
    assert [name for name in loaded if name in NOT_IN[launcher]] == []


@pytest.mark.parametrize("launcher", ["agentd", "npud", "supply", "deepseekctl"])
def test_frozen_dataclasses_share_their_methods(launcher: str) -> None:
    """Memory and time of several hundred classes, if somebody imported one too early."""
    script = load(launcher) + "\nfrom agent.model import Hold, NpuFault"
    script += "\nprint(Hold.__eq__ is NpuFault.__eq__)"
    done = subprocess.run(
        [sys.executable, "-ISB", "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "True\n"


def test_who_asks_podman_loads_nothing_that_it_never_uses() -> None:
    """An engine that has died is started again when this process has answered."""
    spared = ("rich", "inspect", "ast", "typing_extensions", "asyncio", "msgspec")
    script = "import runpy, sys\nsys.argv[1:] = ['remove']\n"
    script += "try:\n runpy.run_module('agent.host.podman', run_name='__main__')\n"
    script += "except SystemExit:\n modules = dict(sys.modules)\n" + WHAT_IS_LOADED
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=TREE, capture_output=True, text=True, check=True
    )
    loaded = done.stdout.split('{"answer": null}')[1].split()
    assert "podman.client" in loaded
    assert [name for name in loaded if name in spared] == []


def test_a_bundle_loads_nothing_big() -> None:
    script = "import sys, agent.supply.bundle.__main__; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=TREE, capture_output=True, text=True, check=True
    )
    assert [name for name in done.stdout.split() if name in NOT_IN_A_SMALL_ONE] == []


@pytest.mark.parametrize(
    ("launcher", "asked"),
    [
        ("agentd", "import uvicorn; uvicorn.Server(uvicorn.Config(app=None)).should_exit"),
        ("agentd", "import logging.config; logging.config.dictConfig({'version': 1})"),
        ("agentd", "import structlog; structlog.stdlib.get_logger()"),
        ("agentd", "import msgspec; msgspec.inspect.type_info(int)"),
        ("agentd", "import inspect; inspect.getsource(inspect.getsource)"),
        ("agentd", "import inspect; inspect.signature(print).parameters['sep']"),
        ("agentd", "import pickle; pickle.loads(pickle.dumps(pickle.PicklingError))"),
        (
            "agentd",
            "import ast, tokenize, locale; ast.parse('1'), tokenize.open, locale.ABDAY_1",
        ),
        ("npud", "import inspect; inspect.getsource(inspect.getsource)"),
        ("supply", "import inspect; inspect.getsource(inspect.getsource)"),
    ],
)
def test_what_was_spared_is_there_when_it_is_asked_for(launcher: str, asked: str) -> None:
    script = f"{load(launcher)}\n{asked}"
    subprocess.run([sys.executable, "-ISB", "-W", "error", "-c", script], cwd=TREE, check=True)


def test_what_stands_in_for_inspect_knows_coroutines() -> None:
    """As asyncio asks of what shall handle a signal."""

    async def wait() -> None: ...

    stand_in = _Inspect("inspect")
    for asked in (wait, asyncio.Event().wait, asyncio.Event().set, len, functools.partial(wait)):
        assert stand_in.iscoroutinefunction(asked) is inspect.iscoroutinefunction(asked)


def test_no_module_is_long() -> None:
    """A soft limit (style, rule 3): a module that needs more says why here."""
    lengths = {
        str(path.relative_to(TREE)): len(path.read_text(encoding="utf-8").splitlines())
        for path in PACKAGE.rglob("*.py")
    }
    assert {name: lines for name, lines in lengths.items() if lines > 400} == {}


# --- the checker itself, on a toy tree -----------------------------------------------------------


def check_toy(folder: Path, **sources: str) -> list[str]:
    """`config__load="import x"` becomes agent/config/load.py."""
    package = folder / "agent"
    for name, source in {"__init__": "", "model": "", **sources}.items():
        path = (
            package.joinpath(*name.split("__")).with_suffix(".py")
            if name != "__init__"
            else (package / "__init__.py")
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.parent != package:
            (path.parent / "__init__.py").touch()
        path.write_text(source, encoding="utf-8")
    return list(violations(read_tree(package)))


TARGETS = {"host__systemd": "", "host__npu": "", "daemon": "", "config__values": ""}


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("plan__plan", "from agent.host import npu"),
        ("plan__plan", "from ..host import npu"),
        ("plan__plan", "from .. import host"),
        ("plan__plan", "from agent import host"),
        ("plan__plan", "from agent import host as h, model"),
        ("plan__plan", "import agent.host.npu"),
        ("plan__plan", "def f():\n    from agent.host.npu import x"),
        (
            "plan__plan",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import agent.host",
        ),
        ("plan__plan", "import os"),
        ("plan__plan", "from os.path import exists"),
        ("plan__plan", "from pathlib import Path"),
        ("plan__plan", "def f():\n    import time"),
        ("plan__plan", "import msgspec"),
        ("plan__plan", "import agent.config"),
        ("policy__instance", "import random"),
        ("render__render", "import structlog"),
        ("config__values", "import pydantic"),
        ("health__endpoint", "import agent.policy.instance"),
        ("health__endpoint", "import dbus_next"),
        ("host__npu", "from dbus_next.aio import MessageBus"),
        ("host__npu", "import agent.control"),
        ("host__systemd", "import podman"),
        ("status__api__app", "from agent.daemon import main"),
        ("status__metrics__page", "import time"),
        ("cli", "import agent.host.npu"),
        ("attach", "import msgspec"),
        ("npud__server", "import agent.config.values"),
        ("model", "import agent.errors"),
        ("unheard", "import agent.model"),
    ],
)
def test_the_checker_sees(tmp_path: Path, module: str, source: str) -> None:
    sources = {**TARGETS, "policy__instance": "", "control__controller": "", module: source}
    found = check_toy(tmp_path, **sources)
    assert len(found) >= 1
    assert all(line.startswith(f"{module.replace('__', '.')}:") for line in found)


def test_the_checker_lets_pass_what_is_allowed(tmp_path: Path) -> None:
    sources = {
        **TARGETS,
        "plan__plan": "import re\nfrom pathlib import PurePosixPath\nfrom agent import model\n"
        "from .. import model as m\nfrom agent.config.values import Profile\nfrom . import npus",
        "plan__npus": "from agent.model import Npu",
        "config__load": "import tomllib, pydantic\nfrom pathlib import Path\nimport os",
        "host__bus": "import asyncio\nimport dbus_next",
        "daemon": "import agent.host.systemd, asyncio, structlog",
    }
    assert check_toy(tmp_path, **sources) == []


def test_the_checker_follows_the_graph(tmp_path: Path) -> None:
    sources = {
        "daemon": "def f():\n    from agent.host import config",
        "host__config": "from agent.config.load import load",
        "config__load": "import pydantic",
        "host__podman": "import podman",
    }
    check_toy(tmp_path, **sources)
    assert loads(read_tree(tmp_path / "agent"), "daemon", NOT_IN_AGENTD) == [
        "config.load (by host.config) imports pydantic"
    ]


def test_a_package_is_loaded_with_its_modules(tmp_path: Path) -> None:
    check_toy(tmp_path, daemon="import agent.config.values", config__values="")
    (tmp_path / "agent/config/__init__.py").write_text("import pydantic", encoding="utf-8")
    assert loads(read_tree(tmp_path / "agent"), "daemon", NOT_IN_AGENTD) != []
