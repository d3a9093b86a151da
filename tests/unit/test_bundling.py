# SPDX-License-Identifier: MulanPSL-2.0
"""`deepseekctl bundle`: `create --arch`, as a process, with the stand-in for Podman's storage;
`import` beside an agent whose instance is pinned.
"""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent import bundling
from agent.config.values import ModelRepo
from agent.errors import Code, HostUnavailable
from agent.status.snapshot import Snapshot, UpdateView
from agent.supplies import Hub, Supply
from tests.build import SUPPLY, build_config, build_profile, build_snapshot, build_view

from .supply.bundle_scene import MODEL, Scene, podman_in, put_image, put_model

TREE = Path(__file__).resolve().parents[2]
IMAGE = "localhost/vllm:1"
AS_ROOT = os.geteuid() == 0
pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.skipif(not AS_ROOT, reason="only root may make a bundle"),
]


@dataclass
class Maker:
    """A machine that has the image, for amd64."""

    folder: Path

    @property
    def output(self) -> Path:
        return self.folder / "stick"

    def create(self, *words: str) -> subprocess.CompletedProcess[str]:
        folders = ("--etc", str(self.folder / "etc"), "--share", str(TREE / "etc"))
        command = (sys.executable, "-m", "agent.cli", "bundle", "create", "8b")
        return subprocess.run(
            (*command, "-o", str(self.output), *folders, *words),
            env={**os.environ, "PATH": f"{self.folder}:{os.environ['PATH']}"},
            cwd=TREE,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    podman_in(tmp_path)
    put_image(tmp_path / "images", architecture="amd64", reference=IMAGE)
    (tmp_path / "etc/models.d").mkdir(parents=True)
    profile = tmp_path / "etc/models.d/8b.toml"
    profile.write_text(f'image = "{IMAGE}"\n', encoding="utf-8")
    return Maker(tmp_path)


def test_an_image_that_no_registry_has_is_for_one_kind(maker: Maker) -> None:
    made = maker.create("--arch", "arm64")
    assert (made.returncode, made.stdout) == (1, "")
    assert f"cannot bring {IMAGE} for arm64: no registry has it [image-missing]" in made.stderr
    assert "hint: " in made.stderr
    assert os.listdir(maker.output) == []


def test_a_kind_that_nobody_knows(maker: Maker) -> None:
    made = maker.create("--arch", "aarch64")
    assert made.returncode == 2
    assert "arm64" in made.stderr


def test_where_it_cannot_be_written_nothing_is_fetched_for_it(maker: Maker) -> None:
    maker.output.mkdir()
    (maker.output / "deepseek-bundle.json").touch()
    made = maker.create("--arch", "arm64")
    assert "there is deepseek-bundle.json already" in made.stderr
    assert made.returncode == 1


def test_without_its_key_nothing_is_fetched_for_it(maker: Maker) -> None:
    made = maker.create("--arch", "arm64", "--sign", "/nonexistent/key")
    assert "cannot sign the bundle with /nonexistent/key: it cannot be read" in made.stderr
    assert made.returncode == 1


# --- import --------------------------------------------------------------------------------------

OLD, NEW = "a" * 40, "b" * 40


@dataclass
class FakeClient:
    """`AgentClient`."""

    snapshot: Snapshot | None
    pulled: list[str]

    def status(self) -> Snapshot:
        if self.snapshot is None:
            raise HostUnavailable(Code.AGENT_UNREACHABLE, "nobody is there")
        return self.snapshot

    def pull(self, instance: str) -> None:
        self.pulled.append(instance)

    def close(self) -> None:
        pass


@pytest.mark.parametrize("answers", [True, False])
def test_an_import_beside_what_is_pinned(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answers: bool,
) -> None:
    scene, pulled = Scene(tmp_path), list[str]()
    scene.prepare()
    put_model(scene.model, revision=OLD)
    scene.create(image="", output=tmp_path / "first")
    scene.bring(tmp_path / "first")
    put_model(scene.model, {**MODEL, "config.json": b"{}"}, revision=NEW)
    scene.create(image="")
    directory = scene.models_dir / "small"
    source = ModelRepo(Hub.MODELSCOPE, "deepseek-ai/small", "master")
    config = build_config(build_profile(model=str(directory), sources=(source,)), supply=SUPPLY)
    monkeypatch.setattr(bundling, "_read_config", lambda _: config)
    update = UpdateView(
        False, Supply("x:1", "0" * 64, "", str(directory), OLD, 0.0), None, None, None, None, 0.0
    )
    snapshot = build_snapshot(build_view(update=update)) if answers else None
    monkeypatch.setattr(bundling, "AgentClient", lambda _: FakeClient(snapshot, pulled))
    signers = ("--signers", str(scene.signers))
    assert bundling.main(["import", str(scene.output), *signers]) == 0
    first, *more = capsys.readouterr().out.splitlines()
    assert first.startswith("model brought; ")
    assert pulled == ["8b"]
    if answers:
        assert [line.startswith("8b goes on with ") for line in more] == [True]
    assert bool(more) is answers
    assert os.readlink(directory).endswith(OLD if answers else NEW)
