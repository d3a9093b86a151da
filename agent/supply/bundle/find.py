# SPDX-License-Identifier: MulanPSL-2.0
"""Bundles in the import folder, or on a disk that is mounted in it.

In: a folder. Out: the folders with a list of a bundle, in a fixed order.
"""

import os
from pathlib import Path

from agent.supply.bundle.format import BUNDLE_NAME

MAX_LOOKED_AT = 1000  # folders; somebody may have mounted anything there
DEPTH = 2  # import/BUNDLE, and import/usb/BUNDLE


def find_bundles(import_folder: Path) -> tuple[Path, ...]:
    """None of them has been checked; a folder that cannot be read has none."""
    found: list[Path] = []
    level = [import_folder]
    left = MAX_LOOKED_AT
    for depth in range(DEPTH + 1):
        level = level[:left]
        left -= len(level)
        found.extend(folder for folder in level if _is_bundle(folder))
        if depth < DEPTH:
            level = [inner for folder in level for inner in _folders(folder)]
    return tuple(found)


def _is_bundle(folder: Path) -> bool:
    return os.path.isfile(folder / BUNDLE_NAME)


def _folders(folder: Path) -> list[Path]:
    """No symbolic links: they may lead anywhere, also round in circles."""
    if _is_bundle(folder):
        return []
    try:
        with os.scandir(folder) as entries:
            names = sorted(
                entry.name
                for entry in entries
                if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
            )
    except OSError:
        return []
    return [folder / name for name in names]
