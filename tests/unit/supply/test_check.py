# SPDX-License-Identifier: MulanPSL-2.0
"""`deepseekctl verify`: a model that is as it was, and each way in which one is not."""

from pathlib import Path

import pytest

from agent.errors import AgentError, Code
from agent.supplies import Progress
from agent.supply.__main__ import main
from agent.supply.check import check_model
from agent.supply.manifest import make_manifest, write_manifest


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "sub/tokenizer.json"):
        (folder / name).write_bytes(name.encode() * 1000)
    write_manifest(folder, make_manifest(folder))
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(AgentError) as caught:
        check_model(folder, lambda progress: None)
    assert caught.value.failure.code in (Code.MODEL_INVALID, Code.MODEL_MISSING)
    return caught.value.failure.message


def test_as_it_was(model: Path) -> None:
    told: list[Progress] = []
    assert check_model(model, told.append) == "3 files, 46.0 kB, all as they were"
    assert told[-1].total_bytes == 46_000


def test_one_flipped_bit_is_named(model: Path) -> None:
    content = bytearray((model / "model.safetensors").read_bytes())
    content[7] ^= 1
    (model / "model.safetensors").write_bytes(content)
    assert "model.safetensors: its content is not what it was" in refusal(model)
    assert "config.json" not in refusal(model)


def test_all_that_is_wrong_is_told(model: Path) -> None:
    (model / "config.json").unlink()
    (model / "sub/tokenizer.json").write_bytes(b"short")
    said = refusal(model)
    assert "config.json: missing" in said
    assert "sub/tokenizer.json: 5 bytes, not 18000" in said


def test_without_a_manifest_nobody_can_tell(model: Path) -> None:
    (model / "deepseek-manifest.json").unlink()
    assert "no manifest" in refusal(model)
    assert "not there" in refusal(model / "none")


def test_the_command(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(model)]) == 0
    assert capsys.readouterr().out == f"{model}: 3 files, 46.0 kB, all as they were\n"
    (model / "config.json").unlink()
    assert main(["verify", str(model)]) == 1
    assert "config.json: missing [model-invalid]" in capsys.readouterr().err
