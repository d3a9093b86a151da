# SPDX-License-Identifier: MulanPSL-2.0
"""A model from a hub: the right bytes in the end, or an error that says what is the matter."""

import json
import os
import re
import time
from pathlib import Path

import pytest

from agent.errors import AgentError, Code
from agent.supplies import Hub, ModelOrder, ModelSource, Stage
from agent.supply.model import bring_model
from agent.supply.parts import MAP, PART
from agent.supply.patience import Patience
from agent.supply.place import list_revisions
from tests.fakes.hub import HubDouble, Kind, Rule
from tests.unit.supply.hubs import BIG, BIG_BYTES, QUICK, REPO, Bringing, make_repo

CDN = r"^/deepseek-ai/small/[0-9a-f]{64}\?"  # contents of LFS
# Many of these wait for a process of their own, on machines that have other things to do.
pytestmark = pytest.mark.timeout(60)
# In parts although the files are small.
PARTS = 100_000


@pytest.fixture
def _in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.supply.parts.SEGMENT_BYTES", PARTS)


@pytest.mark.parametrize("hub", list(Hub))
@pytest.mark.parametrize("parallel", [1, 4])
def test_it_comes(bringing: Bringing, hub: Hub, parallel: int) -> None:
    manifest = bringing.bring(bringing.source(hub), parallel=parallel)
    bringing.assert_whole(manifest)
    assert (manifest.hub, manifest.repo, len(manifest.revision)) == (hub, REPO, 40)
    assert os.readlink(bringing.link) == f".store/small/{manifest.revision}"
    assert [one.in_use for one in list_revisions(str(bringing.link))] == [True]
    stages = [one.stage for one in bringing.told]
    assert stages[0] is Stage.ASKING
    assert stages[-1] is Stage.PLACING
    assert bringing.told[-1].done_bytes == bringing.told[-1].total_bytes == manifest.size


@pytest.mark.parametrize("hub", list(Hub))
@pytest.mark.usefixtures("_in_parts")
def test_it_comes_in_parts(bringing: Bringing, hub: Hub) -> None:
    bringing.assert_whole(bringing.bring(bringing.source(hub), parallel=4))
    ranges = [one["range"] for one in bringing.hub.asked() if "range" in one]
    assert len(ranges) > BIG_BYTES // PARTS


def test_what_lies_there_is_not_fetched_again(bringing: Bringing) -> None:
    first = bringing.bring()
    bringing.hub.spoil()
    assert bringing.bring() == first
    assert bringing.fetched() == []
    # A pinned commit needs nobody's word.
    bringing.hub.spoil()
    assert bringing.bring(bringing.source(revision=first.revision)) == first
    assert bringing.hub.asked() == []


FAULTS: dict[str, Rule] = {
    "busy": {"kind": Kind.STATUS, "status": 429, "headers": {"Retry-After": "0"}, "times": 2},
    "ill": {"kind": Kind.STATUS, "status": 503, "times": 2},
    "bad gateway": {"kind": Kind.STATUS, "status": 502, "times": 2},
    "cut at once": {"kind": Kind.CUT, "after": 0, "times": 2},
    "cut": {"kind": Kind.CUT, "after": 50_000, "times": 2},
    "reset": {"kind": Kind.RESET, "after": 50_000, "times": 2},
    "length too large": {"kind": Kind.LENGTH, "more": 7, "times": 1},
    "length too small": {"kind": Kind.LENGTH, "more": -7, "times": 1},
    "more than told": {"kind": Kind.EXTRA, "more": 9, "times": 1},
    "wrong byte": {"kind": Kind.FLIP, "at": 60_000, "times": 1},
    "whole": {"kind": Kind.WHOLE, "times": -1},
    "shifted": {"kind": Kind.SHIFT, "times": -1},
    "another size": {"kind": Kind.STATUS, "status": 416, "times": 1},
    "loop": {"kind": Kind.LOOP, "times": 4},
    "stall": {"kind": Kind.STALL, "after": 30_000, "seconds": 1.5, "times": 1},
    "slow": {"kind": Kind.SLOW, "rate": 20_000_000, "times": 3},
}
SHORT_SILENCE = Patience(tries=4, first_wait_s=0.01, longest_wait_s=0.02, silence_s=0.5)


@pytest.mark.parametrize("where", [CDN, "resolve/.*safetensors$"], ids=["cdn", "hub"])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.usefixtures("_in_parts")
def test_a_fault_that_passes(bringing: Bringing, fault: str, where: str) -> None:
    bringing.hub.spoil({**FAULTS[fault], "match": where})
    bringing.assert_whole(bringing.bring(patience=SHORT_SILENCE))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_passes_with_files_as_a_whole(bringing: Bringing, fault: str) -> None:
    bringing.hub.spoil({**FAULTS[fault], "match": CDN})
    bringing.assert_whole(bringing.bring(patience=SHORT_SILENCE))


@pytest.mark.parametrize("fault", ["busy", "ill", "cut at once", "loop"])
@pytest.mark.parametrize("hub", list(Hub))
def test_a_fault_of_the_list_that_passes(bringing: Bringing, fault: str, hub: Hub) -> None:
    rule: Rule = {**FAULTS[fault], "match": "/api/"}
    if fault == "cut at once":
        rule = {"kind": Kind.TEXT, "text": '[{"path": "half', "match": "/api/", "times": 2}
    bringing.hub.spoil(rule)
    bringing.assert_whole(bringing.bring(bringing.source(hub)))


def test_a_cut_goes_on_from_there(bringing: Bringing) -> None:
    bringing.hub.spoil({**FAULTS["cut"], "match": CDN, "times": 1})
    bringing.bring(parallel=1)
    ranges = [one["range"] for one in bringing.hub.asked() if "range" in one]
    # Asked once of the hub, and once of the CDN to which it leads.
    assert ranges == [f"bytes=50000-{BIG_BYTES - 1}"] * 2


FOR_EVER = [
    ({"kind": Kind.STATUS, "status": 429}, Code.SOURCE_UNREACHABLE, "HTTP 429"),
    ({"kind": Kind.STATUS, "status": 500}, Code.SOURCE_UNREACHABLE, "HTTP 500"),
    ({"kind": Kind.STATUS, "status": 404}, Code.SOURCE_NOT_FOUND, "HTTP 404"),
    ({"kind": Kind.STATUS, "status": 401}, Code.SOURCE_REFUSED, "HTTP 401"),
    ({"kind": Kind.STATUS, "status": 403}, Code.SOURCE_REFUSED, "HTTP 403"),
    ({"kind": Kind.CUT, "after": 10}, Code.SOURCE_UNREACHABLE, "cannot fetch"),
    ({"kind": Kind.LOOP}, Code.SOURCE_UNREACHABLE, "leads on more than 5 times"),
    ({"kind": Kind.FLIP, "at": 5}, Code.CONTENT_DAMAGED, "its checksum is wrong"),
    ({"kind": Kind.EXTRA, "more": 1}, Code.CONTENT_DAMAGED, "is listed with"),
    ({"kind": Kind.TEXT, "text": "<html>login</html>"}, Code.CONTENT_DAMAGED, "listed with"),
    ({"kind": Kind.LEAD, "to": "ftp://example.org/x"}, Code.SOURCE_UNREACHABLE, "ftp"),
    ({"kind": Kind.LEAD, "to": "http://[bad/"}, Code.SOURCE_UNREACHABLE, "cannot"),
]


@pytest.mark.parametrize(("rule", "code", "word"), FOR_EVER)
def test_a_fault_that_stays(bringing: Bringing, rule: Rule, code: Code, word: str) -> None:
    bringing.hub.spoil({**rule, "match": CDN, "times": -1})
    failure = bringing.fail(parallel=1).failure
    assert failure.code is code
    assert word in failure.message
    assert failure.hint
    host = bringing.hub.endpoint.rpartition("/")[2]
    assert host in failure.message
    # What did come stays for the next try, which then needs the rest only.
    bringing.hub.spoil()
    bringing.assert_whole(bringing.bring())
    assert not any("config.json" in path for path in bringing.fetched())


def test_a_damaged_file_is_named_and_fetched_twice(bringing: Bringing) -> None:
    bringing.hub.spoil({"kind": Kind.FLIP, "at": 2_000_000, "match": CDN, "times": -1})
    failure = bringing.fail(parallel=1).failure
    assert failure.code is Code.CONTENT_DAMAGED
    assert BIG in failure.message
    asked = [one for one in bringing.hub.asked() if one["path"].endswith(BIG)]
    assert len(asked) == 2


def test_the_next_source_goes_on(bringing: Bringing) -> None:
    """The first one breaks off in the middle, and for good; not a byte is fetched twice."""
    bringing.hub.spoil(
        {"kind": Kind.CUT, "after": 2_000_000, "match": CDN, "times": 1},
        {"kind": Kind.STATUS, "status": 503, "match": CDN, "times": 3},
    )
    sources = (bringing.source(Hub.HUGGINGFACE), bringing.source(Hub.MODELSCOPE))
    manifest = bringing.bring(*sources, parallel=1)
    bringing.assert_whole(manifest)
    assert manifest.hub == Hub.MODELSCOPE
    ranges = [one["range"] for one in bringing.hub.asked() if "range" in one]
    assert set(ranges) == {f"bytes=2000000-{BIG_BYTES - 1}"}


@pytest.mark.parametrize("hub", list(Hub))
def test_no_such_repository_or_revision(bringing: Bringing, hub: Hub) -> None:
    for changes in ({"repo": "deepseek-ai/other"}, {"revision": "v9"}, {"revision": "f" * 40}):
        failure = bringing.fail(bringing.source(hub, **changes)).failure
        assert failure.code is Code.SOURCE_NOT_FOUND, changes
        assert next(iter(changes.values())) in failure.message
        assert failure.hint


SCOPE_REFUSALS = [
    (10010205001, "获取模型目录树失败，信息：record not found", Code.SOURCE_NOT_FOUND),
    (404, "no such model", Code.SOURCE_NOT_FOUND),
    (10010200001, "获取模型版本失败，信息：获取模失败", Code.SOURCE_REFUSED),
    (500, "system busy", Code.SOURCE_UNREACHABLE),
    (10010205001, "Error 1461: Can't create more than max_prepared_stmt_count statements",
     Code.SOURCE_UNREACHABLE),
    (10990101004, "获取模型目录树失败", Code.SOURCE_UNREACHABLE),
]  # fmt: skip


@pytest.mark.parametrize("status", [200, 404])
@pytest.mark.parametrize(("code", "words", "meant"), SCOPE_REFUSALS)
def test_modelscope_does_not_say_by_its_status_what_may_pass(
    bringing: Bringing, status: int, code: int, words: str, meant: Code
) -> None:
    text = json.dumps({"Code": code, "Message": words, "Success": False, "Data": None})
    bringing.hub.spoil({"kind": Kind.STATUS, "status": status, "text": text, "times": -1})
    failure = bringing.fail(bringing.source(Hub.MODELSCOPE)).failure
    assert failure.code is meant
    assert words in failure.message
    assert failure.hint


@pytest.mark.parametrize("match", ["/repo/files", "/repo?"])
def test_modelscope_is_asked_again_when_it_was_busy(bringing: Bringing, match: str) -> None:
    text = json.dumps({"Code": 10010205001, "Message": "Error 1461: too much", "Success": False})
    busy: Rule = {"kind": Kind.STATUS, "status": 404, "text": text, "times": 2}
    bringing.hub.spoil({**busy, "match": re.escape(match)})
    bringing.assert_whole(bringing.bring(bringing.source(Hub.MODELSCOPE)))


@pytest.mark.parametrize("repo", ["../../etc", "a/b/c", "", "a/..", "a b/c", "a/b?x", "a/b#x"])
def test_no_name_of_a_repository(bringing: Bringing, repo: str) -> None:
    assert bringing.fail(bringing.source(repo=repo)).failure.code is Code.SOURCE_NOT_FOUND
    assert bringing.hub.asked() == []


def test_every_source_is_named(bringing: Bringing) -> None:
    nobody = bringing.source(endpoint="http://127.0.0.1:9")
    failure = bringing.fail(nobody, bringing.source(repo="a/b")).failure
    assert failure.code is Code.SOURCE_UNREACHABLE  # it may come back, so it is tried again
    assert "127.0.0.1:9:" in failure.message
    assert "a/b" in failure.message
    assert bringing.bring(nobody, bringing.source()).hub == Hub.HUGGINGFACE


def test_no_source(bringing: Bringing) -> None:
    with pytest.raises(AgentError, match="no source is configured") as raised:
        bring_model(ModelOrder(str(bringing.link), ()), 1, 0, bringing.told.append)
    assert raised.value.failure.code is Code.MODEL_MISSING


def test_room_is_looked_at_first(bringing: Bringing) -> None:
    failure = bringing.fail(keep_free_mib=2**40).failure
    assert failure.code is Code.DISK_TOO_FULL
    assert "needed 0.0 GiB and" in failure.message
    assert str(bringing.models) in failure.message
    assert bringing.fetched() == []


def test_one_at_a_time(bringing: Bringing) -> None:
    failures: list[AgentError] = []

    def meanwhile(progress: object) -> None:
        if not failures:
            failures.append(bringing.fail())

    bringing.assert_whole(bringing.bring(tell=meanwhile))
    assert "another process is at it" in failures[0].failure.message


def test_another_revision_takes_over_what_is_the_same(tmp_path: Path) -> None:
    """The old one stays, and what both have is neither fetched nor stored twice."""
    root = make_repo(tmp_path / "hub")
    with HubDouble(tmp_path / "hub") as hub:
        bringing = Bringing(hub, root, tmp_path / "models")
        first = bringing.bring()
        (root / "config.json").write_text('{"new": true}')
        hub.spoil()
        second = bringing.bring()
        bringing.assert_whole(second)
        assert not any(BIG in path for path in bringing.fetched())
    revisions = list_revisions(str(bringing.link))
    assert [one.manifest for one in revisions] == [second, first]
    assert (revisions[1].folder / "config.json").read_text() == '{"model_type": "llama"}'
    assert (revisions[0].folder / BIG).samefile(revisions[1].folder / BIG)


def test_staging_of_another_revision(bringing: Bringing) -> None:
    """What is not wanted any more goes, also what nobody has made."""
    bringing.hub.spoil({"kind": Kind.STATUS, "status": 403, "match": CDN, "times": -1})
    bringing.fail()
    (bringing.staging / f"sha256-{'0' * 64}{PART}").write_bytes(b"old")
    (bringing.staging / f"sha256-{'0' * 64}{MAP}").write_bytes(b"{}")
    (bringing.staging / "folder").mkdir()
    cut = bringing.staging.with_name(".small@room")
    cut.touch()
    bringing.fail()
    assert not cut.exists()
    left = os.listdir(bringing.staging)
    assert "folder" not in left
    # Another source may have begun that today.
    assert sum("0" * 64 in name for name in left) == 2
    then = time.time() - 2 * 86_400
    for path in bringing.staging.glob(f"*{'0' * 64}*"):
        os.utime(path, (then, then))
    bringing.fail()
    assert not any("0" * 64 in name for name in os.listdir(bringing.staging))


def test_two_hubs_with_other_weights_do_not_undo_each_other(
    bringing: Bringing, tmp_path: Path
) -> None:
    """Both break off; the next try goes on where the first one was."""
    broken: list[Rule] = [
        {"kind": Kind.CUT, "after": 2_000_000, "match": CDN, "times": 1},
        {"kind": Kind.STATUS, "status": 503, "match": CDN, "times": -1},
    ]
    make_repo(tmp_path / "hub", seed=2)
    with HubDouble(tmp_path / "hub") as other:
        sources = (bringing.source(), bringing.source(endpoint=other.endpoint))
        bringing.hub.spoil(*broken)
        other.spoil(*broken)
        assert bringing.fail(*sources, parallel=1).failure.code is Code.SOURCE_UNREACHABLE
        bringing.hub.spoil()
        bringing.assert_whole(bringing.bring(*sources, parallel=1))
    ranges = [one["range"] for one in bringing.hub.asked() if "range" in one]
    assert set(ranges) == {f"bytes=2000000-{BIG_BYTES - 1}"}


def test_a_record_that_lies(bringing: Bringing) -> None:
    """After a power cut it may tell of bytes that never reached the disk."""
    bringing.hub.spoil(
        {"kind": Kind.CUT, "after": 2_000_000, "match": CDN, "times": 1},
        {"kind": Kind.STATUS, "status": 503, "match": CDN, "times": -1},
    )
    bringing.fail(parallel=1)
    part = next(
        path
        for path in bringing.staging.iterdir()
        if path.name.endswith(PART) and path.stat().st_size > 1_000_000
    )
    with part.open("r+b") as stream:
        stream.seek(1_000_000)
        stream.write(bytes(4096))
    bringing.hub.spoil()
    bringing.assert_whole(bringing.bring())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"size": 3000000, "segments": 7}',
        '{"size": 3000000, "segments": [[0, 9, 5]]}',
        '{"size": 3000000, "segments": [[0, 3000000, 4000000]]}',
        '{"size": 3000000, "segments": [[0, 3000000, 3000000]]}',
    ],
)
def test_a_record_of_no_use(bringing: Bringing, text: str) -> None:
    bringing.hub.spoil({"kind": Kind.STATUS, "status": 503, "match": CDN, "times": -1})
    bringing.fail(parallel=1)
    for path in bringing.staging.iterdir():
        if path.name.endswith(PART):
            path.with_suffix(MAP).write_text(text)
    bringing.hub.spoil()
    bringing.assert_whole(bringing.bring())


def test_damage_in_the_store_is_mended(bringing: Bringing) -> None:
    manifest = bringing.bring()
    with (bringing.link / BIG).open("r+b") as stream:
        stream.seek(1_234_567)
        stream.write(b"damage")
    bringing.hub.spoil()
    assert bringing.bring() == manifest  # names and sizes are right
    assert bringing.mend() == manifest
    bringing.assert_whole(manifest)
    asked = bringing.fetched()
    assert any(BIG in path for path in asked)
    assert not any("model-00002" in path for path in asked)
    assert len(list_revisions(str(bringing.link))) == 1


def test_a_file_that_is_missing_in_the_store(bringing: Bringing) -> None:
    manifest = bringing.bring()
    (bringing.link / BIG).unlink()
    assert bringing.bring() == manifest
    bringing.assert_whole(manifest)


def test_sources_without_checksums(bringing: Bringing, tmp_path: Path) -> None:
    """An old mirror: sizes are all there is; half a file of an earlier try counts for nothing."""
    listing = [
        {"Path": str(path.relative_to(bringing.root)), "Size": path.stat().st_size, "Type": "blob"}
        for path in bringing.root.rglob("*")
        if path.is_file()
    ]
    text = json.dumps({"Code": 200, "Data": {"Files": listing}})
    rule: Rule = {"kind": Kind.TEXT, "text": text, "match": "repo/files", "times": -1}
    cut: Rule = {"kind": Kind.CUT, "after": 100_000, "match": CDN, "times": 1}
    bringing.hub.spoil(rule, cut)
    manifest = bringing.bring(bringing.source(Hub.MODELSCOPE), patience=QUICK)
    bringing.assert_whole(manifest)
    assert manifest.revision == ""
    assert not any("range" in one for one in bringing.hub.asked())


def test_an_ill_named_directory(bringing: Bringing) -> None:

    for directory in ("relative", "/a/../b", "/a/.hidden"):
        with pytest.raises(AgentError) as raised:
            bring_model(ModelOrder(directory, ()), 1, 0, bringing.told.append)
        assert raised.value.failure.code is Code.CONFIG_INVALID
        assert "`model`" in raised.value.failure.hint


NO_ADDRESSES = ("modelscope.cn", "ftp://x", "http://", "", "http://[:::]", "http://h:99999")


@pytest.mark.parametrize("endpoint", NO_ADDRESSES)
def test_no_address(bringing: Bringing, endpoint: str) -> None:
    with pytest.raises(AgentError) as raised:
        bringing.bring(ModelSource(Hub.MODELSCOPE, endpoint, REPO, "master"))
    assert raised.value.failure.code is Code.CONFIG_INVALID


def test_no_address_and_another_source(bringing: Bringing) -> None:
    bad = ModelSource(Hub.MODELSCOPE, "http://[:::]", REPO, "master")
    bringing.assert_whole(bringing.bring(bad, bringing.source(Hub.MODELSCOPE)))
