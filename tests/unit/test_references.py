# SPDX-License-Identifier: MulanPSL-2.0
"""Names of images: what is completed, and what is refused."""

import pytest

from agent.references import carried_name, is_image_name, parse_reference

DIGEST = f"sha256:{'ab' * 32}"


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("quay.io/ascend/vllm-ascend:v0.18.0-openeuler",) * 2,
        ("mirror.example:5000/a/b:1",) * 2,
        ("localhost/engine:1",) * 2,
        ("[::1]:5000/a:1",) * 2,
        (f"quay.io/a/b@{DIGEST}",) * 2,
        (f"quay.io/a/b:1@{DIGEST}",) * 2,
        ("quay.io/a/b", "quay.io/a/b:latest"),
        ("ubuntu", "docker.io/library/ubuntu:latest"),
        ("ubuntu:22.04", "docker.io/library/ubuntu:22.04"),
        ("ascend/cann:8", "docker.io/ascend/cann:8"),
    ],
)
def test_a_reference_is_completed(text: str, whole: str) -> None:
    assert str(parse_reference(text)) == whole


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("quay.io/a/b:v1", ""),
        ("sha256:" + "a" * 64, ""),
        ("quay.io/a/b@sha256:short", ""),
        ("a@sha256:" + "b" * 64, "localhost/deepseek-agent/carried/sha256:" + "b" * 64),
        ("quay.io/a:1@sha384:" + "b" * 96, "localhost/deepseek-agent/carried/sha384:" + "b" * 96),
        ("quay.io/a@sha512:" + "b" * 128, "localhost/deepseek-agent/carried/sha512:" + "b" * 128),
    ],
)
def test_the_name_of_one_that_was_carried(text: str, name: str) -> None:
    """Podman can have an image of that name."""
    assert carried_name(text) == name
    assert not name or is_image_name(name)


def test_parts() -> None:
    parsed = parse_reference("mirror.example:5000/ascend/cann:8")
    assert parsed is not None
    assert (parsed.registry, parsed.path, parsed.tag) == ("mirror.example:5000", "ascend/cann", "8")
    assert parsed.name == "mirror.example:5000/ascend/cann"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "quay.io/",
        "quay.io/A/b:1",
        "quay.io/a/../b:1",
        "../etc/passwd",
        "-x.example/a:1",
        "quay.io/a b:1",
        "quay.io/a:",
        "quay.io/a:-1",
        "quay.io/a@sha256:short",
        "quay.io/a@",
        "https://quay.io/a:1",
        "quay.io/a:1\n",
        "a" * 600,
    ],
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    assert parse_reference(text) is None
