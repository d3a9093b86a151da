# SPDX-License-Identifier: MulanPSL-2.0
"""Room that several count on at once: each leaves the others what they have still to write."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.errors import AgentError, Code
from agent.supply.disk import free_bytes
from agent.supply.room import ImageNeed, Room, claim_room

TREE = Path(__file__).parents[3]
HOLD = """
import sys, time
from pathlib import Path
from agent.supply.room import claim_room
with claim_room("fetch it", Path(sys.argv[1]), int(sys.argv[2]), 0):
    print("claimed", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def most(tmp_path: Path) -> int:
    """So much fits once, and not twice."""
    return free_bytes(tmp_path) * 2 // 3


def full(call: Callable[[], object]) -> str:
    """It has to fail for want of room; what it says."""
    with pytest.raises(AgentError) as raised:
        call()
    assert raised.value.failure.code is Code.DISK_TOO_FULL
    return raised.value.failure.message


def claim(staging: Path, missing: int, image: ImageNeed = ImageNeed()) -> None:  # noqa: B008
    with claim_room("fetch it", staging, missing, 0, image):
        pass


def test_who_comes_later_leaves_the_room(tmp_path: Path, most: int) -> None:
    with claim_room("fetch it", tmp_path / "8b", most, 0) as room:
        said = full(lambda: claim(tmp_path / ".bundle-14b", most))
        gib = f"{most / 2**30:.1f} GiB"
        assert f"needed {gib} and {gib} for what else is being brought, there are" in said
        claim(tmp_path / "1b", 2**20)
        room.look(most // 4)  # it has come, for the most part
        claim(tmp_path / "14b", most)
    claim(tmp_path / "14b", most)
    assert [path.name for path in tmp_path.iterdir()] == [".@room.lock"]


def test_what_comes_in_the_place_of_the_first_is_kept_free_too(tmp_path: Path, most: int) -> None:
    """An archive, which is gone again before the model comes."""
    with claim_room("import it", tmp_path / "8b", most, 0) as room:
        room.expect(2**20, later=most)
        room.look(0)
        full(lambda: claim(tmp_path / "14b", most))
        room.expect(2**20)
        claim(tmp_path / "14b", most)
        room.expect(most)
        full(lambda: claim(tmp_path / "14b", most))


def test_what_was_refused_counts_for_nobody(tmp_path: Path, most: int) -> None:
    full(lambda: claim(tmp_path / "8b", 2 * most))
    claim(tmp_path / "14b", most)


def test_who_was_killed_counts_no_more(tmp_path: Path, most: int) -> None:
    words = (sys.executable, "-c", HOLD, str(tmp_path / "8b"), str(most))
    with subprocess.Popen(words, cwd=TREE, stdout=subprocess.PIPE, text=True) as held:
        assert held.stdout is not None
        assert held.stdout.readline() == "claimed\n"
        full(lambda: claim(tmp_path / "14b", most))
        held.send_signal(signal.SIGKILL)
        held.wait(10)
    assert (tmp_path / ".8b@room").exists()
    claim(tmp_path / "14b", most)
    claim(tmp_path / "8b", 0)
    assert not (tmp_path / ".8b@room").exists()


def test_an_image_that_both_wait_for_is_brought_once(tmp_path: Path, most: int) -> None:
    image = ImageNeed("quay.io/ascend/vllm-ascend:v1", most)
    with claim_room("fetch it", tmp_path / "8b", 1, 0, image):
        claim(tmp_path / "14b", 1, image)
        full(lambda: claim(tmp_path / "14b", 1, ImageNeed("quay.io/ascend/other:v1", most)))
        with claim_room("fetch it", tmp_path / "14b", 1, 0, image):
            claim(tmp_path / "32b", most // 3)


def test_what_nobody_can_read_counts_for_nothing(tmp_path: Path, most: int) -> None:
    with claim_room("fetch it", tmp_path / "8b", most, 0):
        (tmp_path / ".8b@room").write_text("nonsense")
        claim(tmp_path / "14b", most)


def test_a_full_disk_needs_no_claim_for_nothing(tmp_path: Path) -> None:
    claim(tmp_path / "none" / "8b", 0)
    assert list(tmp_path.iterdir()) == []


def test_it_looks_while_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the mark, with more to come than half of that."""
    mark_mib = free_bytes(tmp_path) * 2 // 2**20
    room = Room("copy it", tmp_path, mark_mib * 2**20, mark_mib)
    room.wrote(1)  # it is not time
    monkeypatch.setattr("agent.supply.room.LOOK_EVERY_S", 0.0)
    said = full(lambda: room.wrote(1))
    assert said.startswith("cannot copy it: needed ")
    (tmp_path / "begun").touch()
    room = Room("copy it", tmp_path, mark_mib * 2**20, mark_mib, [tmp_path / "begun"])
    room.wrote(1)
    assert not (tmp_path / "begun").exists()
    full(lambda: room.wrote(1))
    room = Room("copy it", tmp_path, mark_mib * 2**20, mark_mib // 4)
    room.wrote(1)
