# SPDX-License-Identifier: MulanPSL-2.0
"""NPUs that fail under a serving host: a few of the cases of the table (npu_table.py), and a host
whose NPUs only npu-smi knows.
"""

import json

import pytest

from . import product
from .host import LabHost
from .npu_cases import CASES
from .npu_run import run_case
from .npu_scene import Scene
from .npus import make_npus
from .product import CONTAINER

pytestmark = [pytest.mark.lab, pytest.mark.timeout(420)]

# Served on a spare; reset, and served on the same; the host is suspected; memory that an engine
# left is waited for, then reset; each with two other instances that are left alone.
CHOSEN = (
    "Separate",
    "RestartNPU, no other NPU may serve",
    "Separate, the other instance's NPU",
    "all NPUs at once (Separate)",
    "engine killed, its memory is left, no other NPU may serve",
)


@pytest.fixture(scope="module")
def scene(host: LabHost) -> Scene:
    found = Scene(host)
    found.prepare()
    return found


@pytest.mark.parametrize("name", CHOSEN)
def test_a_fault_comes_to(scene: Scene, name: str) -> None:
    run = run_case(scene, next(case for case in CASES if case.name == name))
    assert not run.problems, "\n".join([*run.problems, run.account])


def test_npud_reads_libdcmi_and_forks_one_process(scene: Scene) -> None:
    told = scene.told()["inventory"]
    assert (told["source"], told["driver"], len(told["npus"])) == ("dcmi", "ready", 8)
    pid = product.show(scene.host, "deepseek-npud", "MainPID")["MainPID"]
    children = scene.host.run(["pgrep", "--parent", pid]).stdout.split()
    assert len(children) == 1
    assert (
        scene.host.run(["grep", "-c", "libdcmi", f"/proc/{pid}/maps"], check=False).stdout == "0\n"
    )
    assert "/usr/local/dcmi/libdcmi.so" in scene.host.read(f"/proc/{children[0]}/maps")


def test_without_libdcmi_npu_smi_has_to_do(scene: Scene) -> None:
    """Last: the host is another one afterwards."""
    host = scene.host
    product.start(host, "stop")
    make_npus(host, libdcmi=False)
    host.run(["systemctl", "restart", "deepseek-npud"])
    scene.wait("npu-smi is asked", lambda: scene.told()["inventory"]["source"] == "npu-smi")
    inventory = scene.told()["inventory"]
    assert (inventory["driver"], len(inventory["npus"])) == ("ready", 8)
    assert product.start(host).returncode == 0, scene.tell()
    listed = host.run(["podman", "exec", CONTAINER, "ls", "/dev"]).stdout.split()
    assert any(name.startswith("davinci") and name != "davinci_manager" for name in listed)
    assert product.ask(host) is not None
    state = {"chips": {"3": {"health": "Alarm", "codes": ["80E18402"]}}}
    host.write("/run/fake-npu/state.json", json.dumps(state))
    scene.refresh()
    health = "alarm"
    scene.wait("NPU 3 is ill", lambda: scene.told()["inventory"]["npus"][3]["health"] == health)
