# SPDX-License-Identifier: MulanPSL-2.0
"""kill -9 of a real process at random moments: it goes on, and no half model is ever seen."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.supply.bundle.bring import ARCHITECTURES
from agent.supply.bundle.format import BUNDLE_NAME, RECORDS_NAME
from agent.supply.bundle.opened import open_bundle, verify

from .bundle_scene import REFERENCE, Scene, content_of, put_image, put_model

TREE = Path(__file__).resolve().parents[3]
KILLS = 20
DEADLINE_S = 120.0
RECORD_BYTES = 130  # about one part's line
MIB = 2**20

pytestmark = pytest.mark.timeout(600)


def make_chance() -> random.Random:
    seed = int.from_bytes(os.urandom(4), "big")
    print("seed", seed)  # shown when the test fails
    return random.Random(seed)  # noqa: S311 - moments, no secrets


def start(root: Path, machine: str, arguments: Sequence[str]) -> "subprocess.Popen[bytes]":
    path = f"{root / machine}:{os.environ['PATH']}"
    return subprocess.Popen(
        [sys.executable, "-m", "agent.supply.bundle", *arguments],
        cwd=TREE,
        env=os.environ | {"PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def kill_after(child: "subprocess.Popen[bytes]", records: Path, grown: int, delay_s: float) -> None:
    """When `records` has grown by so much since now, and a moment later: anywhere in between."""
    before = size_of(records)
    deadline = time.monotonic() + DEADLINE_S
    while child.poll() is None and time.monotonic() < deadline:
        if size_of(records) >= before + grown:
            break
        time.sleep(0.001)
    time.sleep(delay_s)
    child.kill()
    child.communicate()


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def finish(root: Path, machine: str, arguments: Sequence[str]) -> str:
    child = start(root, machine, arguments)
    output = child.communicate(timeout=DEADLINE_S)[0].decode()
    assert child.returncode == 0, output
    return output


def scene_for_this_machine(root: Path, files: dict[str, bytes], image: bytes) -> Scene:
    scene = Scene(root)
    scene.prepare()
    put_model(scene.model, files)
    machine = os.uname().machine
    put_image(root / "maker/images", image, ARCHITECTURES.get(machine, machine))
    return scene


def test_an_import_that_is_killed_again_and_again(tmp_path: Path) -> None:
    chance = make_chance()
    files = {f"model-{n}.safetensors": chance.randbytes(90_000 + n) for n in range(6)}
    scene = scene_for_this_machine(tmp_path, files, chance.randbytes(100_000))
    (scene.model / "config.json").unlink()
    (scene.model / "empty.txt").unlink()
    scene.create(part_bytes=16 * 1024)
    arguments = ["import", str(scene.output), "--models-dir", str(scene.models_dir)]
    arguments += ["--signers", str(scene.signers)]
    records = scene.models_dir / ".incoming/.bundle-8b/records"
    seen = scene.models_dir / "small"
    for _ in range(KILLS):
        child = start(tmp_path, "host", arguments)
        kill_after(child, records, chance.randrange(6) * RECORD_BYTES, chance.random() * 0.02)
        assert not os.path.lexists(seen) or content_of(seen) == files
    assert "signature not checked" in finish(tmp_path, "host", arguments)
    assert content_of(seen) == files
    assert scene.leftovers() == []
    assert len(os.listdir(scene.models_dir / ".store/small")) == 1
    assert REFERENCE in (tmp_path / "host/images/names.json").read_text(encoding="utf-8")


def test_a_creation_that_is_killed_again_and_again(tmp_path: Path) -> None:
    chance = make_chance()
    files = {f"model-{n}.safetensors": chance.randbytes(MIB * 3 // 2 + n) for n in range(5)}
    scene = scene_for_this_machine(tmp_path, files, chance.randbytes(MIB * 5 // 2))
    for old in ("config.json", "empty.txt"):
        (scene.model / old).unlink()
    arguments = ["create", "8b", "-o", str(scene.output), "--image", REFERENCE]
    arguments += ["--model", str(scene.model), "--part-size", "1M"]
    for _ in range(KILLS):
        child = start(tmp_path, "maker", arguments)
        records = scene.output / RECORDS_NAME
        kill_after(child, records, chance.randrange(2) * RECORD_BYTES, chance.random() * 0.01)
        if (scene.output / BUNDLE_NAME).exists():  # the last kill came after the end
            break
        print("killed at", size_of(records))
    else:
        finish(tmp_path, "maker", [*arguments, "--check"])
    opened = open_bundle(scene.output, scene.signers)
    verify(opened, scene.told.append)
    assert opened.bundle.model is not None
    assert opened.bundle.model.manifest.size == sum(map(len, files.values()))
    finish(tmp_path, "host", ("import", str(scene.output), "--models-dir", str(scene.models_dir)))
    assert content_of(scene.models_dir / "small") == files
