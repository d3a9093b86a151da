# SPDX-License-Identifier: MulanPSL-2.0
"""From where an image is brought, in which order and how often; a stand-in for what asks Podman.

The real one is `host.images` (tests/unit/host/test_images.py); both with real registries and real
Podman in tests/lab/test_images.py.
"""

import json
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent.errors import AgentError, Code
from agent.supplies import ImageOrder, ImageSource, KeptImage, Progress, Role, Stage
from agent.supply import image
from agent.supply.image import PAUSES_S, BroughtImage, bring_image, keep_image, refresh_image
from agent.supply.pace import Pace

from .test_image_archives import OLD, docker_files, put, tar_of

NAME = "quay.io/ascend/vllm-ascend:v1"
MIRROR = "mirror.example:5000/ascend/vllm-ascend:v1"
OTHER = "other.example/ascend/vllm-ascend:v1"
IMAGE_ID, DIGEST = "ab" * 32, f"sha256:{'cd' * 32}"
ANSWER = {"answer": {"image_id": IMAGE_ID, "digest": DIGEST}}
# Says what a file has for "VERB REFERENCE", the first of what is left, and keeps the order.
STAND_IN = """
import json, os, sys, time
folder, verb, order = sys.argv[1], sys.argv[2], json.load(sys.stdin)
with open(os.path.join(folder, "asked"), "a") as asked:
    asked.write(json.dumps([verb, order]) + "\\n")
said = json.load(open(os.path.join(folder, "said")))
key = order["source"]["reference"] if verb == "pull" else verb
lines = said[key].pop(0)
with open(os.path.join(folder, "said"), "w") as left:
    json.dump(said, left)
for line in lines:
    time.sleep(line.pop("after_s", 0) if isinstance(line, dict) else 0)
    print(json.dumps(line), flush=True)
"""


# Of "VERB" or a reference: lines of one run after the other.
Says = Mapping[str, Sequence[Sequence[object]]]


def error(code: Code, message: str = "why") -> list[dict[str, object]]:
    return [{"error": {"code": code, "message": message, "hint": f"hint of {code}"}}]


@dataclass
class Stand:
    folder: Path
    told: list[Progress] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)

    @property
    def imports(self) -> Path:
        return self.folder / "import"

    def bring(self, said: Says, *sources: str, name: str = NAME) -> BroughtImage:
        says = {"load": [[ANSWER]], "tag": [[ANSWER]], **said}
        self.imports.mkdir(exist_ok=True)
        (self.folder / "said").write_text(json.dumps(says), encoding="utf-8")
        return bring_image(
            ImageOrder(name, tuple(ImageSource(one) for one in sources)),
            str(self.imports),
            7,
            self.told.append,
            signers=self.signers,
            puller=(sys.executable, "-c", STAND_IN, str(self.folder)),
            pause=self.pauses.append,
        )

    @property
    def signers(self) -> Path:
        return self.folder / "bundle-signers"

    @property
    def asked(self) -> list[tuple[str, Any]]:
        text = (self.folder / "asked").read_text(encoding="utf-8")
        return [tuple(json.loads(line)) for line in text.splitlines()]

    @property
    def verbs(self) -> list[str]:
        return [verb for verb, _ in self.asked]


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path)


def test_from_its_own_registry(stand: Stand) -> None:
    assert stand.bring({NAME: [[ANSWER]]}, NAME) == BroughtImage(IMAGE_ID, DIGEST)
    ((verb, order),) = stand.asked
    assert verb == "pull"
    assert order == {
        "source": {
            "reference": NAME,
            "tls_verify": True,
            "ca_file": "",
            "auth_file": "",
        },
        "keep_free_mib": 7,
    }


def test_from_a_mirror_it_gets_the_name_of_the_order(stand: Stand) -> None:
    stand.bring({MIRROR: [[ANSWER]]}, MIRROR, NAME)
    assert stand.verbs == ["pull", "tag"]
    assert stand.asked[1][1] == {"image_id": IMAGE_ID, "reference": NAME}


# As the child answers that has given the mirror's name to an image, which nothing had before.
NEWLY_NAMED = {"answer": {**ANSWER["answer"], "is_new_name": True}}


def test_the_name_that_a_pull_from_a_mirror_makes_is_taken_away(stand: Stand) -> None:
    brought = stand.bring({MIRROR: [[NEWLY_NAMED]], "untag": [[ANSWER]]}, MIRROR, NAME)
    assert brought == BroughtImage(IMAGE_ID, DIGEST)
    assert stand.verbs == ["pull", "tag", "untag"]
    assert stand.asked[2][1] == {"image_id": "", "reference": MIRROR}


def test_a_name_too_many_is_no_failure(stand: Stand) -> None:
    says: Says = {MIRROR: [[NEWLY_NAMED]], "untag": [error(Code.PODMAN_UNAVAILABLE)]}
    assert stand.bring(says, MIRROR, NAME).image_id == IMAGE_ID


@pytest.mark.parametrize(
    ("source", "name"),
    [
        (NAME, NAME),  # it is the one that was ordered
        (f"{MIRROR.rpartition(':')[0]}@{DIGEST}", f"{NAME}@{DIGEST}"),  # no tag to take away
    ],
)
def test_other_names_stay(stand: Stand, source: str, name: str) -> None:
    stand.bring({source: [[NEWLY_NAMED]]}, source, name=name)
    assert "untag" not in stand.verbs


def test_mirrors_are_tried_in_their_order(stand: Stand) -> None:
    says: Says = {MIRROR: [error(Code.SOURCE_UNTRUSTED)], OTHER: [[ANSWER]]}
    stand.bring(says, MIRROR, OTHER, NAME)
    assert [order["source"]["reference"] for _, order in stand.asked[:2]] == [MIRROR, OTHER]
    assert stand.pauses == []


def test_trouble_that_may_pass_is_tried_again(stand: Stand) -> None:
    says: Says = {
        NAME: [error(Code.SOURCE_UNREACHABLE, "gone"), error(Code.CONTENT_DAMAGED), [ANSWER]]
    }
    assert stand.bring(says, NAME).image_id == IMAGE_ID
    assert stand.pauses == list(PAUSES_S)
    assert [one.trouble for one in stand.told if one.trouble] == ["gone", "why"]


def test_then_the_next_is_tried(stand: Stand) -> None:
    tries = len(PAUSES_S) + 1
    says: Says = {MIRROR: [error(Code.SOURCE_UNREACHABLE)] * tries, NAME: [[ANSWER]]}
    assert stand.bring(says, MIRROR, NAME).image_id == IMAGE_ID
    assert stand.verbs == ["pull"] * (tries + 1)


@pytest.mark.parametrize(
    "code",
    [Code.SOURCE_NOT_FOUND, Code.SOURCE_REFUSED, Code.SOURCE_UNTRUSTED, Code.FILE_UNUSABLE],
)
def test_every_source_is_named_in_the_end(stand: Stand, code: Code) -> None:
    says: Says = {
        MIRROR: [error(Code.SOURCE_REFUSED, "no entry")],
        NAME: [error(code, "no such tag")],
    }
    with pytest.raises(AgentError) as raised:
        stand.bring(says, MIRROR, NAME)
    failure = raised.value.failure
    assert failure.code is code
    assert failure.message == f"cannot bring {NAME}: no entry; no such tag"
    assert failure.hint == f"hint of {code}"


def test_what_may_pass_decides_about_a_later_try(stand: Stand) -> None:
    tries = len(PAUSES_S) + 1
    says: Says = {
        MIRROR: [error(Code.SOURCE_UNREACHABLE)] * tries,
        NAME: [error(Code.SOURCE_NOT_FOUND)],
    }
    with pytest.raises(AgentError) as raised:
        stand.bring(says, MIRROR, NAME)
    assert raised.value.failure.code is Code.SOURCE_UNREACHABLE


@pytest.mark.parametrize("code", [Code.DISK_TOO_FULL, Code.PODMAN_UNAVAILABLE])
def test_trouble_of_this_host_is_no_reason_for_another_source(stand: Stand, code: Code) -> None:
    with pytest.raises(AgentError) as raised:
        stand.bring({MIRROR: [error(code)]}, MIRROR, NAME)
    assert raised.value.failure.code is code
    assert stand.verbs == ["pull"]


@pytest.mark.parametrize("answer", [[], [{"answer": {}}], [{"answer": 7}], [{"error": 7}]])
def test_a_child_without_a_true_answer_is_an_error(stand: Stand, answer: list[object]) -> None:
    with pytest.raises(AgentError) as raised:
        stand.bring({NAME: [answer]}, NAME)
    assert raised.value.failure.code is Code.INTERNAL


def test_progress(stand: Stand) -> None:
    lines = [
        {"progress": {"stage": "fetching", "done": 10, "total": 100}},
        {"progress": {"stage": "placing", "done": 100, "total": 100}},
        ANSWER,
    ]
    stand.bring({NAME: [lines]}, NAME)
    told = [(one.stage, one.source, one.done_bytes, one.total_bytes) for one in stand.told]
    assert told == [
        (Stage.ASKING, str(stand.imports), 0, 0),
        (Stage.FETCHING, "quay.io", 10, 100),
        (Stage.PLACING, "quay.io", 100, 100),
    ]


def fetching(done: Iterable[int], stage: Stage = Stage.FETCHING) -> list[object]:
    step = {"stage": stage, "total": 10**9}
    return [{"progress": {**step, "done": one}, "after_s": 0.1} for one in done]


def test_a_registry_that_trickles_is_left_for_the_next(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte after the other, and never silent."""
    monkeypatch.setattr(image, "Pace", lambda _: Pace(1.0))
    trickle = [*fetching(range(30)), ANSWER]
    stand.bring({MIRROR: [trickle] * 3, NAME: [[ANSWER]]}, MIRROR, NAME)
    assert "cannot get on with mirror.example:5000: it stands still" in {
        one.trouble for one in stand.told
    }
    assert stand.verbs == ["pull"] * 4


@pytest.mark.parametrize(
    "lines",
    [
        fetching(range(0, 50_000, 2000)),
        fetching([7] * 25, Stage.PLACING),
        # A layer that is fetched again.
        fetching([*range(0, 24_000, 2000), *range(0, 24_000, 2000)]),
    ],
)
def test_a_slow_line_and_a_slow_disk_are_borne(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, lines: list[object]
) -> None:
    monkeypatch.setattr(image, "Pace", lambda _: Pace(1.0))
    stand.bring({NAME: [[*lines, ANSWER]]}, NAME)
    assert stand.verbs == ["pull"]


def test_a_strange_name_is_not_asked_for(stand: Stand) -> None:
    with pytest.raises(AgentError) as raised:
        stand.bring({}, NAME, name="../x")
    assert raised.value.failure.code is Code.CONFIG_INVALID
    assert "registry.example/name:tag" in raised.value.failure.hint


# --- the import folder ---------------------------------------------------------------------------


def add_archive(stand: Stand, name: str = "a.tar", at: float = OLD, cut: int = 0) -> Path:
    stand.imports.mkdir(exist_ok=True)
    content = tar_of(docker_files(NAME))
    return put(stand.imports, name, content[: len(content) - cut], at)


def test_an_archive_comes_before_the_network(stand: Stand) -> None:
    path = add_archive(stand)
    answer = {"answer": {"image_id": IMAGE_ID, "digest": ""}}
    assert stand.bring({"load": [[answer]]}, NAME) == BroughtImage(IMAGE_ID, "")
    assert stand.verbs == ["load", "tag"]
    archive = stand.asked[0][1]["archive"]
    assert (archive["path"], archive["kind"], archive["selector"]) == (
        str(path),
        "docker-archive",
        "@0",
    )
    assert path.exists()


def test_where_all_has_to_be_signed_an_archive_is_left_alone(stand: Stand) -> None:
    """It cannot be: whoever carries the disk could have any image run."""
    path = add_archive(stand)
    stand.signers.symlink_to("nowhere")  # a mistake, and no permission
    assert stand.bring({NAME: [[ANSWER]]}, NAME).digest == DIGEST
    assert stand.verbs == ["pull"]
    with pytest.raises(AgentError) as raised:
        stand.bring({})
    failure = raised.value.failure
    assert failure.code is Code.BUNDLE_UNTRUSTED
    assert f"cannot trust {path}: it is not signed" in failure.message
    assert "--sign KEY" in failure.hint
    assert str(stand.signers) in failure.hint
    assert stand.verbs == ["pull"]


def test_what_podman_does_not_take_is_pulled(stand: Stand) -> None:
    add_archive(stand)
    says: Says = {"load": [error(Code.CONTENT_DAMAGED)], NAME: [[ANSWER]]}
    assert stand.bring(says, NAME).digest == DIGEST
    assert stand.verbs == ["load", "pull"]


def test_half_an_archive_is_named_when_nothing_else_helps(stand: Stand) -> None:
    add_archive(stand, "half.tar", cut=100_000)
    with pytest.raises(AgentError) as raised:
        stand.bring({})
    assert raised.value.failure.code is Code.IMAGE_MISSING
    assert f"{stand.imports}/half.tar: unexpected end of data" in raised.value.failure.message


def test_one_that_is_being_copied_is_worth_another_try(stand: Stand) -> None:
    add_archive(stand, at=time.time())
    with pytest.raises(AgentError) as raised:
        stand.bring({})
    assert raised.value.failure.code is Code.SOURCE_UNREACHABLE


def test_without_a_source_and_an_archive(stand: Stand) -> None:
    with pytest.raises(AgentError) as raised:
        stand.bring({})
    assert raised.value.failure.code is Code.IMAGE_MISSING
    assert str(stand.imports) in raised.value.failure.hint
    assert not os.path.exists(stand.folder / "asked")


def test_an_image_by_its_digest_is_not_looked_for_in_archives(stand: Stand) -> None:
    """They tell no digest of a registry's; a person is told what does."""
    add_archive(stand)
    with pytest.raises(AgentError) as raised:
        stand.bring({}, name=f"quay.io/ascend/vllm-ascend@{DIGEST}")
    assert raised.value.failure.code is Code.IMAGE_MISSING
    assert "podman save" not in raised.value.failure.hint
    assert "deepseekctl bundle create" in raised.value.failure.hint


# --- what it means by now ------------------------------------------------------------------------


def refresh(stand: Stand, said: Says, *sources: str) -> BroughtImage:
    (stand.folder / "said").write_text(json.dumps({"tag": [[ANSWER]], **said}), encoding="utf-8")
    return refresh_image(
        ImageOrder(NAME, tuple(ImageSource(one) for one in sources)),
        7,
        stand.told.append,
        puller=(sys.executable, "-c", STAND_IN, str(stand.folder)),
        pause=stand.pauses.append,
    )


def test_its_sources_are_asked_anew(stand: Stand) -> None:
    assert refresh(stand, {MIRROR: [[ANSWER]]}, MIRROR, NAME) == BroughtImage(IMAGE_ID, DIGEST)
    assert stand.verbs == ["pull", "tag"]


def test_one_of_this_host_is_looked_up_here(stand: Stand) -> None:
    assert refresh(stand, {"find": [[ANSWER]]}) == BroughtImage(IMAGE_ID, DIGEST)
    assert stand.asked == [("find", {"reference": NAME})]


def test_a_refresh_that_fails_names_its_sources(stand: Stand) -> None:
    with pytest.raises(AgentError) as raised:
        refresh(stand, {MIRROR: [error(Code.SOURCE_NOT_FOUND, "no such tag")]}, MIRROR)
    assert raised.value.failure.code is Code.SOURCE_NOT_FOUND
    assert "no such tag" in raised.value.failure.message


KEPT = "localhost/deepseek-agent/8b:trial"


@pytest.mark.parametrize(
    ("image_id", "said", "verbs"),
    [
        (IMAGE_ID, {"tag": [[ANSWER]]}, ["tag"]),
        ("", {"untag": [[ANSWER]]}, ["untag"]),
        (IMAGE_ID, {"tag": [error(Code.IMAGE_MISSING)], "untag": [[ANSWER]]}, ["tag", "untag"]),
    ],
)
def test_an_image_is_kept_by_a_name(
    stand: Stand, image_id: str, said: Says, verbs: list[str]
) -> None:
    (stand.folder / "said").write_text(json.dumps(said), encoding="utf-8")
    puller = (sys.executable, "-c", STAND_IN, str(stand.folder))
    keep_image(KeptImage(Role.TRIAL, image_id), KEPT, puller=puller)
    assert stand.verbs == verbs
    assert {order["reference"] for _, order in stand.asked} == {KEPT}
