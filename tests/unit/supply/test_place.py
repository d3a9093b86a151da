# SPDX-License-Identifier: MulanPSL-2.0
"""What lies on the disk: an operator's own, revisions side by side, damage that is named."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import AgentError, Code
from agent.supplies import MANIFEST_NAME, ModelFile
from agent.supply.manifest import make_manifest, parse_manifest, read_manifest, write_manifest
from agent.supply.place import list_revisions, remove_revision
from agent.supply.verify import Wrong, find_problems
from tests.unit.supply.hubs import BIG, Bringing, make_repo

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def own(bringing: Bringing) -> Path:
    """What an operator has copied there."""
    bringing.models.mkdir()
    source = make_repo(bringing.models.parent / "copied")
    source.rename(bringing.link)
    return bringing.link


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("as_link", [False, True])
@pytest.mark.parametrize("with_manifest", [False, True])
def test_an_operators_model(
    bringing: Bringing, own: Path, *, as_link: bool, with_manifest: bool
) -> None:
    if with_manifest:
        write_manifest(own, make_manifest(own))
    if as_link:
        own.rename(own.with_name("elsewhere"))
        own.symlink_to("elsewhere")
    before = names(bringing.models)
    manifest = bringing.bring()
    assert BIG in {file.path for file in manifest.files}
    assert names(bringing.models) == before
    assert bringing.hub.asked() == []


SPOILED: dict[str, Callable[[Path], object]] = {
    "config.json: missing": lambda own: (own / "config.json").unlink(),
    "00002-of-00002": lambda own: (own / "model-00002-of-00002.safetensors").unlink(),
    "lost.safetensors": lambda own: (own / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"x": "lost.safetensors"}})
    ),
    "index.json": lambda own: (own / "model.safetensors.index.json").write_text("{"),
}


@pytest.mark.parametrize("word", SPOILED)
def test_an_operators_model_that_is_not_whole(bringing: Bringing, own: Path, word: str) -> None:
    SPOILED[word](own)
    before = names(bringing.models)
    with pytest.raises(AgentError) as raised:
        bringing.bring()
    failure = raised.value.failure
    assert failure.code is Code.MODEL_INVALID
    assert word in failure.message
    assert "away" in failure.hint
    assert names(bringing.models) == before


def test_an_operators_model_that_is_damaged(bringing: Bringing, own: Path) -> None:
    write_manifest(own, make_manifest(own))
    with (own / BIG).open("r+b") as stream:
        stream.write(b"?")
    with pytest.raises(AgentError, match=BIG) as raised:
        bringing.bring()
    assert raised.value.failure.code is Code.MODEL_INVALID


@pytest.mark.parametrize("what", ["file", "dangling"])
def test_something_else_lies_there(bringing: Bringing, what: str) -> None:
    bringing.models.mkdir()
    if what == "file":
        bringing.link.write_text("mine")
    else:
        bringing.link.symlink_to("nowhere")
    with pytest.raises(AgentError) as raised:
        bringing.bring()
    assert raised.value.failure.code is Code.MODEL_INVALID
    assert os.path.lexists(bringing.link)


def test_revisions(bringing: Bringing) -> None:
    manifest = bringing.bring()
    other = bringing.models / ".store" / "small" / "other"
    other.mkdir()
    (other / "config.json").write_text("{}")
    assert [one.name for one in list_revisions(str(bringing.link))] == [manifest.revision]
    write_manifest(other, make_manifest(other))
    found = list_revisions(str(bringing.link))
    assert [(one.name, one.in_use) for one in found] == [
        (manifest.revision, True),
        ("other", False),
    ]
    with pytest.raises(AgentError, match="it is in use"):
        remove_revision(str(bringing.link), manifest.revision)
    for name in ("", "..", "a/b", ".new"):
        with pytest.raises(AgentError, match="no such name"):
            remove_revision(str(bringing.link), name)
    remove_revision(str(bringing.link), "other")
    remove_revision(str(bringing.link), "other")
    assert len(list_revisions(str(bringing.link))) == 1
    bringing.assert_whole(manifest)


def test_what_a_placing_has_left_is_removed(bringing: Bringing) -> None:
    store = bringing.models / ".store" / "small"
    (store / ".abc.new").mkdir(parents=True)
    (store / ".abc.new" / "config.json").write_text("half")
    (bringing.models / ".small.link").symlink_to("nowhere")
    bringing.assert_whole(bringing.bring())
    assert len(os.listdir(store)) == 1
    assert not os.path.lexists(bringing.models / ".small.link")


def test_problems_are_named(bringing: Bringing) -> None:
    manifest = bringing.bring()
    folder = bringing.link.resolve()
    read: list[int] = []
    assert find_problems(folder, manifest, read.append) == []
    assert sum(read) == manifest.size
    (folder / "config.json").unlink()
    (folder / "empty.txt").write_text("more")
    with (folder / BIG).open("r+b") as stream:
        stream.write(b"?")
    (folder / "model-00002-of-00002.safetensors").unlink()
    (folder / "model-00002-of-00002.safetensors").mkdir()
    assert {one.path: one.wrong for one in find_problems(folder, manifest)} == {
        "config.json": Wrong.MISSING,
        "empty.txt": Wrong.SIZE,
        BIG: Wrong.DAMAGED,
        "model-00002-of-00002.safetensors": Wrong.UNREADABLE,
    }


@given(place=st.integers(0, 4999), bit=st.integers(0, 7))
def test_one_bit(tmp_path_factory: pytest.TempPathFactory, place: int, bit: int) -> None:
    folder = tmp_path_factory.mktemp("bit")
    content = bytearray(5000)
    (folder / "a").write_bytes(content)
    manifest = make_manifest(folder)
    content[place] ^= 1 << bit
    (folder / "a").write_bytes(content)
    assert [one.wrong for one in find_problems(folder, manifest)] == [Wrong.DAMAGED]


def test_a_manifest_comes_back(tmp_path: Path) -> None:
    make_repo(tmp_path)
    manifest = make_manifest(tmp_path)
    assert not any(file.path.startswith(".git") for file in manifest.files)
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest
    assert make_manifest(tmp_path) == manifest
    assert isinstance(manifest.files[0], ModelFile)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"schema": 2, "files": []}', b'{"schema": 1}', b"\xff",
     b'{"schema": 1, "files": [{"path": "../x", "size": 1, "sha256": "' + b"0" * 64 + b'"}]}',
     b'{"schema": 1, "files": [{"path": "x", "size": 1, "sha256": "0"}]}',
     b'{"schema": 1, "files": [{"path": "x", "size": true, "sha256": "' + b"0" * 64 + b'"}]}'],
)  # fmt: skip
def test_a_manifest_of_no_use(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any of them
        parse_manifest(content)
    (tmp_path / MANIFEST_NAME).write_bytes(content)
    with pytest.raises(AgentError) as raised:
        read_manifest(tmp_path)
    assert raised.value.failure.code is Code.MODEL_INVALID
