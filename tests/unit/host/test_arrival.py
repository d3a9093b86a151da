# SPDX-License-Identifier: MulanPSL-2.0
"""A pull whose lines stop while Podman unpacks: its files tell that nothing is on its way."""

import time
from pathlib import Path

import pytest

from agent.host.arrival import Arrival
from agent.host.layers import Layers
from agent.host.registry import Layer
from agent.supplies import Stage

DIGESTS = tuple(f"sha256:{letter * 64}" for letter in "ab")
FIRST, SECOND = (one.removeprefix("sha256:")[:12] for one in DIGESTS)


class Pull:
    """Podman's side: lines, and files below its temporary folder."""

    def __init__(self, temporary: Path, present: frozenset[str] = frozenset()) -> None:
        self.folder = temporary / "container_images_storage7"
        (temporary / "storage6").mkdir()  # of a pull that was cut
        (temporary / "storage6/1").write_bytes(b"x" * 150)
        self.told: list[tuple[Stage, int, int]] = []
        layers = Layers([Layer(DIGESTS[0], 100), Layer(DIGESTS[1], 50)], present)
        self.arrival = Arrival(
            layers, str(temporary), lambda *now: self.told.append(now), sample_s=0.01
        )

    def line(self, status: str, layer: str, current: int | None = None) -> None:
        detail = {} if current is None else {"current": current, "total": 0}
        self.arrival.take({"status": status, "id": layer, "progressDetail": detail})

    def put(self, name: str, size: int) -> None:
        self.folder.mkdir(exist_ok=True)
        (self.folder / name).write_bytes(b"x" * size)

    def wait_for(self, *now: object) -> None:
        deadline = time.monotonic() + 5
        while self.told[-1:] != [now] and time.monotonic() < deadline:
            time.sleep(0.01)
        assert self.told[-1:] == [now]


@pytest.fixture
def pull(tmp_path: Path) -> Pull:
    return Pull(tmp_path)


def test_it_is_told_that_only_unpacking_is_left(pull: Pull) -> None:
    with pull.arrival.watched():
        pull.line("Pulling fs layer", FIRST)
        pull.line("Pulling fs layer", SECOND)
        pull.line("Downloading", FIRST, 60)
        pull.put("1", 60)
        pull.put("2", 50)
        pull.wait_for(Stage.FETCHING, 110, 150)
        pull.put("1", 100)
        pull.wait_for(Stage.PLACING, 150, 150)  # and Podman says nothing
        pull.line("Download complete", FIRST)
        pull.line("Download complete", SECOND)
    assert pull.told[-1] == (Stage.PLACING, 150, 150)


def test_one_that_is_asked_for_when_the_other_is_unpacked_is_waited_for(pull: Pull) -> None:
    """Its answer may never come, and a registry that hangs has five minutes, not an hour."""
    with pull.arrival.watched():
        pull.line("Pulling fs layer", FIRST)
        pull.line("Pulling fs layer", SECOND)
        pull.put("1", 100)
        pull.wait_for(Stage.PLACING, 100, 150)
        pull.line("Download complete", FIRST)
        pull.wait_for(Stage.FETCHING, 100, 150)


def test_without_lines_that_tell_bytes(tmp_path: Path) -> None:
    """Podman 4.5.1, and a layer that was there before."""
    pull = Pull(tmp_path, frozenset([DIGESTS[1]]))
    with pull.arrival.watched():
        pull.arrival.take({"stream": "Copying blob sha256:aa\n"})
        pull.wait_for(Stage.FETCHING, 50, 150)
        pull.put("1", 40)
        pull.wait_for(Stage.FETCHING, 90, 150)
        pull.put("1", 100)
        pull.wait_for(Stage.PLACING, 150, 150)


def test_what_has_not_changed_is_not_said_again(pull: Pull) -> None:
    """Whoever listens waits for the registry no longer than it is worth."""
    with pull.arrival.watched():
        pull.line("Pulling fs layer", FIRST)
        pull.put("1", 10)
        pull.wait_for(Stage.FETCHING, 10, 150)
        count = len(pull.told)
        time.sleep(0.1)
        assert len(pull.told) == count
