# SPDX-License-Identifier: MulanPSL-2.0
"""Who may import whom (style, section 10), read from the sources; and what is loaded in the end."""

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[1]
PACKAGE = TREE / "agent"

# What each part may import of our own: modules or folders below `agent`; itself always.
# `config.values` alone of `config`, because `load` and `schema` bring pydantic.
MAY_IMPORT: Mapping[str, tuple[str, ...]] = {
    "": (),  # agent/__init__.py
    "model": (),
    "errors": (),
    "facts": ("model",),
    "exits": (),
    "terminal": ("errors",),
    "tls": (),
    "notify": (),
    "journal": (),
    "ports": ("model", "errors", "facts"),
    "config": ("model", "errors", "exits", "terminal"),
    "plan": ("model", "errors", "facts", "config.values"),
    "render": ("model", "errors", "facts", "config.values", "plan"),
    "policy": ("model", "errors", "exits", "config.values", "config.faults"),
    "health": ("model", "errors", "config.values", "ports"),
    "action": ("model", "errors", "facts", "config.values", "plan", "render", "ports"),
    "status": ("model", "errors", "facts", "exits", "tls"),
    "control": (
        "",
        "model",
        "errors",
        "facts",
        "config.values",
        "config.faults",
        "config.kept",
        "ports",
        "policy",
        "action",
        "status",
        "render.workload",
    ),
    "host": ("model", "errors", "facts", "config.values", "ports", "tls"),
    "npud": ("", "model", "errors", "notify"),
    "attach": ("", "model", "errors", "exits", "notify"),
    "cli": (
        "",
        "model",
        "errors",
        "exits",
        "config.values",
        "plan",
        "render",
        "status",
        "terminal",
    ),
}
# The composition roots: the daemon, and the process behind `deepseekctl render`. Nobody may import
# them: they stand in no row above.
EVERYTHING = ("daemon", "preview")
PURE = ("config", "plan", "render", "policy")
STANDARD_LIBRARY_ONLY = (
    "model",
    "errors",
    "facts",
    "exits",
    "tls",
    "notify",
    "ports",
    "npud",
    "attach",
    *PURE,
)
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
    "podman": ("host.podman",),
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
    if layer in PURE and (head in EFFECTS or name == "pathlib.Path"):
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


def test_agentd_loads_nothing_big() -> None:
    assert loads(read_tree(PACKAGE), "daemon", NOT_IN_AGENTD) == []


def test_every_row_of_the_table_is_there() -> None:
    parts = {module.partition(".")[0] for module in read_tree(PACKAGE)}
    assert parts == {*MAY_IMPORT, *EVERYTHING}


@pytest.mark.parametrize(
    ("module", "banned"),
    [
        ("agent.daemon", NOT_IN_AGENTD),
        ("agent.npud.__main__", ("asyncio", "msgspec", "structlog", "httpx", *NOT_IN_AGENTD)),
        # Each of these costs attach, of which one runs beside every model, megabytes.
        ("agent.attach", ("asyncio", "dataclasses", "msgspec", "logging", "typing_extensions")),
    ],
)
def test_a_process_loads_nothing_big(module: str, banned: tuple[str, ...]) -> None:
    """The same in a real interpreter: libraries may bring what no source of ours names."""
    script = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=TREE, capture_output=True, text=True, check=True
    )
    assert [name for name in done.stdout.split() if name in banned] == []


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
        ("status__server", "from agent.daemon import main"),
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
