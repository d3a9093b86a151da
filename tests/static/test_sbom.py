# SPDX-License-Identifier: MulanPSL-2.0
"""rpm/sbom refuses what it cannot tell, and a License: tag that is not what the wheels say."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]
SPEC = "Name: deepseek-agent\nVersion: 1.0\nLicense: MulanPSL-2.0 AND {tag}\n"
METADATA = "Metadata-Version: 2.4\nName: some.wheel\nVersion: 2\nSummary: s\n{told}\n\ntext\n"


def run(folder: Path, told: str, tag: str) -> subprocess.CompletedProcess[str]:
    """With one wheel that says so of its licence, and a spec that says so of the package's."""
    for name in ("rpm", "wheels"):
        (folder / name).mkdir()
    shutil.copy(TREE / "rpm/sbom", folder / "rpm")
    (folder / "rpm/deepseek-agent.spec").write_text(SPEC.format(tag=tag))
    with zipfile.ZipFile(folder / "wheels/some_wheel-2-py3-none-any.whl", "w") as wheel:
        wheel.writestr("some_wheel-2.dist-info/METADATA", METADATA.format(told=told))
    sbom = [sys.executable, "-ISB", "rpm/sbom", "aarch64", "wheels", "out.json"]
    return subprocess.run(sbom, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("told", "tag"),
    [
        ("License-Expression: MIT", "MIT"),
        ("License: MIT", "MIT"),
        ("License-Expression: GPL-3.0-only OR MIT", "MIT"),
        ("License-Expression: MIT AND Zlib", "MIT AND Zlib"),
        ("License-Expression: (GPL-3.0-only OR Zlib) AND PSF-2.0", "Zlib AND PSF-2.0"),
        ("License-Expression: GPL-3.0-only AND Zlib OR MIT", "MIT"),
    ],
)
def test_covered(tmp_path: Path, told: str, tag: str) -> None:
    done = run(tmp_path, told, tag)
    assert (done.returncode, done.stderr) == (0, "")
    (component,) = json.loads((tmp_path / "out.json").read_text())["components"]
    assert component["licenses"][0]["expression"] == told.partition(": ")[2]
    assert component["purl"] == "pkg:pypi/some-wheel@2"


@pytest.mark.parametrize(
    ("told", "tag", "refusal"),
    [
        ("License-Expression: MIT AND Zlib", "MIT", "does not cover"),
        ("License-Expression: (MIT OR Zlib) AND PSF-2.0", "MIT", "does not cover"),
        ("License-Expression: MIT WITH LLVM-exception", "MIT", "does not cover"),
        ("License-Expression: MIT", "MIT AND Zlib", "nothing carried is under Zlib"),
        ("License-Expression: MIT AND (Zlib", "MIT AND Zlib", "cannot read"),
        ("License-Expression: MIT Zlib", "MIT AND Zlib", "cannot read"),
        ("License: see the file", "MIT", "is not told"),
        ("", "MIT", "is not told"),
    ],
)
def test_refused(tmp_path: Path, told: str, tag: str, refusal: str) -> None:
    done = run(tmp_path, told, tag)
    assert (done.returncode, refusal in done.stderr) == (1, True), done.stderr
    assert not (tmp_path / "out.json").exists()
