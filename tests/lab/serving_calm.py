# SPDX-License-Identifier: MulanPSL-2.0
"""`python -m tests.lab.serving_calm modern|legacy`: engines that are busy, slow or out of reach.

All of them are well: none may be restarted, and the agent may not call one hung.

`--engine double` instead of a real vLLM, `--minutes N` of each case (2), `--only A,B` as in
serving_table.py. Exit status 1 when there was a restart, 3 when the wheels of vLLM cannot be had.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.model import front_unit

from . import product, vllm_host
from .npu_scene import Event
from .process import LabError, kill_session
from .rootfs import Flavour
from .serving_run import DETECTED
from .serving_scene import START_LIMIT_S, EngineKind, ServingScene
from .serving_table import serving_scene
from .victims import freeze
from .vllm_env import NOT_HAD, VllmNotHad

AT_ONCE = 8  # requests that run; the others wait
MANY = 32
LONGEST = vllm_host.MAX_MODEL_LEN - 200  # characters, and each is a token to the tiny model
FREEZE_S, THAW_S = 8.0, 12.0
SLOW_METRICS_S = 5.0
FEW_PORTS = "40000 40099"
PORTS = "/proc/sys/net/ipv4/ip_local_port_range"
EATER = Path(__file__).with_name("port_eater.py")
EATER_PLACE = "/var/lib/deepseek-lab/port_eater.py"
BURN = "while True: pass"
LOOK_EVERY_S = 1.0
Body = Callable[[ServingScene, float], None]


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    body: Body
    only: EngineKind | None = None


@dataclass
class Result:
    seconds: float
    requests: float
    queues: list[float]
    events: list[Event]
    same_container: bool

    @property
    def restarts(self) -> int:
        return max(sum(one.kind == "starting" for one in self.events), not self.same_container)

    @property
    def is_good(self) -> bool:
        return not self.restarts and not any(one.kind in DETECTED for one in self.events)


def watch(scene: ServingScene, seconds: float, queues: list[float]) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(LabError):
            queues.append(scene.gauge("num_requests_waiting"))
        time.sleep(LOOK_EVERY_S)


@contextmanager
def running(scene: ServingScene, *argv: str) -> Iterator[None]:
    child = subprocess.Popen(
        scene.host.build_entry(argv),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield
    finally:
        kill_session(child)


class Calm:
    """The cases; each goes on for so many seconds."""

    def __init__(self) -> None:
        self.queues: list[float] = []

    def idle(self, scene: ServingScene, seconds: float) -> None:
        watch(scene, seconds, self.queues)

    def saturated(self, scene: ServingScene, seconds: float) -> None:
        with scene.load(MANY, max_tokens=500):
            watch(scene, seconds, self.queues)

    def long_prompts(self, scene: ServingScene, seconds: float) -> None:
        with scene.load(MANY, chars=LONGEST, max_tokens=20):
            watch(scene, seconds, self.queues)

    def frozen(self, scene: ServingScene, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            freeze(scene.victims(), FREEZE_S)
            watch(scene, THAW_S, self.queues)

    def frozen_busy(self, scene: ServingScene, seconds: float) -> None:
        with scene.load(MANY, max_tokens=500):
            self.frozen(scene, seconds)

    def no_cpu(self, scene: ServingScene, seconds: float) -> None:
        with ExitStack() as stack:
            for _ in range(2 * (os.cpu_count() or 1)):
                stack.enter_context(running(scene, "python3", "-c", BURN))
            watch(scene, seconds / 2, self.queues)
            stack.enter_context(scene.load(MANY, max_tokens=200))
            watch(scene, seconds / 2, self.queues)

    def slow_metrics(self, scene: ServingScene, seconds: float) -> None:
        product.set_engine(scene.host, metrics_s=SLOW_METRICS_S)
        try:
            watch(scene, seconds, self.queues)
        finally:
            product.set_engine(scene.host)

    def no_ports(self, scene: ServingScene, seconds: float) -> None:
        scene.host.write(EATER_PLACE, EATER.read_text())
        before = scene.host.read(PORTS)
        scene.host.run(["sh", "-c", f"echo {FEW_PORTS} > {PORTS}"])
        try:
            with running(scene, "python3", EATER_PLACE, "127.0.0.1", f"{scene.port}"):
                time.sleep(seconds)
        finally:
            scene.host.run(["sh", "-c", f"echo {before.strip()} > {PORTS}"])


def cases(calm: Calm) -> tuple[Case, ...]:
    return (
        Case("idle", calm.idle),
        Case("saturated: the queue is never empty", calm.saturated),
        Case("prompts as long as the model allows", calm.long_prompts),
        Case(f"frozen for {FREEZE_S:g} s, again and again, idle", calm.frozen),
        Case(f"frozen for {FREEZE_S:g} s, again and again, busy", calm.frozen_busy),
        Case("no CPU: twice as many loops as cores, idle, then busy", calm.no_cpu),
        Case("/metrics takes 5 s", calm.slow_metrics, EngineKind.DOUBLE),
        Case("no local port left for connections to it", calm.no_ports),
    )


def run_case(scene: ServingScene, case: Case, calm: Calm, seconds: float) -> Result:
    calm.queues.clear()
    began_at, began = time.time(), time.monotonic()
    before, asked = scene.engine(scene.name), scene.counter("request_success_total")
    case.body(scene, seconds)
    time.sleep(5)  # what was decided at the end is seen, too
    events = [one for one in scene.events(began_at) if one.instance == scene.name]
    same = scene.engine(scene.name).container == before.container
    requests = scene.counter("request_success_total") - asked if same else 0.0
    return Result(time.monotonic() - began, requests, list(calm.queues), events, same)


def show(case: Case, result: Result) -> None:
    told = ", ".join(sorted({one.kind for one in result.events})) or "no event"
    queue = f"queue {min(result.queues):.0f}..{max(result.queues):.0f}" if result.queues else ""
    word = "good" if result.is_good else "WRONG"
    print(
        f"{case.name:<55} {result.seconds:5.0f} s  {result.restarts} restarts  "
        f"{result.requests:6.0f} requests  {queue:<14} {word}  {told}",
        flush=True,
    )


def limit_batch(scene: ServingScene) -> None:
    """So that a queue comes about."""
    flag = f"--max-num-seqs={AT_ONCE}"
    if scene.kind is EngineKind.VLLM:
        vllm_host.write_profile(scene.host, flag)
    else:
        text = f'{product.SMALLER_NEEDS}[vllm]\nextra_args = ["{flag}"]\n'
        scene.host.write("/etc/deepseek-agent/models.d/8b.toml", text)
    scene.host.run(["systemctl", "reload", "deepseek-agent"])
    scene.host.run(["systemctl", "restart", front_unit(scene.name)], timeout_s=START_LIMIT_S)
    scene.make_well()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("flavour", type=Flavour, choices=list(Flavour))
    parser.add_argument("--engine", type=EngineKind, choices=list(EngineKind), default="vllm")
    parser.add_argument("--only", default="", help="words in the names of cases, with commas")
    parser.add_argument("--minutes", type=float, default=2.0, help="of each case")
    options = parser.parse_args()
    words = options.only.lower().split(",")
    wrong, calm = 0, Calm()
    try:
        with serving_scene(options.flavour, options.engine) as scene:
            limit_batch(scene)
            print(f"{options.flavour}, {options.engine}", flush=True)
            for case in cases(calm):
                if case.only not in (None, scene.kind):
                    continue
                if any(word in case.name.lower() for word in words):
                    result = run_case(scene, case, calm, options.minutes * 60)
                    show(case, result)
                    wrong += not result.is_good
                    scene.make_well()
    except VllmNotHad as error:
        print(f"vLLM: NOT RUN: {error}", file=sys.stderr)
        return NOT_HAD
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
