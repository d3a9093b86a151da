# SPDX-License-Identifier: MulanPSL-2.0
"""What each fault code of an NPU means, as the rest of the program sees it: frozen values.

`catalogue` reads and validates it, in the short-lived process that reads the configuration.
"""

from dataclasses import dataclass
from enum import StrEnum

from agent.model import FaultSeverity, NpuFault

DAY_S = 86_400.0
TIMES = 2  # the same fault this often within a day, and the NPU is set aside


class FaultLevel(StrEnum):
    """What a fault asks for, the mildest first; by MindCluster's names, which operators know."""

    NOT_HANDLE = "NotHandle"
    SUB_HEALTH = "SubHealth"
    RESTART_REQUEST = "RestartRequest"
    RESTART_BUSINESS = "RestartBusiness"
    FREE_RESTART = "FreeRestart"
    RESTART_NPU = "RestartNPU"
    PRE_SEPARATE = "PreSeparate"
    SEPARATE = "Separate"

    @property
    def rank(self) -> int:
        """The highest of several is the one that counts."""
        return _RANKS[self]


_RANKS = {level: rank for rank, level in enumerate(FaultLevel)}


@dataclass(frozen=True, slots=True)
class FaultRule:
    """What is known, or decided, about one code."""

    code: str
    level: FaultLevel
    name_en: str
    name_zh: str
    do_en: str  # what a person can do about it
    do_zh: str
    times: int  # so often acted upon within `within_s`, and the NPU is set aside
    within_s: float
    release_after_s: float | None  # of such an NPU; None: as the settings say
    flaps: bool  # it counts when it has lasted for a while, and is over when it stays away
    set_in: str  # the last file that says something about it; empty: none does


@dataclass(frozen=True, slots=True)
class BrokenFaults:
    """A file about faults that cannot be used, and why; the others are not touched by it."""

    file: str
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class FaultCatalogue:
    """All rules, by their code."""

    rules: dict[str, FaultRule]
    broken: tuple[BrokenFaults, ...]

    def rule_of(self, fault: NpuFault) -> FaultRule:
        """A code that no file knows is judged by the severity that the driver gives it."""
        known = self.rules.get(fault.code)
        if known is not None:
            return known
        level = _level_by(fault.severity)
        return FaultRule(fault.code, level, "", "", "", "", TIMES, DAY_S, None, False, "")

    def level_of(self, fault: NpuFault) -> FaultLevel:
        return self.rule_of(fault).level


def _level_by(severity: FaultSeverity) -> FaultLevel:
    """As MindCluster does it. It has no UNKNOWN: npu-smi names codes without a severity, and most
    codes of a chip are hints. Nothing is known of such a one, so nothing is done because of it;
    the driver's own word on the chip (health) still keeps a bad one out of the next plan."""
    match severity:
        case FaultSeverity.MAJOR | FaultSeverity.CRITICAL:
            return FaultLevel.SEPARATE
        case FaultSeverity.HINT | FaultSeverity.MINOR | FaultSeverity.UNKNOWN:
            return FaultLevel.NOT_HANDLE


NO_FAULTS = FaultCatalogue({}, ())
