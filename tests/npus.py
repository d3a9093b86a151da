# SPDX-License-Identifier: MulanPSL-2.0
"""Policy about NPUs under test: a host whose NPUs get faults, and a clock that goes by hand."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from agent.config.catalogue import read_catalogue
from agent.config.faults import FaultCatalogue
from agent.model import (
    DriverState,
    FaultSeverity,
    Inventory,
    Npu,
    NpuFault,
    NpuHealth,
    NpuProcess,
    Phase,
    ResetOutcome,
    Unfit,
)
from agent.policy.npu.decide import decide_npus, unfit
from agent.policy.npu.state import (
    Fleet,
    Holding,
    NpuDecision,
    NpuEvent,
    NpusSeen,
    NpuState,
    NpuTick,
    ResetEnded,
    Rules,
)
from tests.build import NPU_SETTINGS, build_inventory, build_npu

SHIPPED = Path(__file__).resolve().parents[1] / "etc/faults.toml"
Decision = TypeVar("Decision")


@cache
def shipped_catalogue() -> FaultCatalogue:
    """As it is installed."""
    return msgspec.convert(read_catalogue(SHIPPED, SHIPPED.parent / "none"), FaultCatalogue)


def build_rules(**settings: Any) -> Rules:
    """Without the moment in which others are waited for: tests of it bring it with them."""
    return Rules(replace(NPU_SETTINGS, **settings), shipped_catalogue(), gather_s=0.0)


def build_fault(code: str, severity: FaultSeverity = FaultSeverity.MAJOR) -> NpuFault:
    return NpuFault(code, severity, f"text of {code}", 1_700_000_000.0)


@dataclass
class Host:
    """One without HCCS unless told otherwise: each NPU is reset for itself."""

    npus: dict[int, Npu]
    board_id: int | None = 0x33
    rules: Rules = field(default_factory=build_rules)
    fleet: Fleet = field(default_factory=Fleet)
    now: float = 1000.0
    driver: DriverState = DriverState.READY
    holdings: dict[str, Holding] = field(default_factory=dict)
    others: frozenset[int] = frozenset()
    told: list[NpuDecision] = field(default_factory=list)  # in the latest turn

    @classmethod
    def of(cls, number: int, **changes: Any) -> "Host":
        host = cls({one: build_npu(one) for one in range(number)}, **changes)
        host.see()
        return host

    @classmethod
    def in_pairs(cls, number: int, product: str, **changes: Any) -> "Host":
        """Two chips to a card."""
        chips = (
            build_npu(one, card_id=one // 2, chip_id=one % 2, product=product)
            for one in range(number)
        )
        host = cls({npu.logic_id: npu for npu in chips}, **changes)
        host.see()
        return host

    def feed(self, event: NpuEvent) -> list[NpuDecision]:
        self.fleet, told = decide_npus(self.fleet, event, self.now, self.rules)
        self.told = list(told)
        return self.told

    def see(self) -> list[NpuDecision]:
        inventory = build_inventory(self.npus.values(), driver=self.driver, board_id=self.board_id)
        return self.feed(NpusSeen(inventory, tuple(self.holdings.values()), self.others))

    def later(self, seconds: float) -> list[NpuDecision]:
        self.now += seconds
        return self.feed(NpuTick())

    def hold(self, instance: str, *npus: int, phase: Phase = Phase.SERVING) -> None:
        self.holdings[instance] = Holding(instance, npus, phase)
        self.see()

    def end(self, instance: str) -> list[NpuDecision]:
        """It is down, and has no NPUs."""
        self.holdings.pop(instance, None)
        return self.see()

    def set(self, logic_id: int, **changes: Any) -> list[NpuDecision]:
        self.npus[logic_id] = replace(self.npus[logic_id], **changes)
        return self.see()

    def break_(self, logic_id: int, *codes: str, **changes: Any) -> list[NpuDecision]:
        return self.set(logic_id, faults=tuple(build_fault(one) for one in codes), **changes)

    def mend(self, logic_id: int) -> list[NpuDecision]:
        changes: dict[str, Any] = {"health": NpuHealth.OK, "device_present": True}
        return self.set(logic_id, faults=(), processes=(), **changes)

    def use(self, logic_id: int) -> list[NpuDecision]:
        return self.set(logic_id, processes=(NpuProcess(4711, "python", 30_000),))

    def reset_ends(self, outcome: ResetOutcome = ResetOutcome.OK) -> list[NpuDecision]:
        assert self.fleet.reset is not None
        return self.feed(ResetEnded(self.fleet.reset.npus, outcome))

    def did(self, kind: type[Decision]) -> list[Decision]:
        """Of the latest turn."""
        return [one for one in self.told if isinstance(one, kind)]

    def npu(self, logic_id: int) -> NpuState:
        return self.fleet.of(logic_id)

    def unfit(self) -> dict[int, Unfit]:
        return {one.logic_id: one for one in unfit(self.fleet, self.rules)}

    def is_aside(self, logic_id: int) -> bool:
        return self.npu(logic_id).quarantine is not None


def silent(driver: DriverState) -> Inventory:
    return Inventory(driver, "no answer")


def ids(decisions: Iterable[Any]) -> list[int]:
    return [one.logic_id for one in decisions]
