# SPDX-License-Identifier: MulanPSL-2.0
"""The linters, as tests: `pytest` is the only command."""

import subprocess
import sys
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]
PYTHON_SCRIPTS = (
    *("rpm/bundled", "rpm/check-install", "rpm/choose-wheels", "rpm/install-vendor"),
    *("rpm/prepare-sources", "rpm/sbom", "rpm/install-docs", "rpm/list-files"),
    "etc/monitoring/notify.py",
)
SHELL_SCRIPTS = ("tests/prepare", ".ci/run", "units/front-is-up", "units/front-stopped", "rpm/lock")

pytestmark = pytest.mark.timeout(240)


def run(*argv: str) -> None:
    done = subprocess.run(argv, cwd=TREE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(argv)}\n{done.stdout}{done.stderr}"


def test_ruff() -> None:
    run(sys.executable, "-m", "ruff", "check", "agent", "tests")


def test_format() -> None:
    run(sys.executable, "-m", "ruff", "format", "--check", "agent", "tests")


def test_scripts_of_the_package() -> None:
    run(sys.executable, "-m", "ruff", "check", *PYTHON_SCRIPTS)


def test_mypy() -> None:
    run(sys.executable, "-m", "mypy")


def test_spelling() -> None:
    run(sys.executable, "-m", "codespell_lib", "agent", "docs", "etc", "units", "README.md")


def test_dead_code() -> None:
    run(sys.executable, "-m", "vulture")


def test_shell_scripts() -> None:
    run("shellcheck", *SHELL_SCRIPTS)


def test_the_list_of_bundled_packages_is_fresh() -> None:
    run(sys.executable, "rpm/bundled", "--check")


def test_units() -> None:
    """systemd's own reading of the units that we ship; paths of the package are not there."""
    units = sorted(str(path) for path in (TREE / "units").glob("*.*") if path.suffix != ".preset")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in done.stderr.splitlines() if "deepseek" in line]
    unexpected = [line for line in lines if "is not executable" not in line]
    assert unexpected == []


def test_python_scripts_carry_their_licence() -> None:
    for path in [*TREE.glob("agent/**/*.py"), *TREE.glob("tests/**/*.py")]:
        head = path.read_text(encoding="utf-8").splitlines()[:2]
        assert any("SPDX-License-Identifier: MulanPSL-2.0" in line for line in head), path
