# SPDX-License-Identifier: MulanPSL-2.0
"""The packages as files: the same bytes wherever they are built, built from the source package
alone, without a word of rpmlint, and with a list of what they carry that is true.
"""

import hashlib
import json
import platform
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from . import product
from .build import Place, build_rpm, rebuild_rpm
from .linting import rpmlint
from .process import run_command
from .rootfs import Flavour, copy_root
from .sbom_schema import list_faults

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

# What ships: Python 3.11.
FLAVOUR = Flavour.LEGACY
ELSEWHERE = Place(
    hostname="elsewhere.example",
    umask="077",
    environment=("TZ=Asia/Shanghai", "LANG=C", "PYTHONHASHSEED=7"),
)
OTHER_FOLDER = replace(ELSEWHERE, top="/home/somebody/rpmbuild")
NOT_COPIED = (".venv", "build", "__pycache__", ".*_cache", ".hypothesis")
SBOM = "usr/share/deepseek-agent/sbom/deepseek-agent.cdx.json"
VENDOR = "usr/lib64/deepseek-agent/vendor"


@pytest.fixture(scope="module")
def packages() -> list[Path]:
    """As built once for all tests of the lab; the source package is last."""
    return sorted(product.packages(FLAVOUR), key=lambda rpm: rpm.name.endswith(".src.rpm"))


@pytest.fixture(scope="module")
def files(packages: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What is in the package of this machine's architecture."""
    folder = tmp_path_factory.mktemp("files")
    (binary,) = (rpm for rpm in packages if rpm.name.endswith(f".{platform.machine()}.rpm"))
    rpm = shutil.copy(binary, folder / "agent.rpm")
    run_command(["rpm2archive", str(rpm)])
    run_command(["tar", "-xzf", f"{rpm}.tgz", "-C", str(folder)])
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def document(files: Path) -> Any:
    return json.loads((files / SBOM).read_text())


def digests(packages: list[Path]) -> dict[str, str]:
    return {rpm.name: hashlib.sha256(rpm.read_bytes()).hexdigest() for rpm in packages}


@pytest.mark.long
def test_another_place_and_time_make_the_same_bytes(packages: list[Path], tmp_path: Path) -> None:
    tree = tmp_path / "elsewhere"
    shutil.copytree(product.TREE, tree, symlinks=True, ignore=shutil.ignore_patterns(*NOT_COPIED))
    again = build_rpm(FLAVOUR, tree, tmp_path / "out", place=ELSEWHERE)
    assert digests(again) == digests(packages)


@pytest.mark.long
def test_the_source_package_alone_makes_the_same_bytes(
    packages: list[Path], tmp_path: Path
) -> None:
    """Offline, in another folder: it is in the source package, as rpm keeps the expanded spec."""
    *binaries, source = packages
    again = rebuild_rpm(lambda root: copy_root(FLAVOUR, root), source, tmp_path, OTHER_FOLDER)
    assert digests(again) == digests(binaries)


def test_rpmlint_has_nothing_to_say(packages: list[Path]) -> None:
    assert rpmlint(packages) == []


def test_what_is_carried_is_listed(files: Path, document: Any) -> None:
    lock = (product.TREE / "requirements.lock").read_text()
    pins = set(re.findall(r"^([A-Za-z0-9._-]+)==([^\s\\;]+)", lock, re.MULTILINE))
    names = {
        (re.sub(r"[-_.]+", "-", one["name"]).lower(), one["version"])
        for one in document["components"]
    }
    assert names == pins
    hashes = [digest_["content"] for one in document["components"] for digest_ in one["hashes"]]
    assert [one for one in hashes if f"sha256:{one}" not in lock] == []
    assert list_faults(document) == []


def test_a_fault_in_the_list_is_seen(document: Any) -> None:
    assert list_faults({**document, "specVersion": 1}) != []


def test_each_carried_package_has_its_licence(files: Path, document: Any) -> None:
    for one in document["components"]:
        name = re.sub(r"[-.]+", "_", one["name"])
        (folder,) = (files / VENDOR).glob(f"{name}-{one['version']}.dist-info")
        texts = [path for path in folder.rglob("*") if "LICEN" in path.name.upper()]
        assert any(path.is_file() and path.stat().st_size > 500 for path in texts), one["name"]


def test_what_is_compiled_in_is_listed(document: Any) -> None:
    """pydantic-core tells of its crates; without them the licences would not be all."""
    (core,) = (one for one in document["components"] if one["name"] == "pydantic_core")
    crates = {one["name"]: one["licenses"][0]["expression"] for one in core["components"]}
    assert crates["pyo3"] == "MIT OR Apache-2.0"
    assert "Unicode-3.0" in crates.values()
