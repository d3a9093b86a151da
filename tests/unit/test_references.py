# SPDX-License-Identifier: MulanPSL-2.0
"""Names of images: what is completed, and what is refused."""

import pytest

from agent.references import parse_reference

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
