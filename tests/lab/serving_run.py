# SPDX-License-Identifier: MulanPSL-2.0
"""One case of the table of serving faults: something happens to the engine's processes at a known
time, and what came of it is measured and held against what has to hold. Leaves all well.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from .npu_run import Answers
from .npu_scene import LOOK_EVERY_S, Engine, Event
from .process import LabError
from .serving_scene import NEIGHBOR, ServingScene
from .victims import CannotTry, Victims

# The goals.
DEAD_S, HUNG_IDLE_S, HUNG_BUSY_S = 2.0, 15.0, 30.0
# By these events of the agent's it is known that something is wrong; before all that is done.
HUNG = ("engine-hung",)
SLOW = ("start-too-slow",)
DETECTED = (*HUNG, *SLOW, "engine-failed", "engine-killed", "stopping", "backoff")
UNTOLD = ("npus", "npu-fault-over", "evidence")
ANSWER_LIMIT_S = 300.0
# One that is still well at the end of this is not going to be noticed.
SLACK_S = 30.0
QUIET_S = 2.0


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    strike: Callable[[ServingScene, Victims], None]
    within_s: float  # to be detected
    clients: int = 0
    during_start: bool = False
    kinds: tuple[str, ...] = ()  # one of these events has to come
    evidence: bool = True


@dataclass
class Run:
    """Under way, then done. Times are in seconds since it happened."""

    scene: ServingScene
    case: Case
    began_at: float = 0.0  # since the epoch
    began: float = 0.0  # monotonic
    detected_s: float | None = None
    stopping_s: float | None = None  # systemd's account; None: nothing had to be stopped
    gone_s: float | None = None  # the last of the old processes
    answered_s: float | None = None
    evidence_bytes: int | None = None
    events: list[Event] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    not_run: str = ""
    account: str = ""

    def begin(self) -> None:
        self.began_at, self.began = time.time(), time.monotonic()

    def since(self, at: float) -> float:
        return at - self.began

    def own_events(self) -> list[Event]:
        found = self.scene.events(self.began_at)
        return [one for one in found if one.instance == self.scene.name]


def run_case(scene: ServingScene, case: Case) -> Run:
    """Never raises for what the product does."""
    run = Run(scene, case)
    try:
        before = scene.engines()
        _strike(run)
        if run.gone_s is not None:
            _watch(run, before[scene.name])
        _look_back(run, before)
    except CannotTry as error:
        run.not_run = str(error)
        return run
    except (LabError, LookupError, OSError) as error:
        run.problems.append(f"{type(error).__name__}: {error}")
    if run.problems:
        run.account = scene.tell()
    scene.make_well()
    return run


def _strike(run: Run) -> None:
    """Returns when the old processes are gone, or nothing has come of it in time."""
    scene, case = run.scene, run.case
    victims = _begin_start(scene) if case.during_start else scene.victims()
    with scene.load(case.clients):
        run.begin()
        case.strike(scene, victims)
        deadline = run.began + case.within_s + SLACK_S
        while time.monotonic() < deadline:
            if run.gone_s is None and victims.are_gone():
                run.gone_s = run.since(time.monotonic())
            if run.gone_s is not None and run.own_events():
                return
            time.sleep(0.02)
    run.problems.append("no event" if run.gone_s is not None else "the old processes are there")


def _begin_start(scene: ServingScene) -> Victims:
    """A start that is under way, with an EngineCore that does not serve yet."""
    scene.host.run(["systemctl", "stop", f"deepseek@{scene.name}.service"], timeout_s=120)
    scene.host.run(["systemctl", "start", "--no-block", f"deepseek@{scene.name}.service"])
    found: list[Victims] = []

    def is_there() -> bool:
        try:
            found.append(scene.victims())
        except LabError:
            return False
        return True

    scene.wait("an EngineCore", is_there)
    return found[0]


def _watch(run: Run, old: Engine) -> None:
    """Until a token is given by another container."""
    scene = run.scene
    with Answers(scene, scene.name) as answers:
        deadline = time.monotonic() + ANSWER_LIMIT_S
        while time.monotonic() < deadline:
            again = [at for at, ok in answers.given if ok]
            if again and scene.engine(scene.name).container not in ("", old.container):
                run.answered_s = run.since(min(again))
                break
            time.sleep(LOOK_EVERY_S)
    scene.wait("serving", lambda: scene.phase() == "serving")
    time.sleep(QUIET_S)


def _look_back(run: Run, before: dict[str, Engine]) -> None:
    scene, case = run.scene, run.case
    run.events = run.own_events()
    told = [one.at - run.began_at for one in run.events if one.kind in DETECTED]
    run.detected_s = min(told, default=None)
    stops = scene.stops(scene.name, run.began_at)
    run.stopping_s = stops[0][0] - run.began_at if stops else None
    evidence = [one.file for one in run.events if one.kind == "evidence"]
    run.evidence_bytes = scene.size_of(evidence[0]) if evidence else None
    if run.detected_s is None or run.detected_s > case.within_s:
        run.problems.append(f"not detected within {case.within_s:g} s")
    if run.answered_s is None:
        run.problems.append("no answer again")
    if case.kinds and not {one.kind for one in run.events} & set(case.kinds):
        run.problems.append(f"none of {', '.join(case.kinds)}")
    if case.evidence and not run.evidence_bytes:
        run.problems.append("no evidence")
    if scene.engines()[NEIGHBOR] != before[NEIGHBOR]:
        run.problems.append(f"{NEIGHBOR} was touched")
