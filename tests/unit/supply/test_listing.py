# SPDX-License-Identifier: MulanPSL-2.0
"""What a hub lists: nothing of it leads out of the folder, and only the model is fetched."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import AgentError, Code
from agent.supplies import Hub, ModelSource
from agent.supply.hub.ask import list_files
from agent.supply.hub.listing import Listing, RemoteFile, check_listing, choose_files
from agent.supply.net import Answer, HubClient


def files(*paths: str) -> tuple[RemoteFile, ...]:
    return tuple(RemoteFile(path, 1, "") for path in paths)


@pytest.mark.parametrize(
    "paths",
    [
        ("../x",), ("/etc/passwd",), ("a/../../x",), ("a//b",), ("a/",), ("",), (".",), ("a/.",),
        ("a\nb",), ("a\0b",), ("a\\b",), ("\ud800",), ("x" * 300,), ("a/" * 600 + "b",),
        ("a", "a"), ("a", "a/b"), ("a/b", "a/b/c"), ("\u202ex",),
    ],
)  # fmt: skip
def test_hostile_paths(paths: tuple[str, ...]) -> None:
    with pytest.raises(AgentError) as raised:
        check_listing(Listing("", files(*paths)), "hub")
    assert raised.value.failure.code is Code.CONTENT_DAMAGED
    assert raised.value.failure.message.isprintable()


@pytest.mark.parametrize("size", [-1, 2**43])
def test_sizes_that_are_nonsense(size: int) -> None:
    with pytest.raises(AgentError, match=str(size)):
        check_listing(Listing("", (RemoteFile("a", size, ""),)), "hub")


def test_too_many_files() -> None:
    with pytest.raises(AgentError, match="more than"):
        check_listing(Listing("", files(*map(str, range(6000)))), "hub")


NAMES = st.text(alphabet="ab./\\\n\0\u8bcd ", max_size=8)


@given(st.lists(NAMES, max_size=5))
def test_whatever_is_let_pass_can_be_made(paths: list[str]) -> None:
    try:
        listing = check_listing(Listing("", files(*paths)), "hub")
    except AgentError:
        return
    root = Path("/models/new")
    places = [Path(root, file.path) for file in listing.files]
    assert all(place.is_relative_to(root) and place != root for place in places)
    assert not any(".." in place.parts for place in places)
    assert len(set(places)) == len(places)
    assert not {parent for place in places for parent in place.parents} & set(places)


CHOICES = [
    (("config.json", "a.safetensors", "a.bin", "b.gguf", "original/x.pth", "README.md"),
     ("README.md", "a.safetensors", "config.json")),
    (("config.json", "pytorch_model.bin"), ("config.json", "pytorch_model.bin")),
    (("config.json", "a.safetensors", ".gitattributes", ".git/x", "a/.gitignore", "onnx/m.onnx"),
     ("a.safetensors", "config.json")),
    (("config.json", "a.safetensors", "deepseek-manifest.json"), ("a.safetensors", "config.json")),
    (("config.json", "original/a.safetensors", "pytorch_model.bin"),
     ("config.json", "original/a.safetensors", "pytorch_model.bin")),
]  # fmt: skip


@pytest.mark.parametrize(("offered", "chosen"), CHOICES)
def test_what_is_fetched(offered: tuple[str, ...], chosen: tuple[str, ...]) -> None:
    assert tuple(file.path for file in choose_files(files(*offered), "hub")) == chosen


@pytest.mark.parametrize(
    ("offered", "word"),
    [((), "no config.json and no weights"), (("config.json", "README.md"), "no weights"),
     (("a.safetensors",), "no config.json"), (("a/config.json", "a.bin"), "no config.json")],
)  # fmt: skip
def test_no_model(offered: tuple[str, ...], word: str) -> None:
    with pytest.raises(AgentError, match=word) as raised:
        choose_files(files(*offered), "hub")
    assert raised.value.failure.code is Code.SOURCE_NOT_FOUND


class Answering(HubClient):
    """Of one answer to everything."""

    def __init__(self, value: object) -> None:
        self.host = "hub.example"
        self._value = value

    def get_json(self, url: str) -> Answer:
        return Answer(self._value, "")


@pytest.mark.parametrize(
    "code",
    ["\x1b[2J\u202e\n", ["x" * 10_000], 10**4000, {"\ud800": "x"}],
    ids=["of a terminal", "long", "large", "no text"],
)
@pytest.mark.parametrize("words", ["", "\n\u202e"])
def test_what_a_hub_says_of_its_trouble_is_one_short_line(code: object, words: str) -> None:
    source = ModelSource(Hub.MODELSCOPE, "https://hub.example", "a/b", "main")
    answer = {"Code": code, "Success": False, "Message": words}
    with pytest.raises(AgentError) as raised:
        list_files(Answering(answer), source)
    assert raised.value.failure.message.isprintable()
    assert len(raised.value.failure.message) < 300
