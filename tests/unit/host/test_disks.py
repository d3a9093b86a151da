# SPDX-License-Identifier: MulanPSL-2.0
"""Looks at real file systems, one of which never answers; and the unit that prunes."""

import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import pytest

from agent.disks import Keep, PruneOrder, PruneReport, Role
from agent.errors import AgentError, Code
from agent.host.disks import LocalDisks, find_storage
from agent.model import PRUNE_UNIT, JobResult, UnitStatus
from tests.scenario.clock import run
from tests.scenario.world import until

ORDER = PruneOrder("7", 1.0, Keep(True), ("/models",))


@dataclass
class Units:
    """systemd; `program` is what the unit runs."""

    program: Callable[[], None] = lambda: None
    result: JobResult = JobResult.DONE
    jobs: list[str] = field(default_factory=list)

    async def status(self, unit: str) -> UnitStatus:
        raise NotImplementedError

    async def start(self, unit: str, deadline_s: float) -> JobResult:
        assert unit == PRUNE_UNIT
        self.jobs.append("start")
        self.program()
        return self.result

    async def stop(self, unit: str, deadline_s: float) -> JobResult:
        raise NotImplementedError

    async def reset_failed(self, unit: str) -> None:
        self.jobs.append("forget")

    async def reload(self) -> None:
        raise NotImplementedError


def test_a_moment_without_threads_is_over_with_the_next_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disks = LocalDisks(Units(), storage_files=(tmp_path / "none",))

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        assert run(disks.look([str(tmp_path)])) == ()
    assert Role.MODELS in {one.role for one in run(disks.look([str(tmp_path)]))}


def test_where_room_is_looked_at(tmp_path: Path) -> None:
    conf = tmp_path / "storage.conf"
    conf.write_text(f'[storage]\n# graphroot = "/x"\ngraphroot = "{tmp_path}/images"\n')
    disks = LocalDisks(Units(), storage_files=(tmp_path / "none", conf))
    models = [str(tmp_path / "not/yet/there"), str(tmp_path), str(tmp_path)]
    found = run(disks.look(models))
    places = {(one.role, one.place) for one in found}
    assert {(Role.MODELS, models[0]), (Role.MODELS, str(tmp_path))} <= places
    assert (Role.IMAGES, f"{tmp_path}/images") in places
    assert len([one for one in found if one.role is Role.MODELS]) == 2
    status = os.statvfs(tmp_path)
    sizes = {one.size_bytes for one in found if one.place.startswith(str(tmp_path))}
    assert sizes == {status.f_blocks * status.f_frsize}
    assert {one.device for one in found if one.place == str(tmp_path)} == {tmp_path.stat().st_dev}


@pytest.mark.parametrize("text", ["", "graphroot=7", 'graphroot = "relative"', "\0\xff"])
def test_storage_without_a_word_about_it(tmp_path: Path, text: str) -> None:
    conf = tmp_path / "storage.conf"
    conf.write_text(text, encoding="latin-1")
    assert find_storage((conf,)) == "/var/lib/containers/storage"
    assert find_storage((tmp_path / "none",)) == "/var/lib/containers/storage"


def test_a_look_that_hangs_costs_one_thread(tmp_path: Path) -> None:
    """As of a dead NFS server."""
    gate = threading.Event()

    class Hanging(LocalDisks):
        def _facts(self, role: Role, place: str) -> object:  # type: ignore[override]
            if role is Role.IMAGES:
                gate.wait()
            return super()._facts(role, place)

    disks = Hanging(Units(), deadline_s=0.5)

    def hanging() -> int:
        return sum(thread.name == "work" for thread in threading.enumerate())

    async def scenario() -> None:
        for _ in range(3):
            roles = {one.role for one in await disks.look([str(tmp_path)])}
            assert Role.IMAGES not in roles
        await until(lambda: hanging() == 1)
        gate.set()
        await until(lambda: not hanging())
        assert Role.IMAGES in {one.role for one in await disks.look([str(tmp_path)])}

    try:
        run(scenario())
    finally:
        gate.set()


def test_an_order_and_its_report(tmp_path: Path) -> None:
    report = PruneReport("7", (), left_bytes=5, at=2.0)

    def program() -> None:
        assert json.loads((tmp_path / "order.json").read_text())["number"] == "7"
        assert (tmp_path / "order.json").stat().st_mode & 0o777 == 0o600
        (tmp_path / "report.json").write_bytes(msgspec.json.encode(report))

    units = Units(program)
    assert run(LocalDisks(units, tmp_path).prune(ORDER)) == report
    assert units.jobs == ["start"]
    assert not (tmp_path / "order.json").exists()


@pytest.mark.parametrize(
    "left",
    [
        None,
        b"",
        b"{",
        b"[" * 100_000,
        b'{"number": 7}',
        msgspec.json.encode(PruneReport("6", ())),
    ],
)
@pytest.mark.parametrize("result", [JobResult.DONE, JobResult.FAILED, JobResult.TIMEOUT])
def test_no_report(tmp_path: Path, left: bytes | None, result: JobResult) -> None:
    """An old one is not taken for it."""
    (tmp_path / "report.json").write_bytes(msgspec.json.encode(PruneReport("7", ())))

    def program() -> None:
        if left is not None:
            (tmp_path / "report.json").write_bytes(left)

    units = Units(program, result)
    with pytest.raises(AgentError) as caught:
        run(LocalDisks(units, tmp_path).prune(ORDER))
    assert caught.value.failure.code is Code.UNIT_START_FAILED
    assert units.jobs == (["start"] if result is JobResult.DONE else ["start", "forget"])
    assert not (tmp_path / "order.json").exists()


def test_a_full_run_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AgentError) as caught:
        run(LocalDisks(Units(), tmp_path / "file").prune(replace(ORDER, number="8")))
    assert caught.value.failure.code is Code.FILE_NOT_WRITTEN
