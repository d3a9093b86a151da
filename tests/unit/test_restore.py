# SPDX-License-Identifier: MulanPSL-2.0
"""The unit file of a running engine: removed, edited, made invalid, shadowed."""

import asyncio
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import pytest

from agent.action.restore import is_in_force, restore_file
from agent.action.running import Running, load_running, save_running
from agent.errors import Code, HostError
from agent.model import JobResult, UnitActive, UnitStatus
from tests.build import build_front, build_profile
from tests.scenario.ports import RootedFiles

PLACE = PurePosixPath("/run/systemd/system/deepseek-vllm-8b.service")
RUNNING = Running(build_profile(), (0,), str(PLACE), "[Unit]\n")


@dataclass
class FakeUnits:
    """What it has loaded is what the file said at the last reload."""

    files: RootedFiles
    loaded: str | None = RUNNING.text
    fragment: str = str(PLACE)
    reloads: int = 0
    valid: tuple[str, ...] = field(default=(RUNNING.text,))

    async def status(self, unit: str) -> UnitStatus:
        assert unit == PLACE.name
        return self.now()

    def now(self) -> UnitStatus:
        state = "not-found" if self.loaded is None else "loaded"
        if self.loaded is not None and self.loaded not in self.valid:
            state = "bad-setting"
        front = build_front(UnitActive.ACTIVE)
        return replace(front, name=PLACE.name, load_state=state, fragment_path=self.fragment)

    async def reload(self) -> None:
        self.reloads += 1
        self.loaded = self.files.read(PLACE)

    async def start(self, unit: str, deadline_s: float) -> JobResult:
        raise NotImplementedError

    async def stop(self, unit: str, deadline_s: float) -> JobResult:
        raise NotImplementedError

    async def reset_failed(self, unit: str) -> None:
        raise NotImplementedError


@pytest.fixture
def files(tmp_path: Path) -> RootedFiles:
    files = RootedFiles(tmp_path)
    files.write(PLACE, RUNNING.text)
    files.written.clear()
    return files


def restore(files: RootedFiles, units: FakeUnits) -> str:
    """Nothing is found at what was taken for in force."""
    in_force = is_in_force(RUNNING, units.now(), files)
    mended = asyncio.run(restore_file(RUNNING, files, units))
    assert in_force == (mended == "")
    return mended


def test_as_it_should_be(files: RootedFiles) -> None:
    units = FakeUnits(files)
    assert restore(files, units) == ""
    assert (files.written, units.reloads) == ([], 0)


def test_a_file_that_cannot_be_read_is_not_in_force(files: RootedFiles) -> None:
    place = Path(files.at(PLACE))
    place.unlink()
    place.symlink_to(place)
    assert not is_in_force(RUNNING, FakeUnits(files).now(), files)


@pytest.mark.parametrize("text", [None, "[Unit]\nDescription=mine\n", "garbage", ""])
@pytest.mark.parametrize("reloaded", [False, True])
def test_removed_or_changed(files: RootedFiles, text: str | None, reloaded: bool) -> None:
    if text is None:
        files.remove(PLACE)
    else:
        files.write(PLACE, text)
    units = FakeUnits(files)
    if reloaded:
        units.loaded = text
    mended = restore(files, units)
    assert ("removed" if text is None else "changed") in mended
    assert files.read(PLACE) == RUNNING.text
    assert (units.loaded, units.reloads) == (RUNNING.text, 1)
    assert restore(files, units) == ""


def test_put_back_by_hand_but_not_loaded(files: RootedFiles) -> None:
    units = FakeUnits(files, loaded=None)
    assert "had not been loaded" in restore(files, units)
    assert units.reloads == 1


def test_another_file_stands_in_for_ours(files: RootedFiles) -> None:
    units = FakeUnits(files, fragment="/etc/systemd/system/deepseek-vllm-8b.service")
    with pytest.raises(HostError) as raised:
        restore(files, units)
    assert raised.value.failure.code is Code.UNIT_SHADOWED
    assert not is_in_force(RUNNING, units.now(), files)
    assert files.written == []


def test_what_cannot_be_mended_is_said(files: RootedFiles) -> None:
    units = FakeUnits(files, loaded="bad", valid=())
    with pytest.raises(HostError) as raised:
        restore(files, units)
    assert raised.value.failure.code is Code.UNIT_NOT_LOADED


def test_what_runs_is_written_down_for_root_alone(files: RootedFiles) -> None:
    assert load_running(files, "8b") is None
    save_running(files, RUNNING)
    assert load_running(files, "8b") == RUNNING
    place = Path(files.at(PurePosixPath("/run/deepseek-agent/running/8b.json")))
    assert place.stat().st_mode & 0o777 == 0o600
    place.write_text('{"profile": 1}')  # another version's
    assert load_running(files, "8b") is None
