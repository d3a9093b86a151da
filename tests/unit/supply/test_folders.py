# SPDX-License-Identifier: MulanPSL-2.0
"""A model on a disk in the import folder: found, copied whole, held against its manifest."""

import os
import time
from pathlib import Path

import pytest

from agent.errors import AgentError, Code
from agent.supplies import Progress
from agent.supply.folders import copy_model, find_model_folder
from agent.supply.manifest import make_manifest, read_manifest, write_manifest

NAME = "DeepSeek-R1-Distill-Llama-8B"
FILES = {"config.json": b"{}", "model.safetensors": b"weights" * 1000, "sub/tokenizer.json": b"[]"}


def put_model(folder: Path, age_s: float = 60.0) -> Path:
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    make_older(folder, age_s)
    return folder


def make_older(folder: Path, age_s: float = 60.0) -> None:
    then = time.time() - age_s
    for path in folder.rglob("*"):
        os.utime(path, (then, then))


@pytest.fixture
def directory(tmp_path: Path) -> str:
    (tmp_path / "models").mkdir()
    return str(tmp_path / "models" / NAME)


def copy(folder: Path, directory: str) -> list[Progress]:
    told: list[Progress] = []
    copy_model(folder, directory, 0, told.append)
    return told


def contents(directory: str) -> dict[str, bytes]:
    return {name: (Path(directory) / name).read_bytes() for name in FILES}


@pytest.mark.parametrize("place", [NAME, f"usb/{NAME}"])
def test_it_is_found_and_copied(tmp_path: Path, directory: str, place: str) -> None:
    put_model(tmp_path / "import" / place)
    found = find_model_folder(tmp_path / "import", NAME)
    assert found == tmp_path / "import" / place
    copy(found, directory)
    assert contents(directory) == FILES
    manifest = read_manifest(Path(directory))
    assert manifest is not None
    assert {file.path for file in manifest.files} == set(FILES)
    assert Path(directory).is_symlink()
    assert not (Path(directory).parent / ".incoming" / NAME).exists()


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_what_is_no_model_is_passed_over(tmp_path: Path, missing: str) -> None:
    (put_model(tmp_path / "import" / NAME) / missing).unlink()
    assert find_model_folder(tmp_path / "import", NAME) is None
    assert find_model_folder(tmp_path / "none", NAME) is None


def test_one_that_is_being_copied_is_waited_for(tmp_path: Path, directory: str) -> None:
    folder = put_model(tmp_path / NAME, age_s=0.0)
    with pytest.raises(AgentError, match="still being copied") as caught:
        copy(folder, directory)
    assert caught.value.failure.code is Code.SOURCE_UNREACHABLE
    assert not os.path.lexists(directory)


def test_a_manifest_beside_it_is_believed_and_held_against_it(
    tmp_path: Path, directory: str
) -> None:
    folder = put_model(tmp_path / NAME)
    write_manifest(folder, make_manifest(folder))
    damaged = bytearray(FILES["model.safetensors"])
    damaged[9] ^= 1
    (folder / "model.safetensors").write_bytes(damaged)
    make_older(folder)
    with pytest.raises(AgentError, match=r"model\.safetensors is not what its manifest") as caught:
        copy(folder, directory)
    assert caught.value.failure.code is Code.CONTENT_DAMAGED
    assert not os.path.lexists(directory)
    (folder / "model.safetensors").write_bytes(FILES["model.safetensors"])
    make_older(folder)
    copy(folder, directory)
    assert contents(directory) == FILES


def test_a_copy_that_was_ended_goes_on(tmp_path: Path, directory: str) -> None:
    folder = put_model(tmp_path / NAME)

    class Ended(Exception):
        pass

    def end(progress: Progress) -> None:
        raise Ended

    with pytest.raises(Ended):
        copy_model(folder, directory, 0, end)
    staging = Path(directory).parent / ".incoming" / NAME
    assert not os.path.lexists(directory)
    assert list(staging.iterdir()) != []
    copy(folder, directory)
    assert contents(directory) == FILES


def rewrite(path: Path, content: bytes) -> bytes:
    """As `rsync --checksum` and `cp --preserve` do: size and time are as they were; what it was."""
    before, status = path.read_bytes(), path.stat()
    assert len(content) == len(before)
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    return before


def flip(path: Path) -> bytes:
    """One byte is wrong."""
    content = path.read_bytes()
    return rewrite(path, bytes([content[0] ^ 1]) + content[1:])


def test_what_was_copied_anew_is_read_anew(tmp_path: Path, directory: str) -> None:
    folder = put_model(tmp_path / NAME)
    write_manifest(folder, make_manifest(folder))
    weights = folder / "model.safetensors"
    right = flip(weights)
    for _ in range(2):
        with pytest.raises(AgentError, match=r"model\.safetensors is not what its manifest"):
            copy(folder, directory)
    rewrite(weights, right)
    copy(folder, directory)
    assert contents(directory) == FILES


def test_a_copy_that_is_wrong_is_made_anew(tmp_path: Path, directory: str) -> None:
    """What lies there is right, what was staged here is not: a bad read, a bad block."""
    folder = put_model(tmp_path / NAME)
    write_manifest(folder, make_manifest(folder))
    right = flip(folder / "model.safetensors")
    with pytest.raises(AgentError, match="is not what its manifest"):
        copy(folder, directory)
    rewrite(folder / "model.safetensors", right)
    staged = [*(Path(directory).parent / ".incoming" / NAME).glob("copy-*")]
    assert len(staged) == len(FILES) - 1
    for one in staged:
        flip(one)
    with pytest.raises(AgentError, match=r"config\.json, sub/tokenizer\.json is not what"):
        copy(folder, directory)
    copy(folder, directory)
    assert contents(directory) == FILES


def test_no_room_is_told_before_the_first_byte(tmp_path: Path, directory: str) -> None:
    folder = put_model(tmp_path / NAME)
    with pytest.raises(AgentError) as caught:
        copy_model(folder, directory, 2**40, lambda progress: None)
    assert caught.value.failure.code is Code.DISK_TOO_FULL
    assert not os.path.lexists(directory)
