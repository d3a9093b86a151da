# SPDX-License-Identifier: MulanPSL-2.0
"""An image for another architecture is ordered by its digest; a stand-in for who asks."""

import json
import sys
from pathlib import Path

import pytest

from agent.errors import AgentError, Code
from agent.supplies import ImageOrder, ImageSource
from agent.supply.foreign_image import order_foreign

from .test_image import DIGEST, MIRROR, NAME, STAND_IN, Says, error

FOUND = {"answer": {"digest": DIGEST}}


def ask(folder: Path, said: Says, *sources: str) -> ImageOrder:
    (folder / "said").write_text(json.dumps(said), encoding="utf-8")
    order = ImageOrder(NAME, tuple(ImageSource(one, ca_file="/ca.pem") for one in sources))
    puller = (sys.executable, "-c", STAND_IN, str(folder))
    return order_foreign(order, "8b", "arm64", puller)


def test_by_its_digest_under_a_name_of_ours(tmp_path: Path) -> None:
    ordered = ask(tmp_path, {"digest": [[FOUND]]}, MIRROR, NAME)
    assert ordered.reference == "localhost/deepseek-agent/bundle/8b:arm64"
    assert [one.reference for one in ordered.sources] == [
        f"mirror.example:5000/ascend/vllm-ascend@{DIGEST}",
        f"quay.io/ascend/vllm-ascend@{DIGEST}",
    ]
    assert {one.ca_file for one in ordered.sources} == {"/ca.pem"}
    verb, order = json.loads((tmp_path / "asked").read_text(encoding="utf-8"))
    assert (verb, order["architecture"], order["source"]["reference"]) == (
        *("digest", "arm64"),
        MIRROR,
    )


def test_where_one_cannot_tell_the_next_is_asked(tmp_path: Path) -> None:
    ordered = ask(tmp_path, {"digest": [error(Code.SOURCE_UNREACHABLE), [FOUND]]}, MIRROR, NAME)
    assert DIGEST in ordered.sources[0].reference


def test_why_nobody_has_it(tmp_path: Path) -> None:
    failures = [error(Code.SOURCE_UNREACHABLE, "gone"), error(Code.SOURCE_NOT_FOUND, "amd64 only")]
    with pytest.raises(AgentError, match="gone; amd64 only") as raised:
        ask(tmp_path, {"digest": failures}, MIRROR, NAME)
    assert raised.value.failure.code is Code.SOURCE_NOT_FOUND
    assert raised.value.failure.hint


def test_an_image_that_was_made_here_is_for_here(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="for arm64") as raised:
        ask(tmp_path, {})
    assert raised.value.failure.code is Code.IMAGE_MISSING
    assert "arm64" in raised.value.failure.hint


def test_an_answer_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="no answer"):
        ask(tmp_path, {"digest": [[{}]]}, NAME)
