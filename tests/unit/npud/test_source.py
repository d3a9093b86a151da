# SPDX-License-Identifier: MulanPSL-2.0
"""npu-smi as a program: that answers, refuses, talks too much, hangs, and cannot be killed."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from selectors import DefaultSelector

import pytest

from agent.model import DriverState, Inventory, NpuHealth
from agent.npud.child import Child, Kill, kill_group
from agent.npud.smi_run import ENVIRONMENT, find_npu_smi
from agent.npud.smi_source import NpuSmi
from tests.own_children import OwnChildren
from tests.unit.npud.descriptors import few_descriptors
from tests.unit.npud.fake_smi import HANGING, answering, saying, write_script


class Reading:
    """An NpuSmi with a script behind it, and all that it told."""

    def __init__(self, folder: Path) -> None:
        self.children = OwnChildren()
        self.program = folder / "npu-smi"
        self.selector = DefaultSelector()
        self.told: list[Inventory] = []
        self.source = self.make()

    def make(self, deadline_s: float = 5.0, kill: Kill = kill_group) -> NpuSmi:
        places = (str(self.program),)
        self.source = NpuSmi(self.selector, self.told.append, places, deadline_s, kill)
        return self.source

    def begin(self, body: str) -> None:
        write_script(self.program, body)
        self.source.begin(time.monotonic())

    def run(self, is_done: Callable[[], bool], seconds: float = 5.0) -> None:
        end = time.monotonic() + seconds
        while not is_done():
            assert time.monotonic() < end, "waited too long"
            for key, mask in self.selector.select(0.02):
                key.data(mask)
            self.source.tick(time.monotonic())

    def read(self, body: str) -> Inventory:
        before = len(self.told)
        self.begin(body)
        self.run(lambda: len(self.told) > before)
        return self.told[-1]


@pytest.fixture
def reading(tmp_path: Path) -> Iterator[Reading]:
    it = Reading(tmp_path)
    yield it
    it.source.close()
    it.selector.close()
    it.children.collect()  # nothing is left: a hanging one would run into the time limit


def test_an_answer(reading: Reading) -> None:
    told = reading.read(answering())
    assert told.driver is DriverState.READY
    assert [npu.health.value for npu in told.npus] == ["ok", "ok", "alarm", "unknown"]
    assert told.source == "npu-smi"


def test_the_exit_status_says_nothing(reading: Reading) -> None:
    assert reading.read(answering() + "; exit 187").driver is DriverState.READY


@pytest.mark.parametrize("status", [0, 187])
def test_a_refusal(reading: Reading, status: int) -> None:
    words = "dcmi module initialize failed. ret is -8005"
    told = reading.read(saying(words, status))
    assert (told.driver, told.detail) == (DriverState.FAILED, f"npu-smi: {words}")


def test_words_nobody_understands(reading: Reading) -> None:
    told = reading.read(saying("What?"))
    assert told.driver is DriverState.UNKNOWN
    assert told.detail == "npu-smi info -m said what is not understood: What?"


def test_no_words_at_all(reading: Reading) -> None:
    assert "no output" in reading.read("exec >&-; exit 1").detail


def test_no_npu_smi(reading: Reading) -> None:
    reading.source.begin(time.monotonic())
    assert reading.told[-1].driver is DriverState.ABSENT


def test_a_program_that_cannot_be_run(reading: Reading) -> None:
    reading.program.write_text("\0not a program")
    reading.program.chmod(0o755)
    reading.source.begin(time.monotonic())
    assert reading.told[-1].driver is DriverState.UNKNOWN
    assert "cannot run" in reading.told[-1].detail


def test_it_has_the_environment_of_the_driver_and_no_other(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "x")
    out = reading.program.parent / "env"
    reading.read(f'/usr/bin/env > "{out}"')
    found = dict(line.split("=", 1) for line in out.read_text().splitlines())
    assert {k: v for k, v in found.items() if k not in {"PWD", "_", "SHLVL"}} == ENVIRONMENT
    assert "/usr/local/Ascend/driver/lib64/driver" in found["LD_LIBRARY_PATH"]


def test_it_inherits_no_open_files(reading: Reading) -> None:
    out = reading.program.parent / "fds"
    pipe = os.pipe()
    reading.read(f'ls -l /proc/$$/fd > "{out}"')
    ours = {os.readlink(f"/proc/self/fd/{fd}") for fd in pipe}
    for fd in pipe:
        os.close(fd)
    theirs = {line.partition(" -> ")[2] for line in out.read_text().splitlines()}
    assert "/dev/null" in theirs
    assert not ours & theirs
    assert not any("eventpoll" in name for name in theirs)


def test_endless_output_is_cut_off(reading: Reading) -> None:
    told = reading.read("while :; do echo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; done")
    assert told.driver is DriverState.UNKNOWN
    assert "more than" in told.detail


def test_a_hang_is_unknown_and_ends(reading: Reading) -> None:
    reading.make(deadline_s=0.2)
    first = reading.read(HANGING)
    assert first.driver is DriverState.UNKNOWN
    assert first.detail.startswith("npu-smi hangs since 20")
    assert first.detail.endswith("Z")
    time.sleep(1.0)
    assert reading.read(HANGING).detail == first.detail  # since the first time, not the last
    reading.make(deadline_s=5)
    assert reading.read(answering()).driver is DriverState.READY


def test_a_hang_in_the_second_call(reading: Reading) -> None:
    reading.make(deadline_s=0.3)
    told = reading.read(f'[ "$2" = -m ] || sleep 100; {answering()}')
    assert (told.driver, told.npus) == (DriverState.UNKNOWN, ())


def test_a_program_that_leaves_its_output_open_is_not_waited_for(reading: Reading) -> None:
    told = reading.read(f"sleep 3 & {answering()}")
    assert told.driver is DriverState.READY


def test_one_that_cannot_be_killed_is_left_alone(reading: Reading) -> None:
    """As in D state: SIGKILL changes nothing, until the driver lets go one day."""
    starts = reading.program.parent / "starts"
    killed: list[int] = []
    reading.make(deadline_s=0.2, kill=killed.append)
    told = reading.read(f'echo x >> "{starts}"; {HANGING}')
    assert len(killed) == 1
    assert f"process {killed[0]} cannot be killed" in told.detail
    assert told.driver is DriverState.UNKNOWN

    again = reading.read(f'echo x >> "{starts}"; {answering()}')
    assert again == told
    assert starts.read_text() == "x\n"  # no second one while the first is there

    kill_group(killed[0])
    reading.run(lambda: reading.told[-1].driver is DriverState.READY)
    assert all(npu.health is not NpuHealth.OK for seen in reading.told[:-1] for npu in seen.npus)


def test_a_second_wish_is_one_more_reading(reading: Reading) -> None:
    reading.begin(f"sleep 0.1; {answering()}")
    reading.source.begin(time.monotonic())
    reading.source.begin(time.monotonic())
    reading.run(lambda: len(reading.told) == 2)
    assert reading.source.next_at() == float("inf")


def test_close_leaves_nothing(reading: Reading) -> None:
    reading.begin(HANGING)
    reading.source.close()
    assert not reading.selector.get_map()
    assert reading.children.collect() == [9]


def test_find(tmp_path: Path) -> None:
    (tmp_path / "a").touch(mode=0o644)
    write_script(tmp_path / "b", "")
    places = tuple(str(tmp_path / name) for name in ("none", "a", "b"))
    assert find_npu_smi(places) == str(tmp_path / "b")
    assert find_npu_smi(places[:2]) == ""


def test_child_that_is_not_there_leaves_no_files() -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(FileNotFoundError):
        Child(("/nowhere",), {})
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("answers", [b"", b"y\n"])
@pytest.mark.parametrize("left", [0, 1, 2])
def test_child_for_which_there_are_too_few_files_leaves_none(answers: bytes, left: int) -> None:
    """It is tried every few seconds: what was left would soon be missing for all else."""
    before = os.listdir("/proc/self/fd")
    with few_descriptors(left), pytest.raises(OSError, match="Too many open files"):
        Child(("/nowhere",), {}, answers)
    assert os.listdir("/proc/self/fd") == before
