# SPDX-License-Identifier: MulanPSL-2.0
"""What a person types and sees."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.supply.bundle.__main__ import build_parser, main, part_size

from .bundle_scene import Scene, put_model

GIB = 2**30
pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize(
    ("text", "size"),
    [("2G", 2 * GIB), ("512M", GIB // 2), ("1048576", 2**20), ("1gib", GIB), ("4G", 2**32 - 1)],
)
def test_part_sizes(text: str, size: int) -> None:
    assert part_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "-1", "5G", "1K", "2T", "1.5G", "G", "9" * 30])
def test_part_sizes_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        part_size(text)


def test_a_wrong_part_size_is_refused_with_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args(["create", "8b", "-o", "x", "--part-size", "5G"])
    assert "5G" in capsys.readouterr().err


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """Without an image, so that any machine can import it."""
    made = Scene(tmp_path)
    put_model(made.model, {"config.json": b"{}"})
    made.models_dir.mkdir(parents=True)
    return made


def test_all_commands(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    output, models = str(scene.output), str(scene.models_dir)
    signers = ["--signers", str(scene.signers)]
    assert main(["create", "8b", "-o", output, "--model", str(scene.model), "--check"]) == 0
    assert "bundle of 8b" in capsys.readouterr().out
    assert main(["verify", output, *signers]) == 0
    assert capsys.readouterr().out.startswith("whole: bundle of 8b")
    assert os.listdir(models) == []
    for expected in ("model brought; ", "model was there already; "):
        assert main(["import", output, "--models-dir", models, *signers]) == 0
        printed = capsys.readouterr()
        assert printed.out.startswith(expected)
        assert f"signature not checked: there is no {scene.signers}" in printed.out


def test_a_refusal_in_words(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(scene.root)]) == 1
    printed = capsys.readouterr().err
    assert "[source-not-found]" in printed
    assert "hint: " in printed


def test_it_is_a_process_of_its_own() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "agent.supply.bundle", "create", "--help"],
        cwd=Path(__file__).resolve().parents[3],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--part-size" in done.stdout
