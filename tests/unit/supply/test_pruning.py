# SPDX-License-Identifier: MulanPSL-2.0
"""What is chosen to be removed: never what somebody needs, never what is not ours."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.disks import EVIDENCE_KEPT, EVIDENCE_LIMIT_BYTES, Keep, KeptModel, Kind, Removal
from agent.supply.pruning import (
    EvidenceFile,
    Found,
    Staging,
    StoredImage,
    StoredRevision,
    choose,
    choose_at_last,
)

NOW = 1_800_000_000.0
DAY = 86_400.0
MODEL = "/var/lib/deepseek/models/8b"
VLLM = "quay.io/ascend/vllm-ascend:v1"
ALL_KNOWN = Keep(is_complete=True, instances=("8b",))
STAGING = Staging("/var/lib/deepseek/models/.incoming/8b", MODEL, 10, NOW - 2 * DAY)
REVISION = StoredRevision(
    MODEL, "abc", "/var/lib/deepseek/models/.store/8b/abc", 100, NOW - 9 * DAY, is_linked=False
)
IMAGE = StoredImage("1" * 64, (VLLM,), (), 50, NOW - 5 * DAY, brought_as=(VLLM,))


def chosen(found: Found, keep: Keep = ALL_KNOWN) -> list[str]:
    return [one.what for one in choose(found, keep, NOW)]


def test_what_nobody_needs_goes_leftovers_first_then_the_oldest() -> None:
    newer = replace(REVISION, name="def", path=REVISION.path + "2", placed_at=NOW - 2 * DAY)
    found = Found((STAGING,), (newer, REVISION), (IMAGE,))
    assert chosen(found) == [STAGING.path, REVISION.path, IMAGE.image_id, newer.path]
    assert choose(found, ALL_KNOWN, NOW)[1] == Removal(
        Kind.MODEL,
        REVISION.path,
        f"{MODEL} abc",
        "no link, no instance and no process needs it",
        100,
    )


@pytest.mark.parametrize(
    ("revision", "keep"),
    [
        (replace(REVISION, is_linked=True), ALL_KNOWN),
        (replace(REVISION, used_by="process 7"), ALL_KNOWN),
        (replace(REVISION, placed_at=NOW - 60), ALL_KNOWN),
        (replace(REVISION, placed_at=NOW + DAY), ALL_KNOWN),  # the clock was wrong
        (REVISION, replace(ALL_KNOWN, models=(KeptModel(MODEL, ("x", "abc")),))),
        (REVISION, replace(ALL_KNOWN, fetching=(MODEL,))),
        (REVISION, replace(ALL_KNOWN, is_complete=False)),
    ],
)
def test_a_revision_stays(revision: StoredRevision, keep: Keep) -> None:
    assert chosen(Found(revisions=(revision,)), keep) == []


@pytest.mark.parametrize(
    ("image", "keep"),
    [
        (replace(IMAGE, used_by="container c"), ALL_KNOWN),
        (replace(IMAGE, since=NOW - 60), ALL_KNOWN),
        (IMAGE, replace(ALL_KNOWN, image_ids=(IMAGE.image_id,))),
        (IMAGE, replace(ALL_KNOWN, image_references=(VLLM,))),
        (IMAGE, replace(ALL_KNOWN, image_references=(f"sha256:{IMAGE.image_id}",))),
        (IMAGE, replace(ALL_KNOWN, is_complete=False)),
        # Somebody else's, wholly or by one of its names.
        (replace(IMAGE, brought_as=()), ALL_KNOWN),
        (replace(IMAGE, names=(), brought_as=()), ALL_KNOWN),
        (replace(IMAGE, names=(VLLM, "localhost/mine:1")), ALL_KNOWN),
        (replace(IMAGE, names=("localhost/deepseek-agent/8b:current",), brought_as=()), ALL_KNOWN),
        (replace(IMAGE, names=("localhost/deepseek-agent/8b:previous", VLLM)), ALL_KNOWN),
        (replace(IMAGE, names=("localhost/deepseek-agent:1",), brought_as=()), ALL_KNOWN),
    ],
)
def test_an_image_stays(image: StoredImage, keep: Keep) -> None:
    assert chosen(Found(images=(image,)), keep) == []


@pytest.mark.parametrize(
    ("name", "digest", "reference"),
    [
        ("docker.io/library/vllm:latest", "", "vllm"),
        ("", "quay.io/a/b@sha256:" + "a" * 64, "quay.io/a/b@sha256:" + "a" * 64),
        ("", "quay.io/a/b@sha256:" + "a" * 64, "quay.io/a/b:v1@sha256:" + "a" * 64),
        # From a mirror, or an archive: a digest is no name that could be given to it.
        ("quay.io/a/b:deepseek-agent", "", "quay.io/a/b@sha256:" + "a" * 64),
        # From a bundle.
        (
            "localhost/deepseek-agent/carried/sha256:" + "a" * 64,
            "",
            "quay.io/a/b:v1@sha256:" + "a" * 64,
        ),
        (
            "localhost/deepseek-agent/carried/sha512:" + "a" * 128,
            "",
            "quay.io/a/b@sha512:" + "a" * 128,
        ),
    ],
)
def test_an_image_stays_by_any_way_of_writing_its_name(
    name: str, digest: str, reference: str
) -> None:
    names, digests = (name,) * bool(name), (digest,) * bool(digest)
    image = replace(IMAGE, names=names, digests=digests, brought_as=(reference,))
    assert chosen(Found(images=(image,))) == [IMAGE.image_id]
    assert chosen(Found(images=(image,)), replace(ALL_KNOWN, image_references=(reference,))) == []


def test_images_that_have_lost_their_names_or_their_instance_go() -> None:
    unnamed = replace(IMAGE, names=())
    gone = replace(IMAGE, names=("localhost/deepseek-agent/7b:current",), brought_as=())
    assert chosen(Found(images=(unnamed,))) == [IMAGE.image_id]
    assert chosen(Found(images=(gone,))) == [IMAGE.image_id]


@pytest.mark.parametrize(
    ("staging", "keep"),
    [
        (replace(STAGING, changed_at=NOW - DAY / 2), ALL_KNOWN),
        (replace(STAGING, used_by="process 7"), ALL_KNOWN),
        (STAGING, replace(ALL_KNOWN, fetching=(MODEL,))),
    ],
)
def test_what_is_still_being_brought_stays(staging: Staging, keep: Keep) -> None:
    assert chosen(Found((staging,)), keep) == []


def test_of_what_waits_for_room_the_smallest_goes_first() -> None:
    small = replace(STAGING, path="/m/.incoming/small", model="/m/small", size_bytes=5)
    used = replace(STAGING, path="/m/.incoming/used", model="/m/used", used_by="process 7")
    wanted = replace(STAGING, path="/m/.incoming/wanted", model="/m/wanted")
    found = Found((STAGING, used, small, wanted))
    models = (MODEL, "/m/small", "/m/used")
    keep = replace(ALL_KNOWN, fetching=(*models, "/m/wanted"), without_room=models)
    assert [one.what for one in choose_at_last(found, keep)] == [small.path, STAGING.path]
    assert chosen(found, keep) == []


def evidence(number: int, size_bytes: int = 1, instance: str = "8b") -> EvidenceFile:
    at = f"20261125T{number:06}Z"
    return EvidenceFile(f"/e/{instance}-{at}.txt", instance, size_bytes, at)


def test_evidence_has_a_limit_of_files_and_of_bytes() -> None:
    many = tuple(evidence(number) for number in range(EVIDENCE_KEPT + 2))
    assert chosen(Found(evidence=many)) == [many[0].path, many[1].path]
    half = EVIDENCE_LIMIT_BYTES // 2
    large = (evidence(1, half), evidence(2, half, "7b"), evidence(3, half))
    assert chosen(Found(evidence=large)) == [large[0].path]
    assert chosen(Found(evidence=(evidence(1, 3 * half),))) == []


def test_evidence_from_the_future_is_the_oldest() -> None:
    """As the newest it would stay, and all that is written until then would go."""
    at = "90261125T150000Z"
    ahead = EvidenceFile(f"/e/8b-{at}.txt", "8b", 1, at)
    many = tuple(evidence(number) for number in range(EVIDENCE_KEPT))
    assert chosen(Found(evidence=(*many, ahead))) == [ahead.path]
    half = EVIDENCE_LIMIT_BYTES // 2
    large = (evidence(1, half), evidence(2, half, "7b"), replace(ahead, size_bytes=half))
    assert chosen(Found(evidence=large)) == [ahead.path]


NAMES = st.sampled_from(["a", "b", "c", "d"])
TIMES = st.floats(0, NOW, allow_nan=False)
REFERENCES = st.sampled_from(
    ["quay.io/x/a:1", "quay.io/x/b:1", "localhost/deepseek-agent/8b:current", "localhost/me:1"]
)
REVISIONS = st.builds(
    lambda model, name, at, linked, user: StoredRevision(
        f"/m/{model}", name, f"/m/.store/{model}/{name}", 1, at, linked, user
    ),
    NAMES,
    NAMES,
    TIMES,
    st.booleans(),
    st.sampled_from(["", "process 1"]),
)
IMAGES = st.builds(
    StoredImage,
    st.sampled_from([digit * 64 for digit in "1234"]),
    st.lists(REFERENCES, max_size=3).map(tuple),
    st.just(()),
    st.just(1),
    TIMES,
    st.lists(REFERENCES, max_size=2).map(tuple),
    st.sampled_from(["", "container 1"]),
)
STAGINGS = st.builds(
    lambda model, at: Staging(f"/m/.incoming/{model}", f"/m/{model}", 1, at), NAMES, TIMES
)
KEEPS = st.builds(
    Keep,
    is_complete=st.booleans(),
    instances=st.sampled_from([(), ("8b",)]),
    image_ids=st.lists(st.sampled_from([digit * 64 for digit in "12"])).map(tuple),
    image_references=st.lists(REFERENCES, max_size=2).map(tuple),
    models=st.lists(
        st.builds(
            lambda model, names: KeptModel(f"/m/{model}", tuple(names)), NAMES, st.lists(NAMES)
        ),
        max_size=3,
    ).map(tuple),
    fetching=st.lists(NAMES.map(lambda name: f"/m/{name}"), max_size=2).map(tuple),
)
FOUND = st.builds(
    Found,
    st.lists(STAGINGS).map(tuple),
    st.lists(REVISIONS).map(tuple),
    st.lists(IMAGES, unique_by=lambda one: one.image_id).map(tuple),
)


@given(FOUND, KEEPS)
def test_nothing_that_is_kept_is_chosen(found: Found, keep: Keep) -> None:
    kept = {
        f"/m/.store/{model.directory[3:]}/{name}"
        for model in keep.models
        for name in model.revisions
    }
    kept |= {one.path for one in found.revisions if one.is_linked and not _twice(found, one)}
    kept |= set(keep.image_ids)
    kept |= {one.image_id for one in found.images if set(one.names) & set(keep.image_references)}
    kept |= {one.image_id for one in found.images if one.used_by}
    kept |= {
        one.image_id
        for one in found.images
        if "localhost/me:1" in set(one.names) - set(one.brought_as)
    }
    assert kept.isdisjoint(chosen(found, keep))


def _twice(found: Found, revision: StoredRevision) -> bool:
    return sum(one.path == revision.path for one in found.revisions) > 1


@given(FOUND, KEEPS)
def test_nothing_is_chosen_that_was_not_found(found: Found, keep: Keep) -> None:
    there = {one.path for one in found.stagings} | {one.path for one in found.revisions}
    assert set(chosen(found, keep)) <= there | {one.image_id for one in found.images}


@given(FOUND, KEEPS)
def test_more_to_keep_is_never_less_that_stays(found: Found, keep: Keep) -> None:
    more = replace(
        keep,
        image_references=(*keep.image_references, "quay.io/x/a:1"),
        fetching=(*keep.fetching, "/m/a"),
    )
    assert set(chosen(found, more)) <= set(chosen(found, keep))
