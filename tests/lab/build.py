# SPDX-License-Identifier: MulanPSL-2.0
"""Builds the RPM of a source tree in a copy of a lab root: offline, nothing of the machine in it.

The build root's Python decides which wheels go in: legacy is 3.11, as openEuler, modern is 3.13.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .process import LabError, run_command
from .rootfs import Flavour, copy_root, run_in_root

BUILD_LIMIT_S = 1800
PREPARE_LIMIT_S = 900
MACROS = Path(__file__).resolve().parent / "macros.deepseek-lab"
# Not in macros.d: there rpm's own macros of the platform, which are read later, would win.
MACROS_INSIDE = "etc/rpm/macros.deepseek-lab"
SPEC = "rpm/deepseek-agent.spec"
IN_PLACE = 'hostname "$1" && umask "$2" && shift 2 && exec "$@"'


@dataclass(frozen=True, slots=True)
class Place:
    """Where rpmbuild runs. Nothing of it may be seen in what it makes."""

    top: str = "/build"
    hostname: str = "lab"
    umask: str = "022"
    environment: tuple[str, ...] = ()


def prepare_sources(source_tree: Path, out_dir: Path, umask: str = "022") -> None:
    """Fills out_dir with the spec's sources."""
    tool = [sys.executable, str(source_tree / "rpm/prepare-sources"), str(out_dir)]
    script = 'umask "$1" && shift && exec "$@"'
    run_command(["sh", "-c", script, "sh", umask, *tool], timeout_s=PREPARE_LIMIT_S)


def build_rpm(
    flavour: Flavour,
    source_tree: Path,
    out_dir: Path,
    *,
    sources_dir: Path | None = None,
    spec: str = SPEC,
    options: Sequence[str] = (),
    place: Place = Place(),
) -> list[Path]:
    """Builds the source package, and of it the others; returns them in out_dir, that one last.

    As mock and koji do. With rpmbuild -ba the others would tell the source package's digest, and in
    that is the path of the build: rpm keeps the spec with all macros expanded (RPMTAG_SPEC).

    Without sources_dir the tree's own rpm/prepare-sources makes the sources. `options` go to
    rpmbuild, for instance ("--define=dist .lab", "--without=tests").
    """

    def build(root: Path) -> None:
        top = root / place.top.lstrip("/")
        if sources_dir is None:
            prepare_sources(source_tree, top / "SOURCES")
        else:
            shutil.copytree(sources_dir, top / "SOURCES")
        shutil.copy(source_tree / spec, top)
        run_rpmbuild(root, ["-bs", *options, f"{place.top}/{Path(spec).name}"], place)
        (source,) = top.glob("SRPMS/*.rpm")
        run_rpmbuild(root, ["--rebuild", *options, f"{place.top}/SRPMS/{source.name}"], place)

    return build_in(lambda root: copy_root(flavour, root), build, out_dir, place)


def rebuild_rpm(
    copy: Callable[[Path], None], source_package: Path, out_dir: Path, place: Place
) -> list[Path]:
    """As a distribution builds it: from the source package alone, in the root that `copy` makes."""

    def build(root: Path) -> None:
        top = root / place.top.lstrip("/")
        top.mkdir(parents=True)
        shutil.copy(source_package, top)
        run_rpmbuild(root, ["--rebuild", f"{place.top}/{source_package.name}"], place)

    return build_in(copy, build, out_dir, place)


def build_in(
    copy: Callable[[Path], None], build: Callable[[Path], None], out_dir: Path, place: Place
) -> list[Path]:
    out_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="deepseek-lab-build.", dir=out_dir) as folder:
        root = Path(folder, "root")
        copy(root)
        shutil.copy(MACROS, root / MACROS_INSIDE)
        build(root)
        top = root / place.top.lstrip("/")
        built = sorted(top.glob("RPMS/*/*.rpm")) + sorted(top.glob("SRPMS/*.rpm"))
        if not built:
            raise LabError("rpmbuild made no package")
        return [Path(shutil.copy(rpm, out_dir)) for rpm in built]


def run_rpmbuild(root: Path, arguments: Sequence[str], place: Place) -> None:
    """Build requirements are not looked up: the root's packages are Debian's, rpm knows none."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    stamp = [f"SOURCE_DATE_EPOCH={epoch}"] if epoch else []
    rpmbuild = ["rpmbuild", "--nodeps", f"--define=_topdir {place.top}", *arguments]
    environment = ["/usr/bin/env", "HOME=/root", *stamp, *place.environment]
    run_in_root(
        root,
        ["sh", "-c", IN_PLACE, "sh", place.hostname, place.umask, *environment, *rpmbuild],
        timeout_s=BUILD_LIMIT_S,
    )
