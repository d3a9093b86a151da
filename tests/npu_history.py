# SPDX-License-Identifier: MulanPSL-2.0
"""A host with NPUs and two models over days, with everything that can happen to it: for policy.

The host keeps account of what policy asks for, apart from policy's own state, and fails as soon as
something is asked that may never be. Models are planned by the real planner; time is a number.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from agent.config.values import ResetScope, SubHealth
from agent.control.memory import Memory, decode_memory, encode_memory
from agent.errors import Code, Failure
from agent.model import (
    DriverState,
    FaultSeverity,
    Npu,
    NpuFault,
    NpuHealth,
    NpuProcess,
    Phase,
    ProductLine,
    ResetOutcome,
)
from agent.plan.demand import Demand
from agent.plan.holders import Holder
from agent.plan.npus import choose_npus
from agent.policy.npu.kept import recall_fleet, remember_fleet
from agent.policy.npu.reset import RESETS, TRIES
from agent.policy.npu.state import (
    AGENT,
    CARD_DROP,
    ClearAsked,
    Holding,
    HostCleared,
    NpuDecision,
    NpuEvent,
    QuarantineAsked,
    Release,
    ResetEnded,
    ResetNpus,
    SetAside,
    StopInstance,
)
from tests.build import NPU_MEMORY_MIB, build_inventory
from tests.npus import Host, build_rules, shipped_catalogue

DAY_S = 86_400.0
YEARS_S = 10 * 365 * DAY_S
START_S, LOAD_S, STOP_S = 5.0, 90.0, 10.0
CODES = (*shipped_catalogue().rules, "DEADBEEF", "0000BEEF")
LINES = (ProductLine.A2, ProductLine.A3, ProductLine.DUO)
PERSON = (QuarantineAsked, ClearAsked, HostCleared)


@dataclass
class Model:
    """An instance as policy about NPUs sees it."""

    name: str
    size: int
    phase: Phase = Phase.BACKOFF
    npus: tuple[int, ...] = ()
    due: float = 0.0
    failure: Failure | None = None


@dataclass(frozen=True)
class Step:
    """Something that happens. `number` and `seconds` mean what the kind makes of them."""

    kind: str
    npu: int = 0
    number: int = 0
    seconds: float = 0.0


KINDS = (
    *("wait",) * 4,
    *("fault",) * 4,
    *("over",) * 2,
    *("gone", "back", "unknown", "known", "silence", "answer", "use", "leave", "other", "one-off"),
    *("quarantine", "clear", "host-cleared", "agent", "storm", "mend"),
)


def build_step(chance: random.Random) -> Step:
    waits = (0.1, 1.0, 15.0, 20.0, 30.0, 60.0, 61.0, 300.0, 3600.0, DAY_S)
    return Step(
        chance.choice(KINDS), chance.randrange(16), chance.randrange(1000), chance.choice(waits)
    )


@dataclass
class World:
    """`number` decides what kind of host it is."""

    number: int
    host: Host = field(init=False)
    models: tuple[Model, ...] = field(init=False)
    wall: float = 1_700_000_000.0
    outcome: ResetOutcome = ResetOutcome.OK
    reset_due: float | None = None
    stops: dict[tuple[int, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    tries: Counter[int] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        scopes = (ResetScope.CARD, ResetScope.RING, ResetScope.NEVER, ResetScope.CARD)
        rules = build_rules(
            reset=scopes[self.number % 4],
            sub_health=list(SubHealth)[self.number // 8 % 2],
            release_after_s=3 * DAY_S,
        )
        kind = self.number // 4 % 4
        if kind == 3:
            self.host = Host.in_pairs(8, "Ascend910", rules=rules)
        elif kind == 2:
            self.host = Host.in_pairs(4, "310P3", rules=rules)
        else:
            self.host = Host.of((2, 6)[kind], board_id=(0x33, 0x60)[kind], rules=rules)
        self.models = (Model("8b", 2 if kind == 3 else 1), Model("7b", 2 if kind == 3 else 1))
        if kind:  # on the smallest host there is no place for a larger one
            self.models[1].size *= 1 + self.number // 16 % 2

    # --- what happens --------------------------------------------------------------------------

    def take(self, step: Step) -> None:
        npu = step.npu % len(self.host.npus)
        code = CODES[step.number % len(CODES)]
        match step.kind:
            case "wait":
                self.wait(step.seconds)
            case "fault":
                severity = list(FaultSeverity)[step.number % 5]
                self.add(npu, NpuFault(code, severity, "x", self.wall))
            case "one-off":
                self.add(npu, NpuFault(code, FaultSeverity.MAJOR, "x", self.wall, one_off=True))
            case "over":
                self.change(npu, faults=self.host.npus[npu].faults[1:])
            case "gone":
                self.change(npu, device_present=False)
            case "back":
                self.change(npu, device_present=True)
            case "unknown":
                self.change(npu, health=NpuHealth.UNKNOWN, faults=(), reason="probe hangs: x")
            case "known":
                self.change(npu, health=NpuHealth.OK)
            case "mend":
                self.mend_all()
            case "silence":
                self.host.driver = (DriverState.UNKNOWN, DriverState.FAILED)[step.number % 2]
                self.see()
            case "answer":
                self.host.driver = DriverState.READY
                self.see()
            case "use":
                self.change(npu, processes=(NpuProcess(1, "x", 1),))
            case "leave":
                self.change(npu, processes=())
                self.host.others = frozenset()
            case "other":
                self.host.others = frozenset({npu})
                self.see()
            case "quarantine":
                self.feed(QuarantineAsked((npu,), "root"))
            case "clear":
                self.forget(npu)
                self.feed(ClearAsked((npu,), "root"))
            case "host-cleared":
                self.feed(HostCleared("root"))
            case "agent":
                jump = (0.0, YEARS_S, -YEARS_S)[step.number % 3]
                self.restart_agent(step.seconds, jump)
            case "storm":
                self.storm(NpuFault(code, FaultSeverity.CRITICAL, "x", self.wall))
            case _:
                raise AssertionError(step.kind)

    def wait(self, seconds: float) -> None:
        """In steps in which a model can come up, with a wall clock that may jump meanwhile."""
        end = self.host.now + seconds
        self.wall += seconds
        while self.host.now < end:
            self.host.now = min(end, self.host.now + max(30.0, seconds / 4))
            self.feed_tick()
            self.turn()

    def add(self, npu: int, fault: NpuFault) -> None:
        others = (one for one in self.host.npus[npu].faults if one.code != fault.code)
        self.change(npu, faults=(*others, fault))

    def change(self, npu: int, **changes: Any) -> None:
        self.host.npus[npu] = replace(self.host.npus[npu], **changes)
        self.see()

    def storm(self, fault: NpuFault) -> None:
        for npu in self.host.npus:
            self.host.npus[npu] = replace(self.host.npus[npu], faults=(fault,))
        self.see()

    def mend_all(self) -> None:
        """Of what is wrong outside: the driver answers, and all NPUs are well."""
        self.host.driver, self.host.others = DriverState.READY, frozenset()
        for npu, chip in self.host.npus.items():
            self.host.npus[npu] = replace(
                chip, faults=(), processes=(), device_present=True, health=NpuHealth.OK
            )
        self.see()

    def forget(self, npu: int) -> None:
        """A person allows everything anew."""
        for key in [key for key in self.stops if key[0] == npu]:
            del self.stops[key]
        self.tries[npu] = 0

    def restart_agent(self, seconds: float, jump: float) -> None:
        """Maybe by a boot: the monotonic clock begins anew. A reset under way is lost."""
        host = self.host
        before = self.aside()
        memory = remember_fleet(host.fleet, host.now, self.wall)
        text = encode_memory(Memory(npus=memory))
        self.wall += seconds + jump
        host.now = 100.0 if jump else host.now + seconds
        for model in self.models:
            model.due = host.now + LOAD_S
        host.fleet = recall_fleet(decode_memory(text).npus, host.now, self.wall)
        # Counted time may be up to a step behind what it was.
        at = host.fleet.base + host.now
        for times in self.stops.values():
            times[:] = [min(at, one) for one in times]
        self.reset_due = None
        assert self.aside() == before, "a quarantine did not survive"
        assert self.reasons() == before, "not all of them are unfit"
        self.see()

    def aside(self) -> set[int]:
        return {one.logic_id for one in self.host.fleet.npus if one.quarantine is not None}

    def reasons(self) -> set[int]:
        unfit = self.host.unfit().values()
        return {one.logic_id for one in unfit if one.reason.startswith("set aside: ")}

    # --- policy ----------------------------------------------------------------------------------

    def see(self) -> None:
        self.host.holdings = {
            model.name: Holding(model.name, model.npus, model.phase)
            for model in self.models
            if model.npus
        }
        self.check(self.host.see(), None)
        self.turn()

    def feed(self, event: NpuEvent) -> None:
        self.check(self.host.feed(event), event)
        self.turn()

    def feed_tick(self) -> None:
        self.check(self.host.later(0.0), None)

    def check(self, decisions: list[NpuDecision], event: NpuEvent | None) -> None:
        """What may never be asked for; and then it is done."""
        host = self.host
        person = isinstance(event, PERSON)
        for one in decisions:
            self.asked[type(one).__name__] += 1
            match one:
                case StopInstance():
                    self.check_acting(one.npus)
                    self.check_stop(one)
                case ResetNpus():
                    self.check_acting(one.npus)
                    self.check_reset(one)
                case SetAside():
                    by_person = person and one.quarantine.by != AGENT
                    refused = isinstance(event, ResetEnded)
                    assert by_person or refused or self.is_evident(one.logic_id)
                case Release():
                    told = "suspected" in one.reason or "says so" in one.reason
                    assert told or self.is_well(one.logic_id)
                case _:
                    pass
        for npu in host.npus:
            if self.is_well(npu) and host.fleet.reset is None:
                self.tries[npu] = 0

    def check_acting(self, npus: tuple[int, ...]) -> None:
        assert self.host.driver is DriverState.READY, "acted on UNKNOWN"
        assert not self.host.fleet.suspect, "acted although the host is suspected"
        assert any(self.is_evident(one) for one in npus), "acted without a fault"

    def is_evident(self, logic_id: int) -> bool:
        """A fault that leads to something is there now, for everybody to see."""
        npu = self.host.npus[logic_id]
        return self.host.driver is DriverState.READY and (
            not npu.device_present or any(self.faults_of(npu))
        )

    def is_well(self, logic_id: int) -> bool:
        npu = self.host.npus[logic_id]
        known = npu.device_present and npu.health is not NpuHealth.UNKNOWN
        pardoned = {one.code for one in self.host.fleet.of(logic_id).faults if one.pardoned}
        ill = any(fault.code not in pardoned for fault in self.faults_of(npu))
        return self.host.driver is DriverState.READY and known and not ill

    def faults_of(self, npu: Npu) -> Iterator[NpuFault]:
        rules = self.host.rules
        for fault in npu.faults:
            if not fault.one_off and rules.acts_on(rules.catalogue.level_of(fault)):
                yield fault

    def check_stop(self, stop: StopInstance) -> None:
        model = self.model(stop.instance)
        assert set(stop.npus) <= set(model.npus), "an instance that does not use the NPU"
        assert model.phase in (Phase.STARTING, Phase.LOADING, Phase.SERVING)
        at = self.host.fleet.base + self.host.now
        rule = self.host.rules.catalogue.rules.get(stop.code)
        for npu in stop.npus:
            times = self.stops[npu, stop.code]
            times.append(at)
            latest = [one for one in times if one > at - DAY_S]
            assert len(latest) <= (rule.times if rule else 2), "too many restarts"
        if self.number % 5:  # else it hangs, and goes on
            model.phase, model.due = Phase.STOPPING, self.host.now + STOP_S

    def check_reset(self, reset: ResetNpus) -> None:
        assert self.reset_due is None, "two resets at once"
        held = {npu for model in self.models for npu in model.npus}
        cards = set()
        for logic_id in reset.npus:
            npu = self.host.npus[logic_id]
            cards.add(npu.card_id)
            assert logic_id not in held, "an instance has it"
            assert logic_id not in self.host.others, "another container has it"
            assert not npu.processes, "a process uses it"
            assert npu.device_present, "it is not there"
            dropped = any(fault.code == CARD_DROP for fault in npu.faults)
            assert dropped or npu.health is not NpuHealth.UNKNOWN, "nothing is known of it"
            # One that is set aside, or has another fault, only goes along with its mate.
            levels = {self.host.rules.catalogue.level_of(one) for one in self.faults_of(npu)}
            if levels & set(RESETS) and logic_id not in self.aside():
                self.tries[logic_id] += 1
                assert self.tries[logic_id] <= TRIES, "too many resets"
        whole = self.host.board_id == 0x60 or self.number // 4 % 4 in (2, 3)
        ring = {
            one.logic_id
            for one in self.host.npus.values()
            if whole and one.device_present and (one.card_id in cards or len(cards) > 1)
        }
        assert ring <= set(reset.npus), "not all that are reset are asked for"
        scope = self.host.rules.settings.reset
        assert scope is not ResetScope.NEVER
        assert scope is ResetScope.RING or len(cards) == 1, "other cards go with it"
        self.reset_due = self.host.now + 40.0

    # --- the models and the reset ----------------------------------------------------------------

    def model(self, name: str) -> Model:
        return next(one for one in self.models if one.name == name)

    def turn(self) -> None:
        """Whatever has its time now. Ends: each turn moves something on."""
        if self.reset_due is not None and self.host.now >= self.reset_due:
            self.end_reset()
        for model in self.models:
            if self.host.now >= model.due:
                self.move(model)

    def end_reset(self) -> None:
        reset = self.host.fleet.reset
        self.reset_due = None
        if reset is None:
            return
        if self.outcome is ResetOutcome.OK:
            for npu in reset.npus:
                self.host.npus[npu] = replace(self.host.npus[npu], faults=())
        if self.outcome in (ResetOutcome.BUSY, ResetOutcome.REFUSED):
            for npu in reset.npus:
                self.tries[npu] = max(0, self.tries[npu] - 1)
        outcomes = list(ResetOutcome)
        self.feed(ResetEnded(reset.npus, self.outcome))
        self.outcome = outcomes[(outcomes.index(self.outcome) + self.number) % len(outcomes)]
        self.see()

    def move(self, model: Model) -> None:
        now = self.host.now
        match model.phase:
            case Phase.STOPPING:
                model.phase, model.npus = Phase.BACKOFF, ()
            case Phase.STARTING:
                model.phase, model.due = Phase.LOADING, now + LOAD_S
            case Phase.LOADING:
                model.phase = Phase.SERVING
            case Phase.SERVING:
                return
            case _:
                self.start(model)
                if model.failure is not None:
                    model.due = now + START_S
                    return
        self.see()

    def start(self, model: Model) -> None:
        if self.host.driver is not DriverState.READY:
            model.failure = Failure(Code.NPUD_SILENT, "cannot tell the state of the NPUs")
            return
        inventory = build_inventory(self.host.npus.values(), board_id=self.host.board_id)
        taken = {npu for other in self.models for npu in other.npus} | self.host.others
        need = model.size * NPU_MEMORY_MIB
        demand = Demand("auto", LINES, 32, 8, need)
        holders = {npu: Holder("somebody") for npu in taken}
        choice = choose_npus(demand, inventory, holders, self.host.unfit())
        if isinstance(choice, Failure):
            model.failure = choice
            return
        assert not {npu.logic_id for npu in choice.npus} & self.host.unfit().keys()
        model.failure, model.npus = None, tuple(npu.logic_id for npu in choice.npus)
        model.phase, model.due = Phase.STARTING, self.host.now + START_S

    # --- the end ---------------------------------------------------------------------------------

    def check_end(self) -> None:
        """Whatever happened: it serves, or says why not. When all is well for long, it serves."""
        for _ in range(8):
            self.wait(150.0)
        for model in self.models:
            assert model.phase is Phase.SERVING or (model.failure and model.failure.message)
        self.outcome = ResetOutcome.OK
        self.mend_all()
        for npu in self.host.npus:
            self.forget(npu)
            self.feed(ClearAsked((npu,), "root"))
        for _ in range(6):
            self.wait(150.0)
        assert self.host.unfit() == {}
        assert [model.phase for model in self.models] == [Phase.SERVING] * 2, self.models

    def check_release(self) -> None:
        """Without a person: all that the agent set aside comes back."""
        self.mend_all()
        for _ in range(12):
            self.wait(DAY_S / 2)
        for one in self.host.fleet.npus:
            assert one.quarantine is None or one.quarantine.by != AGENT
