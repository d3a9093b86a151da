# SPDX-License-Identifier: MulanPSL-2.0
"""Engines that hang on a real host are replaced, with their evidence; those that only stand still
for a while, or cannot be reached, are left alone. A few of the cases of serving_table.py and
serving_calm.py, on the double; test_vllm.py has some on a real vLLM.
"""

import time

import pytest

from . import product
from .host import LabHost
from .serving_calm import FREEZE_S
from .serving_cases import case_named
from .serving_run import run_case
from .serving_scene import EngineKind, ServingScene
from .victims import freeze

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

CHOSEN = (
    "SIGKILL of EngineCore, 32 requests",
    "SIGSTOP of EngineCore, idle",
    "SIGSTOP of EngineCore, 32 requests",
    "SIGSTOP of the API server, idle",
)
# As netavark, its older versions and CNI use them.
FLUSH = "nft flush ruleset; iptables -F; iptables -t nat -F"
PORT_LIMIT_S = 60
SETTLED_S = 8


@pytest.fixture(scope="module")
def scene(host: LabHost) -> ServingScene:
    found = ServingScene(host, EngineKind.DOUBLE)
    found.prepare()
    return found


@pytest.mark.parametrize("name", CHOSEN)
def test_an_engine_that_does_not_work_is_replaced(scene: ServingScene, name: str) -> None:
    run = run_case(scene, case_named(name))
    assert not run.not_run
    assert not run.problems, "\n".join([*run.problems, run.account])


def test_a_freeze_is_left_alone(scene: ServingScene) -> None:
    before, began_at = scene.engine(scene.name), time.time()
    freeze(scene.victims(), FREEZE_S)
    time.sleep(SETTLED_S)
    assert scene.engine(scene.name) == before
    assert scene.answers(scene.name)
    assert not [one for one in scene.events(began_at) if one.instance == scene.name]


def test_flushed_rules_are_written_again_and_the_engine_goes_on(scene: ServingScene) -> None:
    host = scene.host
    before, began_at = product.container_started_at(host), time.time()
    host.run(["sh", "-c", FLUSH])
    assert product.ask(host, limit_s=1) is None
    took_s = product.ask_until_answered(host, PORT_LIMIT_S)
    print(f"{host.flavour}: the port is back after {took_s:.1f} s")

    def kinds() -> list[str]:
        return [one.kind for one in scene.events(began_at) if one.instance == scene.name]

    scene.wait("it is seen that the port answers", lambda: "port-answers" in kinds())
    assert kinds() == ["port-cut", "network-reloaded", "port-answers"]
    assert product.container_started_at(host) == before
