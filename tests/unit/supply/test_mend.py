# SPDX-License-Identifier: MulanPSL-2.0
"""A model in the store that is damaged: it is again what it was, and the way back stays."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import AgentError, Code
from agent.supplies import MANIFEST_NAME, Hub, Manifest, ModelOrder, Order
from agent.supply import gone
from agent.supply.errand import carry_out
from agent.supply.mend import mend_model
from agent.supply.place import list_revisions
from tests.fakes.hub import HubDouble, Kind
from tests.unit.supply.hubs import BIG, Bringing, keep_commit, make_repo, wanted

pytestmark = pytest.mark.timeout(60)
SMALL = "model-00002-of-00002.safetensors"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Bringing]:
    """With a hub of its own: its branch moves on."""
    root = make_repo(tmp_path / "hub")
    with HubDouble(tmp_path / "hub") as hub:
        yield Bringing(hub, root, tmp_path / "models")


def damage(bringing: Bringing, path: str = BIG) -> None:
    """In place, as a bad block is."""
    with (bringing.link / path).open("r+b") as stream:
        stream.seek(1)
        stream.write(b"damage")


def move_on(bringing: Bringing, manifest: Manifest, *, keeps: bool = True) -> None:
    """The branch of the hub shows something else by now."""
    if keeps:
        keep_commit(bringing.hub.folder, manifest.revision)
    (bringing.root / "config.json").write_text('{"model_type": "llama", "new": true}')
    (bringing.root / SMALL).write_bytes(b"other weights")


def assert_is(bringing: Bringing, manifest: Manifest, contents: dict[str, bytes]) -> None:
    """It is there as it was first, under the name that it had."""
    assert os.readlink(bringing.link) == f".store/small/{manifest.revision}"
    found = wanted(bringing.link.resolve())
    del found[MANIFEST_NAME]
    assert found == contents
    (in_use, *_) = list_revisions(str(bringing.link))
    assert (in_use.manifest, in_use.name) == (manifest, manifest.revision)
    assert not bringing.staging.exists()


@pytest.mark.parametrize("hub", list(Hub))
def test_the_same_commit_comes_again(own: Bringing, hub: Hub) -> None:
    """Not what the branch shows by now: that would be an update that nobody tries."""
    contents = wanted(own.root)
    first = own.bring(own.source(hub))
    move_on(own, first)
    damage(own)
    own.hub.spoil()
    assert own.mend(own.source(hub)) == first
    assert_is(own, first, contents)
    assert len(list_revisions(str(own.link))) == 1
    assert not any("model-00002" in path for path in own.fetched())


def test_the_branch_is_taken_where_the_commit_is_gone(own: Bringing) -> None:
    first = own.bring()
    move_on(own, first, keeps=False)
    damage(own)
    second = own.mend()
    assert second.revision != first.revision
    own.assert_whole(second)
    assert [one.manifest for one in list_revisions(str(own.link))] == [second]


def test_a_hub_that_does_not_answer_is_waited_for(own: Bringing) -> None:
    """Another one has something else, which nobody has asked for."""
    first = own.bring()
    move_on(own, first)
    damage(own)
    nobody = own.source(endpoint="http://127.0.0.1:9")
    with pytest.raises(AgentError) as raised:
        own.mend(nobody, own.source(Hub.MODELSCOPE))
    assert raised.value.failure.code is Code.SOURCE_UNREACHABLE
    assert os.readlink(own.link) == f".store/small/{first.revision}"


def test_a_hub_that_is_busy_is_waited_for(own: Bringing) -> None:
    """It says so with status 200, and the branch has moved on."""
    first = own.bring(own.source(Hub.MODELSCOPE))
    move_on(own, first)
    damage(own)
    text = '{"Code": 500, "Success": false, "Message": "system busy"}'
    own.hub.spoil(
        {"kind": Kind.TEXT, "text": text, "match": f"Revision={first.revision}", "times": -1}
    )
    with pytest.raises(AgentError) as raised:
        own.mend(own.source(Hub.MODELSCOPE))
    assert raised.value.failure.code is Code.SOURCE_UNREACHABLE
    assert os.listdir(store(own)) == [first.revision]


def test_one_of_two_addresses_of_its_hub_may_still_have_it(own: Bringing) -> None:
    """The other one is a mirror that does not have that commit."""
    first = own.bring()
    move_on(own, first, keeps=False)
    damage(own)
    nobody = own.source(endpoint="http://127.0.0.1:9")
    for sources in ((nobody, own.source()), (own.source(), nobody)):
        with pytest.raises(AgentError) as raised:
            own.mend(*sources)
        assert raised.value.failure.code is Code.SOURCE_UNREACHABLE
    assert os.listdir(store(own)) == [first.revision]


def test_an_address_that_is_never_reached_is_not_waited_for_for_ever(
    own: Bringing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """huggingface.co beside its mirror, from where the first cannot be reached at all."""
    first = own.bring()
    move_on(own, first, keeps=False)
    damage(own)
    nobody = own.source(endpoint="http://127.0.0.1:9")
    for _ in range(gone.TRIES):
        with pytest.raises(AgentError):
            own.mend(own.source(), nobody)
    monkeypatch.setattr(gone, "LONG_S", 0.0)
    other = own.mend(own.source(), nobody)
    assert other.revision != first.revision
    assert os.listdir(store(own)) == [other.revision]
    assert not gone.note_of(own.models / ".incoming" / "small").exists()


def test_a_day_without_a_try_begins_the_time_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gone, "LONG_S", 0.0)
    staging = tmp_path / "small"
    said = [gone.has_been_for_long(staging) for _ in range(gone.TRIES + 1)]
    assert said == [*[False] * (gone.TRIES - 1), True, True]
    note = gone.note_of(staging)
    for jump_s in (2 * gone.BROKEN_OFF_S, -3600.0):
        then = time.time() - jump_s
        os.utime(note, (then, then))
        assert not gone.has_been_for_long(staging)
    note.write_bytes(b"\xff\x00")
    assert not gone.has_been_for_long(staging)


def test_another_hub_with_the_same_is_as_good(own: Bringing) -> None:
    contents = wanted(own.root)
    first = own.bring()
    damage(own)
    nobody = own.source(endpoint="http://127.0.0.1:9")
    assert own.mend(nobody, own.source(Hub.MODELSCOPE)) == first
    assert_is(own, first, contents)


def test_the_way_back_is_mended_with_it(own: Bringing) -> None:
    """What two revisions have in common is on the disk once, so the damage is in both."""
    first = own.bring()
    move_on(own, first)
    contents = wanted(own.root)
    second = own.bring()
    damage(own)
    assert own.mend() == second
    assert_is(own, second, contents)
    _, before = list_revisions(str(own.link))
    assert before.manifest == first
    good = (own.root / BIG).read_bytes()
    assert (before.folder / BIG).read_bytes() == good
    assert (before.folder / BIG).samefile(own.link / BIG)


def store(bringing: Bringing) -> Path:
    return bringing.models / ".store" / "small"


def test_one_that_the_link_does_not_lead_to(own: Bringing) -> None:
    """A twin has the same model folder, and was updated."""
    contents = wanted(own.root)
    first = own.bring()
    damage(own, SMALL)
    move_on(own, first)
    second = own.bring()
    assert own.mend(revision=first.revision) == first
    found = wanted(store(own) / first.revision)
    del found[MANIFEST_NAME]
    assert found == contents
    assert os.readlink(own.link) == f".store/small/{second.revision}"
    own.assert_whole(second)


@pytest.mark.parametrize("is_whole", [True, False], ids=["whole", "damaged"])
def test_what_a_twin_runs_on_stays_where_one_cannot_come_again(
    own: Bringing, is_whole: bool
) -> None:
    """Neither is the link moved nor anything else brought: the branch has moved on once more."""
    first = own.bring()
    damage(own, SMALL)
    move_on(own, first, keeps=False)
    second = own.bring()
    contents = wanted(own.root)
    keep_commit(own.hub.folder, second.revision)
    (own.root / SMALL).write_bytes(b"still other weights")
    if not is_whole:
        damage(own, "config.json")
    assert own.mend(revision=first.revision) == second
    assert_is(own, second, contents)
    assert os.listdir(store(own)) == [second.revision]


def test_nothing_is_left_of_what_a_twin_runs_on(own: Bringing) -> None:
    first = own.bring()
    damage(own, SMALL)
    move_on(own, first, keeps=False)
    own.bring()
    damage(own, "config.json")
    (own.root / SMALL).write_bytes(b"still other weights")
    third = own.mend(revision=first.revision)
    own.assert_whole(third)
    assert os.listdir(store(own)) == [third.revision]


def test_what_others_may_run_on_is_left_to_pruning(own: Bringing) -> None:
    """It cannot be read now, or by us; who is pinned to it nobody knows here."""
    first = own.bring()
    damage(own, SMALL)
    move_on(own, first, keeps=False)
    own.bring()
    damage(own, "config.json")
    (own.root / SMALL).write_bytes(b"still other weights")
    third = own.mend()
    own.assert_whole(third)
    assert set(os.listdir(store(own))) == {first.revision, third.revision}


@pytest.mark.parametrize("can_be_looked_at", [True, False])
def test_what_is_in_use_stays_beside_what_came_instead(
    own: Bringing, can_be_looked_at: bool
) -> None:
    """Another instance serves from it: to an engine that has loaded it, it is right."""
    first = own.bring()
    move_on(own, first, keeps=False)
    damage(own)
    with (own.link / "config.json").open("rb") as opened:
        child = subprocess.Popen(["sleep", "60"], stdin=opened)
    try:
        process = own.proc / str(child.pid)
        if can_be_looked_at:
            process.symlink_to(f"/proc/{child.pid}")
        else:
            process.write_text("no folder")
        second = own.mend()
    finally:
        child.kill()
        child.wait()
    own.assert_whole(second)
    assert set(os.listdir(store(own))) == {first.revision, second.revision}


@pytest.mark.parametrize("revision", ["gone", "..", "a/b", ".x"])
def test_of_one_that_is_gone_the_one_in_use_is_mended(own: Bringing, revision: str) -> None:
    contents = wanted(own.root)
    first = own.bring()
    damage(own)
    assert own.mend(revision=revision) == first
    assert_is(own, first, contents)


@pytest.mark.parametrize("manifest", ["there", "damaged", "gone"])
@pytest.mark.parametrize("hub", list(Hub))
def test_names_are_missing(own: Bringing, manifest: str, hub: Hub) -> None:
    contents = wanted(own.root)
    first = own.bring(own.source(hub))
    move_on(own, first)
    (own.link / "config.json").unlink()
    (own.link / SMALL).unlink()
    (own.link / SMALL).mkdir()
    if manifest == "damaged":
        (own.link / MANIFEST_NAME).write_bytes(b"\0" * 100)
    elif manifest == "gone":
        (own.link / MANIFEST_NAME).unlink()
    own.hub.spoil()
    assert own.mend(own.source(hub)) == first
    assert_is(own, first, contents)
    assert not any(BIG in path for path in own.fetched())


def test_a_cut_goes_on_from_there(own: Bringing) -> None:
    contents = wanted(own.root)
    first = own.bring()
    damage(own)
    own.hub.spoil({"kind": Kind.STATUS, "status": 503, "match": BIG, "times": -1})
    with pytest.raises(AgentError) as raised:
        own.mend()
    assert raised.value.failure.code is Code.SOURCE_UNREACHABLE
    own.hub.spoil()
    assert own.mend() == first
    assert_is(own, first, contents)


def test_an_order_has_it_mended(own: Bringing, tmp_path: Path) -> None:
    """What lies in the import folder is another one by now."""
    contents = wanted(own.root)
    first = own.bring()
    move_on(own, first)
    damage(own)
    shutil.copytree(own.root, tmp_path / "import" / "small")
    model = ModelOrder(str(own.link), (own.source(),), recheck=True)
    report = carry_out(Order("8b", None, model, str(tmp_path / "import")), own.told.append)
    assert report.failure is None
    assert (report.model_folder, report.model_revision) == (first.revision, first.revision)
    assert_is(own, first, contents)


def test_what_a_copy_lacks_comes_from_the_hub(own: Bringing, tmp_path: Path) -> None:
    contents = wanted(own.root)
    first = own.bring()
    copy = tmp_path / "import" / "small"
    shutil.copytree(own.link.resolve(), copy)
    (copy / SMALL).write_bytes(bytes(len(contents[SMALL])))
    damage(own)
    damage(own, SMALL)
    own.hub.spoil()
    model = ModelOrder(str(own.link), (own.source(),), recheck=True)
    report = carry_out(Order("8b", None, model, str(tmp_path / "import")), own.told.append)
    assert (report.failure, report.model_source) == (None, "")
    assert_is(own, first, contents)
    assert not any(BIG in path for path in own.fetched())


def test_what_is_right_needs_nobody(bringing: Bringing) -> None:
    first = bringing.bring()
    bringing.hub.spoil()
    assert bringing.mend() == first
    assert bringing.hub.asked() == []


def test_without_a_source_a_person_is_told_what_to_do(own: Bringing) -> None:
    first = own.bring()
    damage(own)
    with pytest.raises(AgentError) as raised:
        mend_model(ModelOrder(str(own.link), (), recheck=True), 1, 0, own.told.append)
    failure = raised.value.failure
    assert failure.code is Code.MODEL_INVALID
    assert f"{BIG}: its content is not what it was" in failure.message
    assert "put the bundle or the folder that it came from into" in failure.hint
    assert own.mend() == first


def test_without_a_source_and_a_manifest_too(own: Bringing) -> None:
    """Nothing tells what it was."""
    first = own.bring()
    (own.link / MANIFEST_NAME).write_bytes(b"\0" * 100)
    with pytest.raises(AgentError) as raised:
        mend_model(ModelOrder(str(own.link), (), recheck=True), 1, 0, own.told.append)
    folder = own.models / ".store" / "small" / first.revision
    assert str(folder) in raised.value.failure.hint
    shutil.rmtree(folder)  # as it says: it is missing from then on
    assert own.mend() == first


def test_an_operators_own_is_not_touched(own: Bringing) -> None:
    own.link.mkdir(parents=True)
    (own.link / "config.json").write_bytes(b"{}")
    own.hub.spoil()
    with pytest.raises(AgentError) as raised:
        own.mend()
    assert raised.value.failure.code is Code.MODEL_INVALID
    assert os.listdir(own.link) == ["config.json"]
    assert own.hub.asked() == []


def test_a_link_that_leads_nowhere_is_a_model_that_is_missing(own: Bringing) -> None:
    first = own.bring()
    own.link.unlink()
    own.link.symlink_to(".store/small/gone")
    assert own.mend() == first
    own.assert_whole(first)
