# SPDX-License-Identifier: MulanPSL-2.0
"""`deepseekctl image build`: what Podman is asked for, and that the process becomes it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]
STAND_IN = """#!/bin/sh
printf '%s\\n' "$@"
cat
exit 7
"""


def build(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / "podman").write_text(STAND_IN, encoding="utf-8")
    (folder / "podman").chmod(0o755)
    argv = (sys.executable, "-m", "agent.cli", "image", "build", *words)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    return subprocess.run(
        argv, cwd=TREE, env=environment, capture_output=True, text=True, check=False
    )


def test_it_becomes_podman(tmp_path: Path) -> None:
    file = tmp_path / "Containerfile"
    file.write_text("FROM scratch\n", encoding="utf-8")
    done = build(
        tmp_path,
        "--base=quay.io/ascend/cann:8",
        "--tag=localhost/mine:1",
        "--build-arg=VLLM_VERSION=0.18.0",
        f"--file={file}",
    )
    assert done.returncode == 7
    assert done.stdout.splitlines() == [
        "build",
        "--tag=localhost/mine:1",
        "--build-arg=BASE=quay.io/ascend/cann:8",
        "--build-arg=VLLM_VERSION=0.18.0",
        "-",
        "FROM scratch",
    ]


def test_the_one_that_is_shipped_names_its_base_first() -> None:
    lines = (TREE / "etc/Containerfile").read_text(encoding="utf-8").splitlines()
    told = [line for line in lines if line and not line.startswith("#")]
    assert told[0].startswith("ARG BASE=quay.io/ascend/cann:")
    assert told[1] == "FROM ${BASE}"


@pytest.mark.parametrize("words", [("--build-arg=no value",), ("--file=/missing",)])
def test_what_cannot_be_built(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = build(tmp_path, *words)
    assert done.returncode in (2, 69)
    assert done.stdout == ""
    assert words[0].partition("=")[2] in done.stderr
