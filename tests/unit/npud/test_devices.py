# SPDX-License-Identifier: MulanPSL-2.0
"""Device nodes, and the news about them."""

import os
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from selectors import DefaultSelector

import pytest

from agent.npud import inotify as inotify_module
from agent.npud.devices import Devices, is_character_device, logic_id_of, read_devices
from agent.npud.inotify import Event, Inotify, InotifyLost, parse_events
from agent.npud.log import Log
from agent.npud.watch import DeviceWatch


def accept_any(_status: os.stat_result) -> bool:
    return True


@pytest.mark.parametrize(
    ("name", "logic_id"),
    [
        ("davinci0", 0),
        ("davinci15", 15),
        ("davinci_manager", None),
        ("davinci07", None),
        ("davinci", None),
        ("davinci99999", None),
        ("davinci٣", None),
        ("xdavinci1", None),
    ],
)
def test_names(name: str, logic_id: int | None) -> None:
    assert logic_id_of(name) == logic_id


def test_read_devices(tmp_path: Path) -> None:
    for name in ("davinci3", "davinci11", "hisi_hdc", "davinci_manager", "sda", "davinci_x"):
        (tmp_path / name).touch()
    assert read_devices(str(tmp_path), accept_any) == Devices(
        str(tmp_path), frozenset({3, 11}), ("davinci_manager", "hisi_hdc")
    )


def test_only_character_devices_count(tmp_path: Path) -> None:
    (tmp_path / "davinci0").touch()
    (tmp_path / "davinci1").symlink_to("/dev/null")
    (tmp_path / "davinci2").symlink_to("nowhere")
    (tmp_path / "hisi_hdc").mkdir()
    assert read_devices(str(tmp_path)) == Devices(str(tmp_path), frozenset({1}))
    assert is_character_device(os.stat("/dev/null"))


def test_a_folder_that_is_not_there_has_no_devices(tmp_path: Path) -> None:
    assert not read_devices(str(tmp_path / "none")).any


def event(mask: int, name: bytes) -> bytes:
    padded = name.ljust(16, b"\0")
    return struct.pack("iIII", 1, mask, 0, len(padded)) + padded


def test_parse_events() -> None:
    data = event(inotify_module.IN_CREATE, b"davinci0") + event(inotify_module.IN_ATTRIB, b"x")
    assert parse_events(data) == [Event("davinci0", True), Event("x", False)]
    assert parse_events(b"\0" * 7) == []
    with pytest.raises(InotifyLost):
        parse_events(data + struct.pack("iIII", -1, inotify_module.IN_Q_OVERFLOW, 0, 0))


class Watched:
    """A watch, and everything it told."""

    def __init__(
        self,
        folder: Path,
        open_inotify: Callable[[str], Inotify] = Inotify,
        poll_s: float = 2.0,
    ) -> None:
        self.selector = DefaultSelector()
        self.told: list[tuple[set[int], set[int]]] = []
        self.said: list[str] = []
        self.watch = DeviceWatch(
            str(folder),
            accept_any,
            self.selector,
            Log(self.said.append),
            lambda devices, touched: self.told.append((set(devices.chips), set(touched))),
            time.monotonic,
            open_inotify,
            poll_s,
        )

    def run(self, seconds: float) -> None:
        """Turn for so long, or until something was told."""
        end, before = time.monotonic() + seconds, len(self.told)
        while time.monotonic() < end and len(self.told) == before:
            until = min(self.watch.next_at(), end) - time.monotonic()
            for key, mask in self.selector.select(max(0.0, until)):
                key.data(mask)
            self.watch.tick(time.monotonic())

    def close(self) -> None:
        self.watch.close()
        self.selector.close()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    it = Watched(tmp_path)
    yield it
    it.close()


def test_several_nodes_are_one_piece_of_news(watched: Watched, tmp_path: Path) -> None:
    started = time.monotonic()
    for name in ("davinci0", "davinci1", "davinci_manager"):
        (tmp_path / name).touch()
    watched.run(3)
    assert watched.told == [({0, 1}, {0, 1})]
    assert 0.08 < time.monotonic() - started < 1.5


def test_a_node_that_went_and_came_back_was_touched(watched: Watched, tmp_path: Path) -> None:
    (tmp_path / "davinci4").touch()
    watched.run(3)
    (tmp_path / "davinci4").rename(tmp_path / "away")
    (tmp_path / "away").rename(tmp_path / "davinci4")
    watched.run(3)
    (tmp_path / "davinci4").chmod(0o600)
    watched.run(3)
    assert watched.told == [({4}, {4}), ({4}, {4}), ({4}, set())]


def test_other_names_are_no_news(watched: Watched, tmp_path: Path) -> None:
    (tmp_path / "ttyS0").touch()
    watched.run(0.5)
    assert watched.told == []


def test_news_that_never_ends_is_told_all_the_same(watched: Watched, tmp_path: Path) -> None:
    node = tmp_path / "davinci0"
    started = time.monotonic()
    while not watched.told and time.monotonic() - started < 5:
        node.touch()
        watched.run(0.03)
    assert 1.8 < time.monotonic() - started < 3


def test_an_overflow_reads_everything_again(tmp_path: Path) -> None:
    class Overflowing(Inotify):
        def read(self) -> list[Event]:
            super().read()
            raise InotifyLost("0x4000")

    (tmp_path / "davinci0").touch()
    watched = Watched(tmp_path, Overflowing)
    (tmp_path / "davinci1").touch()
    watched.run(3)
    watched.close()
    assert watched.told == [({0, 1}, {0, 1})]
    assert len(watched.said) == 1


def test_without_inotify_the_names_are_looked_at(tmp_path: Path) -> None:
    def refuse(_folder: str) -> Inotify:
        raise OSError(24, "too many open files")

    watched = Watched(tmp_path, refuse, poll_s=0.1)
    (tmp_path / "davinci7").touch()
    watched.run(3)
    watched.close()
    assert watched.told == [({7}, {7})]
    assert [line for line in watched.said if "no inotify" in line] == watched.said
    assert len(watched.said) == 1  # not every two seconds


def test_the_folder_itself_may_come_and_go(tmp_path: Path) -> None:
    folder = tmp_path / "dev"
    folder.mkdir()
    (folder / "davinci0").touch()
    watched = Watched(folder, poll_s=0.1)
    (folder / "davinci0").unlink()
    folder.rmdir()
    watched.run(3)
    folder.mkdir()
    (folder / "davinci1").touch()
    watched.run(3)
    watched.close()
    assert watched.told == [(set(), {0}), ({1}, {1})]
