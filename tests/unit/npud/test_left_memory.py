# SPDX-License-Identifier: MulanPSL-2.0
"""Memory that stays in use without a process: when it is a fault, and when not."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from agent.model import (
    MEMORY_LEFT,
    DriverState,
    FaultSeverity,
    Inventory,
    NpuFault,
    NpuHealth,
    NpuProcess,
    NpuReadings,
)
from agent.npud.left_memory import LASTS_S, STILL_MIB, LeftMemory
from tests.build import build_inventory, build_npu

GIB = 1024
CLOCK = 1_700_000_000.0


@dataclass
class Chip:
    """Number 1 of two, and npud's readings of them."""

    now: float = 1000.0
    open: list[int] | None = field(default_factory=list)
    asked: int = 0  # who has which chip open

    def __post_init__(self) -> None:
        self.left = LeftMemory(self._find_open)

    def _find_open(self) -> list[int] | None:
        self.asked += 1
        return self.open

    def read(self, used_mib: int = 20 * GIB, **changes: Any) -> tuple[NpuFault, ...]:
        account = self.account(used_mib, **changes)
        self.left.take(account, self.now, CLOCK + self.now)
        return self.mark(account)

    def mark(self, account: Inventory) -> tuple[NpuFault, ...]:
        first, second = self.left.mark(account).npus
        assert first.faults == ()
        return second.faults

    def account(self, used_mib: int = 20 * GIB, **changes: Any) -> Inventory:
        changes = {"processes_told": True, **changes}
        npu = build_npu(1, memory_used_mib=used_mib, **changes)
        return build_inventory([build_npu(0, processes_told=True), npu])

    def later(self, seconds: float = LASTS_S) -> None:
        self.now += seconds


@pytest.fixture
def chip() -> Chip:
    return Chip()


def test_two_readings_a_minute_apart(chip: Chip) -> None:
    assert chip.read() == ()
    chip.later(LASTS_S - 0.1)
    assert chip.read() == ()
    chip.later(0.1)
    (fault,) = chip.read()
    assert (fault.code, fault.severity) == (MEMORY_LEFT, FaultSeverity.MINOR)
    assert fault.text == "20480 of 65536 MiB are used, and the driver lists no process"
    assert fault.raised_at == CLOCK + 1000  # since when it has been so
    chip.later()
    assert chip.read() == (fault,)  # the same words, so that nobody is told anew


def test_the_code_is_none_of_the_drivers() -> None:
    """Those have 10 or 01 in the first two bits."""
    assert len(MEMORY_LEFT) == 8
    assert int(MEMORY_LEFT, 16) >> 30 == 0


def test_beside_other_faults_in_order(chip: Chip) -> None:
    other = NpuFault("80E01801", FaultSeverity.MAJOR, "words", CLOCK)
    chip.read(faults=(other,))
    chip.later()
    assert [one.code for one in chip.read(faults=(other,))] == [MEMORY_LEFT, "80E01801"]


WITHOUT_REASON: dict[str, dict[str, Any]] = {
    "what an idle chip uses": {"used_mib": 3445},
    "not a third of it": {"used_mib": 19 * GIB},
    "a process has it": {"processes": (NpuProcess(4711, "python", 1),)},
    "nobody says which processes there are": {"processes_told": False},
    "it computes": {"readings": NpuReadings(utilization_percent=3)},
    "its size is not told": {"memory_mib": 0},
}


@pytest.mark.parametrize("changes", WITHOUT_REASON.values(), ids=WITHOUT_REASON)
def test_no_reason(chip: Chip, changes: dict[str, Any]) -> None:
    chip.read(**changes)
    chip.later()
    assert chip.read(**changes) == ()
    chip.later()
    assert chip.read() == ()  # it begins only now


@pytest.mark.parametrize("step", [-STILL_MIB - 1, STILL_MIB + 1])
def test_what_moves_is_given_back_or_used(chip: Chip, step: int) -> None:
    used = 30 * GIB
    for _ in range(5):
        assert chip.read(used) == ()
        chip.later()
        used += step
    chip.read(used)
    chip.later()
    assert chip.read(used + 3) != ()


def test_it_is_over_as_soon_as_anything_says_so(chip: Chip) -> None:
    """Also what was read of that chip alone."""
    chip.read()
    chip.later()
    assert chip.read() != ()
    assert chip.mark(chip.account(3445)) == ()
    assert chip.mark(chip.account(processes=(NpuProcess(4711, "python", 1),))) == ()
    assert chip.mark(chip.account()) != ()
    assert chip.read(3445) == ()
    assert chip.read() == ()  # and begins anew


@pytest.mark.parametrize("open_", [[1], None])
def test_a_chip_that_a_process_has_open_is_used(chip: Chip, open_: list[int] | None) -> None:
    """Or may have: an engine in a container that the driver does not look into."""
    chip.open = open_
    for _ in range(3):
        assert chip.read() == ()
        chip.later()
    chip.open = [0]
    assert chip.read() != ()
    chip.open = open_
    assert chip.read() == ()


def test_nobody_is_looked_for_before_it_matters(chip: Chip) -> None:
    chip.read()
    chip.later(LASTS_S - 1)
    chip.read()
    chip.read(3445)
    assert chip.asked == 0


def test_a_reading_without_an_answer_begins_anew(chip: Chip) -> None:
    chip.read()
    chip.left.take(Inventory(DriverState.UNKNOWN, "no answer"), chip.now, CLOCK)
    chip.later()
    assert chip.read() == ()


def test_unknown_chips_have_no_memory_left() -> None:
    npu = build_npu(1, memory_used_mib=60 * GIB, processes_told=True)
    assert npu.has_memory_left()
    assert not replace(npu, processes_told=False, health=NpuHealth.UNKNOWN).has_memory_left()
