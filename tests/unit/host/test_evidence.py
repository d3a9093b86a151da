# SPDX-License-Identifier: MulanPSL-2.0
"""Evidence: notes are handed over, the unit is waited for so long and no longer, nothing raises."""

import json
import stat
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.errors import Code, HostError, HostUnavailable
from agent.evidence import files
from agent.host.evidence import FOLDER, EvidenceUnit
from agent.host.evidence import NOTES as NOTES_FOLDER
from agent.model import JobResult, UnitStatus
from agent.ports import EvidenceNotes
from tests.scenario.clock import run

NOTES = EvidenceNotes("the engine hangs", "ab" * 32, "vllm:x 1", "npu 0: ok")
DEADLINE_S = 5.0


@dataclass
class Units:
    """systemd, as far as it is asked; `writes`: the program gets as far as its file."""

    folder: Path
    result: JobResult | Exception = JobResult.DONE
    writes: bool = True
    jobs: list[tuple[str, str, float]] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)

    async def start(self, unit: str, deadline_s: float) -> JobResult:
        self.jobs.append(("start", unit, deadline_s))
        self.notes = json.loads((self.folder / "8b.json").read_text())
        if self.writes:
            (self.folder / self.notes["file"]).touch()
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    async def stop(self, unit: str, deadline_s: float) -> JobResult:
        self.jobs.append(("stop", unit, deadline_s))
        return JobResult.DONE

    async def status(self, unit: str) -> UnitStatus:
        raise NotImplementedError

    async def reset_failed(self, unit: str) -> None:
        self.forgotten.append(unit)

    async def reload(self) -> None:
        raise NotImplementedError


def gather(units: Units) -> str | None:
    evidence = EvidenceUnit(units, notes=units.folder, folder=units.folder)
    return run(evidence.gather("8b", NOTES, DEADLINE_S))


def test_the_file_is_told(tmp_path: Path) -> None:
    units = Units(tmp_path)
    assert gather(units) == str(tmp_path / units.notes.pop("file"))
    assert units.notes == {
        "reason": "the engine hangs",
        "container_id": "ab" * 32,
        "metrics": "vllm:x 1",
        "npus": "npu 0: ok",
    }
    assert stat.S_IMODE((tmp_path / "8b.json").stat().st_mode) == 0o600
    assert units.jobs == [("start", "deepseek-evidence@8b.service", 4.0)]
    assert units.forgotten == []


def test_one_that_is_late_is_ended_and_its_file_taken(tmp_path: Path) -> None:
    units = Units(tmp_path, JobResult.TIMEOUT)
    assert gather(units) is not None
    assert [verb for verb, _, _ in units.jobs] == ["start", "stop"]
    assert sum(deadline_s for _, _, deadline_s in units.jobs) == DEADLINE_S


@pytest.mark.parametrize(
    "result",
    [
        JobResult.FAILED,
        JobResult.TIMEOUT,
        HostError(Code.UNIT_NOT_LOADED, "no such unit"),
        HostUnavailable(Code.SYSTEMD_UNAVAILABLE, "the bus is gone"),
    ],
)
def test_without_a_file_there_is_none(tmp_path: Path, result: JobResult | Exception) -> None:
    assert gather(Units(tmp_path, result, writes=False)) is None


@pytest.mark.parametrize("result", [JobResult.FAILED, JobResult.TIMEOUT])
def test_no_failed_unit_is_left_of_it(tmp_path: Path, result: JobResult) -> None:
    """On a full disk, say: nobody has anything to mend about that unit."""
    units = Units(tmp_path, result, writes=False)
    gather(units)
    assert units.forgotten == ["deepseek-evidence@8b.service"]


def test_a_file_counts_whatever_systemd_says(tmp_path: Path) -> None:
    refused = HostUnavailable(Code.SYSTEMD_UNAVAILABLE, "the bus is gone")
    assert gather(Units(tmp_path, refused)) is not None


def test_notes_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    units = Units(tmp_path)
    evidence = EvidenceUnit(units, notes=tmp_path / "file/x", folder=tmp_path)
    assert run(evidence.gather("8b", NOTES, DEADLINE_S)) is None
    assert units.jobs == []


def test_both_sides_mean_the_same_places() -> None:
    assert files.RUN / "evidence" == NOTES_FOLDER
    assert files.FOLDER == FOLDER
