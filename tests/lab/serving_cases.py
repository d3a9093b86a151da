# SPDX-License-Identifier: MulanPSL-2.0
"""The cases of the table of serving faults: who is stopped or killed, and while what goes on."""

from collections.abc import Callable
from dataclasses import replace

from .serving_run import DEAD_S, HUNG, HUNG_BUSY_S, HUNG_IDLE_S, SLOW, Case
from .serving_scene import EngineKind, ServingScene
from .victims import CannotTry, Victims, limit_memory, take_memory

# What a start has at the least, once it is known how long this host needs (policy/startup.py).
START_BUDGET_S = 190.0
# vLLM 0.32 ends 2.4 s after its EngineCore while it starts. Processes of a start come and go, so
# that one has ended is no sign.
DEAD_STARTING_S = 5.0
TEST_LIMIT_S = 90.0


def kill(who: str) -> Callable[[ServingScene, Victims], None]:
    def strike(_: ServingScene, victims: Victims) -> None:
        if not victims.pids(who):
            raise CannotTry(f"this engine has no {who}")
        victims.kill(who)

    return strike


def stop(who: str) -> Callable[[ServingScene, Victims], None]:
    def strike(_: ServingScene, victims: Victims) -> None:
        if not victims.pids(who):
            raise CannotTry(f"this engine has no {who}")
        victims.stop(who)

    return strike


def podman_kill(scene: ServingScene, _: Victims) -> None:
    scene.host.run(["podman", "kill", scene.container])


def out_of_memory(scene: ServingScene, victims: Victims) -> None:
    if scene.kind is EngineKind.DOUBLE:
        raise CannotTry("the double is smaller than what takes the memory")
    limit_memory(scene.host, victims)
    take_memory(scene.host, scene.container)


def _hung(name: str, who: str, clients: int) -> Case:
    limit_s = HUNG_BUSY_S if clients else HUNG_IDLE_S
    return Case(name, stop(who), limit_s, clients, kinds=HUNG)


def case_named(name: str) -> Case:
    """For a test: without a stopwatch, which is for the table."""
    return replace(next(case for case in CASES if case.name == name), within_s=TEST_LIMIT_S)


CASES = (
    Case("SIGKILL of the API server", kill("api"), DEAD_S),
    Case("SIGKILL of EngineCore", kill("core"), DEAD_S),
    Case("SIGKILL of EngineCore, 32 requests", kill("core"), DEAD_S, 32),
    Case("SIGKILL of a Worker", kill("worker"), DEAD_S),
    Case("SIGKILL of conmon alone", kill("conmon"), DEAD_S),
    Case("SIGKILL of all in the container", kill("all"), DEAD_S),
    Case("podman kill", podman_kill, DEAD_S),
    Case("out of memory in the container", out_of_memory, DEAD_S),
    _hung("SIGSTOP of EngineCore, idle", "core", 0),
    _hung("SIGSTOP of EngineCore, 1 request", "core", 1),
    _hung("SIGSTOP of EngineCore, 32 requests", "core", 32),
    _hung("SIGSTOP of a Worker, idle", "worker", 0),
    _hung("SIGSTOP of a Worker, 32 requests", "worker", 32),
    _hung("SIGSTOP of the API server, idle", "api", 0),
    _hung("SIGSTOP of the API server, 32 requests", "api", 32),
    _hung("SIGSTOP of all in the container, idle", "all", 0),
    Case(
        "SIGKILL of EngineCore during the start", kill("core"), DEAD_STARTING_S, during_start=True
    ),
    Case(
        "SIGSTOP of EngineCore during the start",
        stop("core"),
        START_BUDGET_S,
        during_start=True,
        kinds=SLOW,
    ),
)
