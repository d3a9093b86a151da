# SPDX-License-Identifier: MulanPSL-2.0
"""The list of a bundle and its names, also when somebody has written them to do harm."""

import json
import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.supplies import MANIFEST_NAME, Manifest, ModelFile
from agent.supply.bundle.format import Bundle, BundledImage, BundledModel, Content, Part
from agent.supply.bundle.names import model_stem, path_refusal
from agent.supply.bundle.text import parse_bundle, render_bundle

HASH, OTHER = "a" * 64, "b" * 64


def content(path: str, stem: str, *sizes: int) -> Content:
    parts = tuple(Part(f"{stem}.{i:03d}", size, HASH) for i, size in enumerate(sizes))
    return Content(path, sum(sizes), HASH, parts)


def bundle() -> Bundle:
    files = (ModelFile("config.json", 3, HASH), ModelFile("weights/a.safetensors", 20, HASH))
    return Bundle(
        instance="8b",
        created="2026-11-29T12:00:00Z",
        made_by="deepseek-agent 0.1.0",
        image=BundledImage(
            "registry.example/vllm:1",
            HASH,
            f"sha256:{HASH}",
            "arm64",
            "A2",
            content("image.tar", "image.tar", 10, 5),
        ),
        model=BundledModel(
            "small",
            Manifest("huggingface", "deepseek-ai/small", "main", files),
            (
                content("config.json", "model/config.json", 3),
                content("weights/a.safetensors", "model/weights/a.safetensors", 12, 8),
            ),
        ),
    )


def fields() -> Any:
    return json.loads(render_bundle(bundle()))


def test_round_trip() -> None:
    assert parse_bundle(render_bundle(bundle())) == bundle()


def change(path: str, value: object) -> Callable[[Any], None]:
    def apply(root: Any) -> None:
        *keys, last = (int(key) if key.isdigit() else key for key in path.split("/"))
        for key in keys:
            root = root[key]
        root[last] = value

    return apply


HOSTILE_PATHS = (
    "../../etc/shadow", "/etc/shadow", "a/../../b", "./a", "a//b", "a/", "", ".", "..", "a\nb",
    "a\x00b", "a\x1b[2Jb", "\udc80", "x" * 256, "/".join(["d" * 200] * 6), MANIFEST_NAME,
    f"{MANIFEST_NAME}/x", "weights/a.safetensors", "weights", "weights/a.safetensors/x",
)  # fmt: skip


@pytest.mark.parametrize("path", HOSTILE_PATHS)
def test_a_file_of_a_model_stays_in_its_folder(path: str) -> None:
    made = fields()
    made["model"]["files"][0]["path"] = path
    made["parts"][2]["name"] = f"model/{path}.000"  # the rest fits
    with pytest.raises(ValueError, match=r"files cannot be used|characters|at most|two|twice"):
        parse_bundle(json.dumps(made).encode())


@pytest.mark.parametrize(
    "spoil",
    [
        change("schema", 2),
        change("schema", True),
        change("instance", 7),
        change("instance", "../../../etc/cron.d"),
        change("instance", ".."),
        change("instance", ""),
        change("instance", "x" * 201),
        change("instance", "a\x1b]0;b"),
        change("created", "x" * 2000),
        change("image/image_id", HASH.upper()),
        change("image/image_id", HASH + "\n"),
        change("image/digest", "sha256:../x"),
        change("image/reference", "--authfile=/etc/shadow"),
        change("image/reference", "a b"),
        change("image/reference", "a\n"),
        change("image/architecture", "../x"),
        change("image/format", "oci-archive"),
        change("image/size", 16),
        change("image/size", -1),
        change("image/size", 15.0),
        change("image", []),
        change("model/directory", ".."),
        change("model/directory", "a/b"),
        change("model/directory", ".store"),
        change("model/directory", ""),
        change("model/hub", "other"),
        change("model/files", []),
        change("model/files", {"0": 1}),
        change("model/files/1/size", 2**60),
        change("model/files/1/size", True),
        change("model/files/1", None),
        change("parts", []),
        change("parts", None),
        change("parts/0/name", "../image.tar.000"),
        change("parts/0/name", "/etc/shadow"),
        change("parts/0/name", "image.tar.001"),
        change("parts/1/name", "image.tar.000"),
        change("parts/2/name", "model/../config.json.000"),
        change("parts/0/size", 2**32),
        change("parts/0/size", 9),
        change("parts/2/sha256", OTHER),  # not what the file's is, and it is all of the file
        change("parts/0/sha256", 0),
        lambda made: made["parts"].append({"name": "model/x.000", "size": 1, "sha256": HASH}),
        lambda made: made["parts"].reverse(),
        lambda made: made.pop("parts"),
        lambda made: made.update(image=None, model=None),
    ],
)
def test_what_does_not_fit_is_refused(spoil: Callable[[Any], None]) -> None:
    made = fields()
    spoil(made)
    with pytest.raises(ValueError, match=r"."):
        parse_bundle(json.dumps(made).encode())


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 200_000, b"9" * 10_000, b'{"schema": 1e999}'],
)
def test_no_list_at_all(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_bundle(text)


@given(st.binary(max_size=400))
def test_rubbish_is_refused(rubbish: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_bundle(rubbish)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@given(st.data(), JSON)
def test_any_value_anywhere_is_a_bundle_or_refused(data: st.DataObject, value: object) -> None:
    made = fields()
    node: Any = made
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(node[key], dict | list) or not node[key] or data.draw(st.booleans()):
            break
        node = node[key]
    node[key] = value
    try:
        parsed = parse_bundle(json.dumps(made).encode())
    except ValueError:
        return
    assert all(".." not in PurePosixPath(part.name).parts for part in parsed.parts)


# --- names ---------------------------------------------------------------------------------------

# Of FAT32 and exFAT (Microsoft's specifications), the rest of Windows (Naming Files, Paths).
FORBIDDEN = re.compile(r'[\x00-\x1f<>:"\\|?*\x7f-\U0010ffff]')
DEVICES = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")


@given(st.text(min_size=1, max_size=60))
def test_names_are_good_on_every_file_system(path: str) -> None:
    if path_refusal(path) is not None:
        return
    for component in model_stem(path).split("/"):
        assert not FORBIDDEN.search(component)
        assert not DEVICES.fullmatch(component)
        assert component not in ("", ".", "..")
        assert component[-1] not in ". "


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_two_names_stay_two(one: str, other: str) -> None:
    if one != other and path_refusal(one) is None and path_refusal(other) is None:
        assert model_stem(one) != model_stem(other)


@pytest.mark.parametrize(
    ("path", "stem"),
    [
        ("model-00001-of-000002.safetensors", "model/model-00001-of-000002.safetensors"),
        ("词表.json", "model/%E8%AF%8D%E8%A1%A8.json"),
        ("a b:c?.txt", "model/a%20b%3Ac%3F.txt"),
        ("aux.json", "model/%61ux.json"),
        ("NUL/x", "model/%4EUL/x"),
        ("dir./100%", "model/dir%2E/100%25"),
        ("auxiliary.json", "model/auxiliary.json"),
    ],
)
def test_names(path: str, stem: str) -> None:
    assert model_stem(path) == stem


def test_too_many_parts_are_refused_before_they_are_written_down() -> None:
    made = bundle()
    assert made.model is not None
    many = content("image.tar", "image.tar", *([1] * 60_000))
    assert made.image is not None
    with pytest.raises(ValueError, match="too many parts"):
        render_bundle(
            Bundle(
                "8b", "", "",
                BundledImage("a/b:1", HASH, "", "arm64", "", many), made.model,
            )
        )  # fmt: skip
