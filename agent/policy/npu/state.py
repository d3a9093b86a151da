# SPDX-License-Identifier: MulanPSL-2.0
"""What policy remembers of the NPUs, what can happen to them, and what can be decided. Pure.

All times are in counted seconds: the monotonic clock plus `Fleet.base`, which goes on where the
agent before this one stopped (`kept`). The wall clock is never looked at here, so one that jumps
by years releases nothing and sets nothing aside.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from agent.config.faults import FaultCatalogue, FaultLevel
from agent.config.values import NpuSettings, SubHealth
from agent.model import FaultSeverity, Inventory, Npu, NpuFault, Phase, ResetOutcome

# Most NPUs at once are the host (breaker), and "at once" comes as one event after the other: 8 of
# them within 20 ms (measured with a double of libdcmi). So nobody acts on the first one alone.
GATHER_S = 0.15
CARD_DROP = "40F84E00"  # as MindCluster calls a chip that does not answer any more
AGENT = "agent"

# --- state ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Followed:
    """A fault on an NPU, from when it was first seen until it is over."""

    code: str
    text: str
    severity: FaultSeverity
    since: float
    listed: bool = True  # by the latest look that can be trusted
    gone_since: float | None = None  # it is away since then, and not over yet
    raised: bool = True  # it counts; one that flaps only after a while
    acted_at: float | None = None  # when something was done about it, the last time
    pardoned: bool = False  # it is there, and no reason to act
    one_off: bool = False
    raised_at: float = 0.0  # seconds since the epoch, as the driver said: to be shown

    def as_fault(self) -> NpuFault:
        return NpuFault(self.code, self.severity, self.text, self.raised_at, self.one_off)


@dataclass(frozen=True, slots=True)
class Act:
    """Something was done about a fault."""

    code: str
    at: float


@dataclass(frozen=True, slots=True)
class Quarantine:
    """An NPU is set aside: no plan takes it."""

    reason: str
    since: float
    by: str  # AGENT, or a person's name
    code: str = ""  # the fault; empty: a person wants it
    release_after_s: float | None = None  # counted while the fault is away; None: a person clears
    gone_since: float | None = None


@dataclass(frozen=True, slots=True)
class NpuState:
    """One NPU. `npu` is None until the driver has told of it, since the agent started."""

    logic_id: int
    npu: Npu | None = None
    faults: tuple[Followed, ...] = ()
    acts: tuple[Act, ...] = ()
    quarantine: Quarantine | None = None
    tries: int = 0  # resets since it was last well
    hit_at: float | None = None  # when a fault that has to be acted upon last came
    busy: int = 0  # resets in a row that could not be done, because something used the chip
    reset_not_before: float = 0.0  # after those
    missed_since: float | None = None  # its reset cannot be done, or it is not there
    lost: str = ""  # why, when that is so for long: no plan waits for it

    @property
    def is_present(self) -> bool:
        return self.npu is not None and self.npu.device_present


@dataclass(frozen=True, slots=True)
class Holding:
    """An instance that has NPUs, or is about to (Phase in HOLDING)."""

    instance: str
    npus: tuple[int, ...]  # while it starts: of the plan that it is started on, not the one before
    phase: Phase


@dataclass(frozen=True, slots=True)
class Reset:
    """Under way."""

    npus: tuple[int, ...]
    since: float


@dataclass(frozen=True, slots=True)
class Fleet:
    """All NPUs of the host."""

    npus: tuple[NpuState, ...] = ()  # by logic id
    inventory: Inventory | None = None  # the latest one of a driver that is READY
    ready: bool = False  # the latest inventory is that one
    holdings: tuple[Holding, ...] = ()
    others: frozenset[int] = frozenset()  # NPUs that any other container or payload has
    reset: Reset | None = None
    settling: tuple[int, ...] = ()  # those that were reset last
    reset_ended_at: float | None = None
    suspect: str = ""  # why it is the host, and not its NPUs, that is not trusted
    base: float = 0.0  # counted seconds at 0 of the monotonic clock

    def of(self, logic_id: int) -> NpuState:
        found = (state for state in self.npus if state.logic_id == logic_id)
        return next(found, NpuState(logic_id))

    def with_npu(self, state: NpuState) -> "Fleet":
        others = (one for one in self.npus if one.logic_id != state.logic_id)
        return replace(self, npus=tuple(sorted((*others, state), key=lambda one: one.logic_id)))

    def holders(self, logic_id: int) -> Iterator[Holding]:
        return (one for one in self.holdings if logic_id in one.npus)


@dataclass(frozen=True, slots=True)
class Rules:
    """What decides about faults."""

    settings: NpuSettings
    catalogue: FaultCatalogue
    gather_s: float = GATHER_S

    def is_gathered(self, fault: Followed, at: float) -> bool:
        """Whether it has been waited long enough for others that come with it."""
        return at >= fault.since + self.gather_s

    def level(self, fault: Followed) -> FaultLevel:
        return self.catalogue.level_of(fault.as_fault())

    def acts_on(self, level: FaultLevel) -> bool:
        """Whether a fault of that level leads to anything but an event."""
        if level is FaultLevel.SUB_HEALTH:
            return self.settings.sub_health is SubHealth.QUARANTINE
        return level is not FaultLevel.NOT_HANDLE

    def in_force(self, state: NpuState) -> tuple[Followed, ...]:
        """The faults of the highest level that are to be acted upon."""
        if not state.faults:
            return ()  # asked several times a turn, of each NPU, for a year
        counting = [fault for fault in self.waiting(state) if fault.raised]
        rank = max((self.level(fault).rank for fault in counting), default=0)
        return tuple(fault for fault in counting if self.level(fault).rank == rank)

    def waiting(self, state: NpuState) -> list[Followed]:
        """Those, and the ones that may come to be, when they last."""
        return [
            fault
            for fault in state.faults
            if not (fault.pardoned or fault.one_off) and self.acts_on(self.level(fault))
        ]


# --- events --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NpusSeen:
    """What npud says, and who has NPUs."""

    inventory: Inventory
    holdings: tuple[Holding, ...]
    others: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class ResetEnded:
    npus: tuple[int, ...]
    outcome: ResetOutcome
    detail: str = ""


@dataclass(frozen=True, slots=True)
class QuarantineAsked:
    """By a person."""

    npus: tuple[int, ...]
    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ClearAsked:
    """By a person: these NPUs shall be used, whatever there is."""

    npus: tuple[int, ...]
    by: str


@dataclass(frozen=True, slots=True)
class HostCleared:
    """By a person: the host is well."""

    by: str


@dataclass(frozen=True, slots=True)
class NpuTick:
    """Time went by."""


NpuEvent = NpusSeen | ResetEnded | QuarantineAsked | ClearAsked | HostCleared | NpuTick

# --- decisions -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Note:
    """Nothing is done: a fault came, or is over."""

    logic_id: int
    fault: NpuFault
    level: FaultLevel
    over: bool = False


@dataclass(frozen=True, slots=True)
class StopInstance:
    """Stop it, and start it at once on a new plan."""

    instance: str
    npus: tuple[int, ...]  # whose fault it is
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class ResetNpus:
    """Reset these together, when nothing uses them (to be proved again by whoever does it)."""

    npus: tuple[int, ...]
    reason: str
    logic_id: int  # the one for whose faults it is done
    codes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SetAside:
    """The NPU is in quarantine from now on."""

    logic_id: int
    quarantine: Quarantine


@dataclass(frozen=True, slots=True)
class Release:
    """The NPU is out of quarantine."""

    logic_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class SuspectHost:
    """Nothing is done about NPUs from now on."""

    reason: str


@dataclass(frozen=True, slots=True)
class TrustHost:
    """That is over."""

    reason: str


NpuDecision = Note | StopInstance | ResetNpus | SetAside | Release | SuspectHost | TrustHost
