# SPDX-License-Identifier: MulanPSL-2.0
"""Agent and supply process read each other's files; what else may lie there is refused."""

import errno
import stat
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from agent.errors import Code, Failure
from agent.facts import ImageFacts, ModelFacts
from agent.host.atomic import write_atomically
from agent.plan.supply import build_order
from agent.supplies import ImageOrder, Item, Order, Progress, Report, Stage
from agent.supply import letters
from agent.supply.__main__ import main
from agent.supply.letters import read_order, write_progress, write_report
from tests.build import SUPPLY, build_facts, build_profile

PROFILE = build_profile()
PROGRESS = Progress(Item.IMAGE, Stage.FETCHING, "r.example", 1, 2, 0.5, "no answer", 3.0)
REPORT = Report(Failure(Code.DISK_TOO_FULL, "cannot: full", "make room"), "ab" * 32, at=4.0)


def order() -> Order:
    facts = build_facts()
    lacking = replace(
        facts,
        podman=replace(facts.podman, images=(ImageFacts(PROFILE.images.a2, ""),)),
        models=(ModelFacts(PROFILE.model, 0, "it is not there", present=False),),
    )
    found = build_order(PROFILE, lacking, SUPPLY)
    assert found is not None
    return found


def test_an_order_arrives_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "8b.order.json").write_bytes(msgspec.json.encode(order()))
    assert read_order(tmp_path, "8b") == order()


def test_an_order_of_an_older_agent(tmp_path: Path) -> None:
    """It is carried out by a newer one: an upgrade does not end what is being fetched."""
    value = msgspec.json.decode(msgspec.json.encode(order()))
    del value["model"]["revision"]
    (tmp_path / "8b.order.json").write_bytes(msgspec.json.encode(value))
    assert read_order(tmp_path, "8b") == order()


@pytest.mark.parametrize(
    "text", [b"", b"{}", b"[1]", b'{"instance": 3}', b'{"instance": "8b", "image": {}}', b"\xff"]
)
def test_what_is_no_order(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "8b.order.json").write_bytes(text)
    with pytest.raises(ValueError, match=r"."):
        read_order(tmp_path, "8b")


def test_an_order_of_a_newer_agent(tmp_path: Path) -> None:
    newer = replace(order(), schema=2)
    (tmp_path / "8b.order.json").write_bytes(msgspec.json.encode(newer))
    with pytest.raises(ValueError, match="schema"):
        read_order(tmp_path, "8b")


def test_what_is_told_arrives_and_is_roots_alone(tmp_path: Path) -> None:
    write_progress(tmp_path, "8b", PROGRESS)
    write_report(tmp_path, "8b", REPORT)
    progress, report = tmp_path / "8b.progress.json", tmp_path / "8b.report.json"
    assert msgspec.json.decode(progress.read_bytes(), type=Progress) == PROGRESS
    assert msgspec.json.decode(report.read_bytes(), type=Report) == REPORT
    assert {stat.S_IMODE(file.stat().st_mode) for file in (progress, report)} == {0o600}


# --- a full /run ---------------------------------------------------------------------------------


@pytest.fixture
def ordered(tmp_path: Path) -> Path:
    """An image that nobody has: it is told where it is looked for, and that it was not found."""
    lacking = replace(
        order(),
        import_folder=str(tmp_path / "import"),
        image=ImageOrder("r.example/a/b:1", ()),
        model=None,
    )
    folder = tmp_path / "supply"
    folder.mkdir()
    (folder / "8b.order.json").write_bytes(msgspec.json.encode(lacking))
    return folder


def carried_out(folder: Path) -> Report:
    assert main(["fetch", "8b", "--folder", str(folder)]) == 0
    return msgspec.json.decode((folder / "8b.report.json").read_bytes(), type=Report)


def assert_told(report: Report) -> None:
    assert report.failure is not None
    assert report.failure.code is Code.IMAGE_MISSING


def test_progress_that_cannot_be_written_ends_nothing(ordered: Path) -> None:
    (ordered / "8b.progress.json").mkdir()
    assert_told(carried_out(ordered))


def test_a_report_takes_the_room_of_the_progress(
    ordered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_if_room(path: Path, text: str, mode: int) -> None:
        if (ordered / "8b.progress.json").exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        write_atomically(path, text, mode)

    monkeypatch.setattr(letters, "write_atomically", write_if_room)
    assert_told(carried_out(ordered))
