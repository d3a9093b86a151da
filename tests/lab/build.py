# SPDX-License-Identifier: MulanPSL-2.0
"""Builds the RPM of a source tree in a copy of a lab root: offline, nothing of the machine in it.

The build root's Python decides which wheels go in: legacy is 3.11, as openEuler, modern is 3.13.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .process import LabError, run_command
from .rootfs import Flavour, copy_root, run_in_root

BUILD_LIMIT_S = 1800
PREPARE_LIMIT_S = 900
MACROS = Path(__file__).resolve().parent / "macros.deepseek-lab"
# Not in macros.d: there rpm's own macros of the platform, which are read later, would win.
MACROS_INSIDE = "etc/rpm/macros.deepseek-lab"
PYTHONS = {Flavour.MODERN: "3.13", Flavour.LEGACY: "3.11"}
SPEC = "rpm/deepseek-agent.spec"


def prepare_sources(flavour: Flavour, source_tree: Path, out_dir: Path) -> None:
    """Fills out_dir with the spec's sources, for the Python of this flavour."""
    tool = source_tree / "rpm/prepare-sources"
    run_command(
        [sys.executable, str(tool), str(out_dir), f"--python={PYTHONS[flavour]}"],
        timeout_s=PREPARE_LIMIT_S,
    )


def build_rpm(
    flavour: Flavour,
    source_tree: Path,
    out_dir: Path,
    *,
    sources_dir: Path | None = None,
    spec: str = SPEC,
    options: Sequence[str] = (),
) -> list[Path]:
    """Runs rpmbuild -ba; returns the packages in out_dir, the source package last.

    Without sources_dir the tree's own rpm/prepare-sources makes the sources. `options` go to
    rpmbuild, for instance ("--define=dist .lab", "--without=tests").
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="deepseek-lab-build.", dir=out_dir) as folder:
        root = Path(folder, "root")
        copy_root(flavour, root)
        top = root / "build"
        if sources_dir is None:
            prepare_sources(flavour, source_tree, top / "SOURCES")
        else:
            shutil.copytree(sources_dir, top / "SOURCES")
        shutil.copy(source_tree / spec, top / "package.spec")
        shutil.copy(MACROS, root / MACROS_INSIDE)
        run_rpmbuild(root, options)
        built = sorted(top.glob("RPMS/*/*.rpm")) + sorted(top.glob("SRPMS/*.rpm"))
        if not built:
            raise LabError(f"rpmbuild made no package of {spec}")
        return [Path(shutil.copy(rpm, out_dir)) for rpm in built]


def run_rpmbuild(root: Path, options: Sequence[str]) -> None:
    """Build requirements are not looked up: the root's packages are Debian's, rpm knows none."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    stamp = [f"SOURCE_DATE_EPOCH={epoch}"] if epoch else []
    rpmbuild = ["rpmbuild", "-ba", "--nodeps", "--define=_topdir /build"]
    run_in_root(
        root,
        [
            *("/usr/bin/env", "HOME=/root", *stamp, *rpmbuild),
            *("--define=_buildhost lab", *options, "/build/package.spec"),
        ],
        timeout_s=BUILD_LIMIT_S,
    )
