# SPDX-License-Identifier: MulanPSL-2.0
"""One case of the table of NPU faults: a script makes NPUs ill at a known time, and what came of it
is measured and held against what has to hold. Leaves all well.
"""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from agent.model import container_name

from .npu_scene import CHOOSER, LOOK_EVERY_S, NAMES, Engine, Event, Scene
from .process import LabError

# From a fault to the stop, for levels that act at once.
STOP_GOAL_S = 0.5
QUIET_S = 2.0
# One that goes on answers within 0.2 s; the machine may be busy.
SILENCE_LIMIT_S = 3.0
ANSWER_LIMIT_S = 40.0
LIMIT_S = 30.0
NPU_KINDS = ("npu-", "host-", "npus")


class Ends(StrEnum):
    """What has become of the instance that the case is about."""

    GOES_ON = "goes on"  # in the same container
    MOVED = "moved"  # a new one, on other NPUs
    BACK = "back"  # a new one, on the same
    ANEW = "anew"  # a new one, wherever


@dataclass(frozen=True, slots=True)
class Case:
    """`kinds`: the events that have to come, so often; of all that begin with npu- or host- no
    others may. `told`: words of npud by which it is noticed, where no event of the agent's says
    so."""

    name: str
    script: Callable[["Run"], None]
    ends: Ends
    kinds: tuple[tuple[str, int], ...]
    name_of: str = CHOOSER
    free: bool = False  # it is about an NPU that nobody uses
    at_once: bool = False
    told: str = ""
    detected_within_s: float = 1.0
    settings: str | None = None  # of [npu], instead of the table's
    arrange: Callable[[Scene, int], None] | None = None  # before it happens, to that NPU


@dataclass
class Run:
    """Under way, then done. Times are in seconds since the injection."""

    scene: Scene
    case: Case
    npu: int = -1
    before: dict[str, Engine] = field(default_factory=dict)
    after: dict[str, Engine] = field(default_factory=dict)
    began_at: float = 0.0  # seconds since the epoch
    began: float = 0.0  # monotonic
    detected_s: float | None = None
    stop_told_s: float | None = None  # the agent's event
    stopped_s: float | None = None  # by systemd's account
    ended_s: float | None = None  # the script has ended the engine itself
    answered_s: float | None = None
    events: list[Event] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    account: str = ""  # what the agent told, when there were problems

    # --- words of the scripts --------------------------------------------------------------------

    def begin(self) -> None:
        """Now it happens."""
        self.began_at, self.began = time.time(), time.monotonic()

    def wait(self, kind: str, count: int = 1, limit_s: float = LIMIT_S) -> None:
        deadline = time.monotonic() + limit_s
        while sum(one.kind == kind for one in self.scene.events(self.began_at)) < count:
            if time.monotonic() > deadline:
                raise LabError(f"not within {limit_s:.0f} s: {count} x {kind}")
            time.sleep(LOOK_EVERY_S)

    def kill_engine(self) -> None:
        """Of the instance that the case is about: all of its processes, by the kernel."""
        name = container_name(self.case.name_of)
        self.scene.host.run(["podman", "kill", "--signal=KILL", name])
        self.ended_s = time.monotonic() - self.began

    def wait_npud(self, words: str, limit_s: float = LIMIT_S) -> None:
        deadline = time.monotonic() + limit_s
        while self.scene.npud_said(words, self.began_at) is None:
            if time.monotonic() > deadline:
                raise LabError(f"npud has not said within {limit_s:.0f} s: {words}")
            time.sleep(LOOK_EVERY_S)

    # --- measuring -------------------------------------------------------------------------------

    def take(self, answers: "Answers") -> None:
        name, scene = self.case.name_of, self.scene
        self.events = [one for one in scene.events(self.began_at) if one.kind.startswith(NPU_KINDS)]
        self.after = scene.engines()
        self.detected_s = self._detected()
        self.stop_told_s = self._first("npu-lost")
        if self.after[name].container == self.before[name].container:
            return
        stops = scene.stops(name, self.began_at)
        if self.ended_s is not None:
            gone_at = self.ended_s
        elif stops:
            self.stopped_s = stops[0][0] - self.began_at
            gone_at = stops[-1][1] - self.began_at
        else:
            return
        again = [at - self.began for at, ok in answers.given if ok]
        self.answered_s = min((at for at in again if at > gone_at), default=None)

    def _detected(self) -> float | None:
        if self.case.told:
            at = self.scene.npud_said(self.case.told, self.began_at)
            return None if at is None else at - self.began_at
        is_fault = any(kind == "npu-fault" for kind, _ in self.case.kinds)
        return self._first("npu-fault" if is_fault else "npus")

    def _first(self, kind: str) -> float | None:
        found = [one.at for one in self.events if one.kind == kind]
        return min(found) - self.began_at if found else None

    # --- what has to hold ------------------------------------------------------------------------

    def check(self, answers: "Answers") -> None:
        case, name = self.case, self.case.name_of
        before, after = self.before[name], self.after[name]
        moved = set(before.npus) != set(after.npus)
        if not after.container:
            self.problems.append("does not serve")
        elif after.container == before.container:
            self._want("goes on in the same container", case.ends is Ends.GOES_ON)
            silent_s = answers.longest_silence_s()
            self._want(f"no answer for {silent_s:.1f} s", silent_s <= SILENCE_LIMIT_S)
        else:
            allowed = (Ends.ANEW, Ends.MOVED if moved else Ends.BACK)
            self._want(f"new container, {allowed[1]}", case.ends in allowed)
            self._want("no answer again", self.answered_s is not None)
        for other in NAMES:
            if other != name and self.after[other] != self.before[other]:
                self.problems.append(
                    f"{other} was touched: {self.before[other]} {self.after[other]}"
                )
        self._check_events()
        if self.detected_s is None or self.detected_s > case.detected_within_s:
            self.problems.append(f"detected after {seconds(self.detected_s)} s")
        if case.at_once and (self.stopped_s is None or self.stopped_s > STOP_GOAL_S):
            self.problems.append(f"stopped after {seconds(self.stopped_s)} s, not {STOP_GOAL_S}")

    def _want(self, what: str, holds: bool) -> None:
        if not holds:
            self.problems.append(what)

    def _check_events(self) -> None:
        seen = self.kinds()
        wanted = Counter(dict(self.case.kinds))
        for kind in wanted.keys() | seen.keys():
            if kind in ("npus", "npu-fault-over", "host-trusted") and kind not in wanted:
                continue
            if seen[kind] != wanted[kind]:
                self.problems.append(f"{seen[kind]} x {kind}, not {wanted[kind]}")

    def kinds(self) -> Counter[str]:
        return Counter(one.kind for one in self.events)


def seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


class Answers:
    """Asks one instance again and again, in a thread of its own."""

    def __init__(self, scene: Scene, name: str) -> None:
        self.given: list[tuple[float, bool]] = []  # when it was asked, monotonic; answered?
        self._scene, self._name = scene, name
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> "Answers":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def longest_silence_s(self) -> float:
        """From one question that was answered to the next."""
        times = [at for at, ok in self.given if ok]
        return max((later - at for at, later in itertools.pairwise(times)), default=float("inf"))

    def _ask(self) -> None:
        while not self._ended.wait(0.02):
            at = time.monotonic()
            try:
                self.given.append((at, self._scene.answers(self._name)))
            except LabError:
                self.given.append((at, False))


def run_case(scene: Scene, case: Case) -> Run:
    """Never raises for what the product does."""
    run = Run(scene, case)
    try:
        if case.settings is not None:
            scene.set_npu(case.settings)
        run.before = scene.engines()
        run.npu = scene.free_npu() if case.free else run.before[case.name_of].npus[0]
        if case.arrange:
            case.arrange(scene, run.npu)
        with Answers(scene, case.name_of) as answers:
            _play(run, answers)
        run.take(answers)
        run.check(answers)
    except (LabError, LookupError) as error:
        run.problems.append(f"{type(error).__name__}: {error}")
    if run.problems:
        run.account = scene.tell()
    scene.make_well()
    return run


def _play(run: Run, answers: Answers) -> None:
    """Until what has to come has come, and a while longer."""
    run.begin()
    try:
        run.case.script(run)
        for kind, count in run.case.kinds:
            run.wait(kind, count)
    except LabError as error:
        run.problems.append(str(error))
    deadline = time.monotonic() + ANSWER_LIMIT_S
    while not _is_over(run, answers) and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY_S)
    time.sleep(QUIET_S)


def _is_over(run: Run, answers: Answers) -> bool:
    if not answers.given or not answers.given[-1][1]:
        return False
    if run.case.ends is Ends.GOES_ON:
        return True
    name = run.case.name_of
    phases = {one["name"]: one["phase"] for one in run.scene.told().get("instances", [])}
    new = run.scene.engine(name).container not in ("", run.before[name].container)
    return new and phases.get(name) == "serving"
