# SPDX-License-Identifier: MulanPSL-2.0
"""A model on a disk in the import folder: found, copied whole, held against its manifest."""

import hashlib
import json
import os
import struct
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from agent.errors import AgentError, Code
from agent.supplies import MANIFEST_NAME, ModelOrder, Order, Progress
from agent.supply.errand import carry_out
from agent.supply.folders import copy_model, find_model_folders
from agent.supply.manifest import make_manifest, read_manifest, write_manifest
from agent.supply.settling import is_being_copied

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
    within = Path(directory).parents[1]
    copy_model(folder, directory, 0, told.append, within=within, settled_s=0.0)  # copied long ago
    return told


def contents(directory: str) -> dict[str, bytes]:
    return {name: (Path(directory) / name).read_bytes() for name in FILES}


@pytest.mark.parametrize("place", [NAME, f"usb/{NAME}"])
def test_it_is_found_and_copied(tmp_path: Path, directory: str, place: str) -> None:
    put_model(tmp_path / "import" / place)
    (found,) = find_model_folders(tmp_path / "import", NAME)
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
    assert find_model_folders(tmp_path / "import", NAME) == ()
    assert find_model_folders(tmp_path / "none", NAME) == ()


def test_one_that_is_being_copied_is_waited_for(tmp_path: Path, directory: str) -> None:
    """Whatever times it brought: it has just come here."""
    folder = put_model(tmp_path / NAME, age_s=86_400.0)
    with pytest.raises(AgentError, match="still being copied") as caught:
        copy_model(folder, directory, 0, lambda progress: None, within=tmp_path)
    assert caught.value.failure.code is Code.SOURCE_UNREACHABLE
    assert not os.path.lexists(directory)


# --- half a model --------------------------------------------------------------------------------


def safetensors(size: int = 64) -> bytes:
    header = json.dumps({"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(size)


def index_of(*names: str) -> bytes:
    return json.dumps({"weight_map": {str(at): name for at, name in enumerate(names)}}).encode()


INDEX, BIN_INDEX = "model.safetensors.index.json", "pytorch_model.bin.index.json"
ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
OLD_STYLE = b"PK\x03\x04" + bytes(9) + b"PK\x05\x06" + bytes(18)  # of torch.save
WHOLE: dict[str, dict[str, bytes]] = {
    "one file": {"model.safetensors": safetensors()},
    "of a kind that nobody knows yet": {"model.safetensors": b"weights" * 10},
    "an index": {INDEX: index_of("a.safetensors", "b.safetensors"), "a.safetensors": safetensors()}
    | {"b.safetensors": safetensors()},
    "an index of a folder": {INDEX: index_of("x.safetensors", "in/b.safetensors")}
    | {"x.safetensors": safetensors(), "in/b.safetensors": safetensors()},
    "numbers": {ONE: safetensors(), TWO: safetensors()},
    "numbers and an index": {INDEX: index_of(ONE, TWO), ONE: safetensors(), TWO: safetensors()},
    "many without an index": {"a.safetensors": safetensors(), "b.safetensors": safetensors()},
    "the index of what was left out": {BIN_INDEX: index_of("pytorch_model-00001-of-00002.bin")}
    | {"model.safetensors": safetensors()},
    "bin": {"pytorch_model.bin": OLD_STYLE},
    "bin as of old": {"pytorch_model.bin": b"\x80\x02rest"},
    "bin in parts": {BIN_INDEX: index_of("pytorch_model-00001-of-00001.bin")}
    | {"pytorch_model-00001-of-00001.bin": OLD_STYLE},
    "what rsync left of a run before": {"model.safetensors": safetensors()}
    | {".model.safetensors.Ab3dEf": b"half"},
}
HALF: dict[str, tuple[str, dict[str, bytes]]] = {
    "an index, a shard": (TWO, {INDEX: index_of(ONE, TWO), ONE: safetensors()}),
    "a shard, the index is last": (TWO, {ONE: safetensors()}),
    "shards without numbers": (
        "b.safetensors: missing",
        {INDEX: index_of("a.safetensors", "b.safetensors"), "a.safetensors": safetensors()},
    ),
    "half an index": (INDEX, {INDEX: index_of(ONE, TWO)[:-9], "a.safetensors": safetensors()}),
    "a shard of bin": ("00002-of-00002.bin", {"pytorch_model-00001-of-00002.bin": OLD_STYLE}),
    "an index of bin": (
        "b.bin: missing",
        {BIN_INDEX: index_of("a.bin", "b.bin"), "a.bin": OLD_STYLE},
    ),
    "a file that was cut": ("model.safetensors: ", {"model.safetensors": safetensors()[:-1]}),
    "cut in its header": ("model.safetensors: ", {"model.safetensors": safetensors()[:20]}),
    "begun": ("model.safetensors: ", {"model.safetensors": b""}),
    "room that was taken first": ("model.safetensors: ", {"model.safetensors": bytes(4096)}),
    "room behind the header": (
        "model.safetensors: ",
        {"model.safetensors": safetensors()[:10] + bytes(4096)},
    ),
    "bin that was cut": ("pytorch_model.bin: ", {"pytorch_model.bin": OLD_STYLE[:-25]}),
    "a pointer of git-lfs": (
        "model.safetensors: ",
        {"model.safetensors": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n"},
    ),
    "rsync is at the tokenizer": (
        "tokenizer.json: missing",
        {"model.safetensors": safetensors(), ".tokenizer.json.Ab3dEf": b"{"},
    ),
    "aria2 is at it": (
        "model.safetensors.aria2",
        {"model.safetensors": safetensors(), "model.safetensors.aria2": b"x"},
    ),
    "a download beside it": (
        "tokenizer.json.part",
        {"model.safetensors": safetensors(), "tokenizer.json.part": b"{"},
    ),
}


def put(folder: Path, files: dict[str, bytes]) -> Path:
    """As rsync leaves it: with the times that it had where it came from."""
    for name, content in {"config.json": b"{}", **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    make_older(folder, 86_400.0)
    return folder


@pytest.mark.parametrize("files", WHOLE.values(), ids=WHOLE)
def test_a_whole_one_is_taken(tmp_path: Path, directory: str, files: dict[str, bytes]) -> None:
    put(tmp_path / "import" / NAME, files)
    (folder,) = find_model_folders(tmp_path / "import", NAME)
    copy(folder, directory)
    there = {str(one.relative_to(directory)) for one in Path(directory).rglob("*.*")}
    assert there >= {name for name in files if not name.startswith(".")}


@pytest.mark.parametrize(("word", "files"), HALF.values(), ids=HALF)
def test_half_of_one_is_not(
    tmp_path: Path, directory: str, word: str, files: dict[str, bytes]
) -> None:
    folder = put(tmp_path / NAME, files)
    with pytest.raises(AgentError) as caught:
        copy(folder, directory)
    assert caught.value.failure.code is Code.SOURCE_UNREACHABLE
    assert word in caught.value.failure.message
    assert not os.path.lexists(directory)


def test_a_link_that_leads_nowhere_yet(tmp_path: Path, directory: str) -> None:
    """rsync brings links as they are, and what they lead to later."""
    folder = put(tmp_path / NAME, {"model.safetensors": safetensors()})
    (folder / "tokenizer.json").symlink_to("../blobs/abc")
    with pytest.raises(AgentError, match=r"tokenizer\.json: missing"):
        copy(folder, directory)
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs/abc").write_bytes(b"{}")
    copy(folder, directory)
    assert (Path(directory) / "tokenizer.json").read_bytes() == b"{}"


def test_what_its_manifest_names_is_waited_for(tmp_path: Path, directory: str) -> None:
    """By its name the manifest comes before the weights."""
    folder = put(tmp_path / NAME, {ONE: safetensors(), TWO: safetensors()})
    write_manifest(folder, make_manifest(folder))
    (folder / ONE).write_bytes(safetensors()[:-1])
    (folder / TWO).unlink()
    with pytest.raises(AgentError, match=f"{ONE}: .*{TWO}: missing") as caught:
        copy(folder, directory)
    assert caught.value.failure.code is Code.SOURCE_UNREACHABLE
    assert not os.path.lexists(directory)


CHANGES: dict[str, Callable[[Path], object]] = {
    "a file more": lambda folder: (folder / "tokenizer.json").write_bytes(b"{}"),
    "a longer file": lambda folder: (folder / "config.json").write_bytes(b'{"a": 1}'),
    "another file of the same time": lambda folder: put(folder, {"config.json": b"[]"}),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_one_that_changes_while_it_is_read(
    tmp_path: Path, directory: str, change: Callable[[Path], object]
) -> None:
    folder = put(tmp_path / NAME, {"model.safetensors": safetensors()})
    changed: list[object] = []

    def watch(_: Progress) -> None:
        if not changed:
            time.sleep(0.05)  # the kernel's clock has ticked
            changed.append(change(folder))

    with pytest.raises(AgentError, match="while it was copied") as caught:
        copy_model(folder, directory, 0, watch, within=tmp_path, settled_s=0.0)
    assert caught.value.failure.code is Code.SOURCE_UNREACHABLE
    assert not os.path.lexists(directory)
    copy(folder, directory)
    config = (Path(directory) / "config.json").read_bytes()
    assert config == (folder / "config.json").read_bytes()


def test_the_first_that_is_whole_is_taken(
    tmp_path: Path, directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of it was copied, then the disk itself was mounted there."""
    monkeypatch.setattr("agent.supply.errand.copy_model", partial(copy_model, settled_s=0.0))
    order = Order("8b", None, ModelOrder(directory, ()), import_folder=f"{tmp_path}/import")
    put(tmp_path / "import" / NAME, {ONE: safetensors()})
    failure = carry_out(order, lambda progress: None).failure
    assert failure is not None
    assert failure.code is Code.SOURCE_UNREACHABLE
    assert f"{TWO}: missing" in failure.message
    put(tmp_path / "import/.Trash" / NAME, {"model.safetensors": safetensors(4)})
    put(tmp_path / "import/usb" / NAME, {ONE: safetensors(), TWO: safetensors()})
    assert carry_out(order, lambda progress: None).failure is None
    assert sorted(read_names(directory)) == ["config.json", ONE, TWO]


@pytest.mark.parametrize("has_manifest", [False, True])
def test_where_all_has_to_be_signed_it_is_left_alone(
    tmp_path: Path, directory: str, monkeypatch: pytest.MonkeyPatch, has_manifest: bool
) -> None:
    """A manifest beside it says of itself whatever it likes."""
    monkeypatch.setattr("agent.supply.errand.copy_model", partial(copy_model, settled_s=0.0))
    order = Order("8b", None, ModelOrder(directory, ()), import_folder=f"{tmp_path}/import")
    folder, signers = put_model(tmp_path / "import" / NAME), tmp_path / "bundle-signers"
    if has_manifest:
        write_manifest(folder, replace(make_manifest(folder), hub="huggingface", revision="abc"))
    signers.touch()
    failure = carry_out(order, lambda progress: None, signers).failure
    assert failure is not None
    assert failure.code is Code.BUNDLE_UNTRUSTED
    assert f"cannot trust {folder}: it is not signed" in failure.message
    assert str(signers) in failure.hint
    assert not os.path.lexists(directory)
    signers.unlink()
    assert carry_out(order, lambda progress: None, signers).failure is None


def read_names(directory: str) -> list[str]:
    manifest = read_manifest(Path(directory))
    assert manifest is not None
    return [file.path for file in manifest.files]


def test_somebody_is_at_it(tmp_path: Path) -> None:
    """Also where only what is hidden changes, and whatever times the content has."""
    folder = put(tmp_path / NAME, {"sub/.cache/x.incomplete": b"", "model.safetensors": b"x"})
    assert is_being_copied(folder, 60.0)
    time.sleep(0.3)
    assert not is_being_copied(folder, 0.2)
    later = time.time() + 86_400
    os.utime(folder / "config.json", (later, later))  # of a host whose clock is wrong
    time.sleep(0.3)
    assert not is_being_copied(folder, 0.2)
    with (folder / "sub/.cache/x.incomplete").open("ab") as stream:
        stream.write(b"more")
    assert is_being_copied(folder, 0.2)
    assert not is_being_copied(tmp_path / "gone", 0.2)


# --- links ---------------------------------------------------------------------------------------


@pytest.fixture
def imports(tmp_path: Path) -> Path:
    """The import folder, beside which lies what is not for everybody."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/hub-token").write_text("hf_secret", encoding="utf-8")
    (tmp_path / "import").mkdir()
    return tmp_path / "import"


def link_file(folder: Path, secret: Path) -> None:
    (folder / "vocab.json").symlink_to(secret)


def link_file_by_link(folder: Path, secret: Path) -> None:
    (folder.parent / "blob").symlink_to(secret)
    (folder / "vocab.json").symlink_to("../blob")


def link_file_upwards(folder: Path, secret: Path) -> None:
    up = os.path.relpath(secret, folder)
    (folder / "vocab.json").symlink_to(up)


def link_folder_of_file(folder: Path, secret: Path) -> None:
    """Its manifest names a file behind a link that no look around would follow."""
    (folder / "sub/hub-token").write_bytes(secret.read_bytes())
    write_manifest(folder, make_manifest(folder))
    (folder / "sub/hub-token").unlink()
    (folder / "sub/tokenizer.json").rename(folder / "tokenizer.json")
    (folder / "sub").rmdir()
    (folder / "sub").symlink_to(secret.parent)
    (secret.parent / "tokenizer.json").write_bytes(FILES["sub/tokenizer.json"])


def link_manifest(folder: Path, secret: Path) -> None:
    (folder / MANIFEST_NAME).symlink_to(secret)


def link_folder(folder: Path, secret: Path) -> None:
    away = secret.parent / folder.name
    folder.rename(away)
    folder.symlink_to(away)


LEADING_OUT = (
    link_file,
    link_file_by_link,
    link_file_upwards,
    link_folder_of_file,
    link_manifest,
    link_folder,
)


@pytest.mark.parametrize("lead_out", LEADING_OUT)
def test_no_link_leads_out_of_the_import_folder(
    imports: Path, directory: str, lead_out: Callable[[Path, Path], None]
) -> None:
    """Who has written the disk must not have a file of this host in the container."""
    folder = put_model(imports / "usb" / NAME)
    lead_out(folder, imports.parent / "etc/hub-token")
    with pytest.raises(AgentError, match="leads out of") as caught:
        copy_model(folder, directory, 0, lambda _: None, within=imports, settled_s=0.0)
    assert caught.value.failure.code is Code.MODEL_INVALID
    assert str(folder) in caught.value.failure.message
    assert list((imports.parent / "models").rglob("*")) == []


def test_a_link_that_is_turned_while_the_model_is_copied(imports: Path, directory: str) -> None:
    folder = put_model(imports / NAME)
    (imports / "blob").write_bytes(b"[]")
    (folder / "vocab.json").symlink_to("../blob")
    make_older(folder)

    def turn(_: Progress) -> None:
        (folder / "new").symlink_to(imports.parent / "etc/hub-token")
        (folder / "new").rename(folder / "vocab.json")

    with pytest.raises(AgentError, match="leads out of"):
        copy_model(folder, directory, 0, turn, within=imports, settled_s=0.0)
    staged = [one for one in (imports.parent / "models").rglob("*") if one.is_file()]
    assert staged != []
    assert all(b"hf_secret" not in one.read_bytes() for one in staged)


def test_links_within_it_are_followed(imports: Path, directory: str) -> None:
    """As a cache of huggingface_hub has them: snapshots/COMMIT/NAME -> ../../blobs/CHECKSUM."""
    blobs, folder = imports / "usb/blobs", imports / "usb" / NAME
    blobs.mkdir(parents=True)
    for name, content in FILES.items():
        blob = blobs / hashlib.sha256(content).hexdigest()
        blob.write_bytes(content)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(os.path.relpath(blob, (folder / name).parent))
    (imports.parent / "way").symlink_to(imports)  # the import folder itself may lie elsewhere
    folder = imports.parent / "way/usb" / NAME
    copy_model(folder, directory, 0, lambda _: None, within=imports.parent / "way", settled_s=0.0)
    assert contents(directory) == FILES


# --- its content ---------------------------------------------------------------------------------


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
        copy_model(folder, directory, 0, end, within=tmp_path, settled_s=0.0)
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
        copy_model(folder, directory, 2**40, lambda _: None, within=tmp_path, settled_s=0.0)
    assert caught.value.failure.code is Code.DISK_TOO_FULL
    assert not os.path.lexists(directory)
