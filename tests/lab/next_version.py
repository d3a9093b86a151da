# SPDX-License-Identifier: MulanPSL-2.0
"""The package as it will be one version later, so that an upgrade and a downgrade can be tried.

Built from a copy of this tree: a higher version, another text in a unit and in a file that the
operator may edit, so that it can be seen which of the two is in force.
"""

import os
import shutil
import tempfile
import time
from pathlib import Path

from agent import __version__

from . import product
from .product import TREE
from .rootfs import Flavour

CACHED_AS = "next-package"
NOT_COPIED = (".*", "build", "__pycache__", "*.egg-info")
DESCRIPTION = "DeepSeek model %i"
SETTING = '#mode = "act"'
ENTRY = "the lab <lab@localhost>\n- the next version\n\n"
DAY_S = 86_400


def next_version(version: str = __version__) -> str:
    """Of 0.1.0 the 0.2.0."""
    major, minor, _ = version.split(".")
    return f"{major}.{int(minor) + 1}.0"


def next_packages(flavour: Flavour) -> list[Path]:
    """Built once for the same sources."""
    with tempfile.TemporaryDirectory(prefix="deepseek-next-") as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(TREE, tree, symlinks=True, ignore=shutil.ignore_patterns(*NOT_COPIED))
        advance(tree)
        return product.packages(flavour, tree, CACHED_AS)


def advance(tree: Path) -> None:
    """Makes the next version of the tree. Its files are newer than all others, and so is the entry
    in the changelog, which no file of a package is newer than: systemd looks at times of units."""
    newest = max(path.lstat().st_mtime for path in tree.rglob("*") if path.is_file())
    marked = f"of {next_version()}"
    day = time.strftime("%a %b %d %Y", time.gmtime(newest + DAY_S))
    changes = (
        ("agent/__init__.py", f'"{__version__}"', f'"{next_version()}"'),
        ("rpm/deepseek-agent.spec", __version__, next_version()),
        ("rpm/deepseek-agent.spec", "%changelog\n", f"%changelog\n* {day} {ENTRY}"),
        ("units/deepseek@.service", DESCRIPTION, f"{DESCRIPTION} {marked}"),
        ("etc/agent.toml", SETTING, f"{SETTING} # {marked}"),
    )
    for name, old, new in changes:
        path = tree / name
        text = path.read_text(encoding="utf-8")
        if old not in text:
            raise ValueError(f"{name} does not have {old!r}")
        path.write_text(text.replace(old, new), encoding="utf-8")
        os.utime(path, (newest + 1, newest + 1))
