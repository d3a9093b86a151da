# SPDX-License-Identifier: MulanPSL-2.0
"""A real vLLM on real hosts, started by `systemctl start deepseek@tiny`: what it does is what the
contract says, which the double has to do as well, and it comes back when it has died.

On a machine that cannot have its wheels these tests are skipped, and the end of pytest's output
says that vLLM was NOT RUN.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.model import container_name, engine_unit, front_unit
from tests.fakes.engine import contract, contract_faults, contract_start

from . import product
from .host import LabHost
from .process import Completed
from .rootfs import Flavour
from .serving_cases import case_named
from .serving_run import run_case
from .serving_scene import EngineKind, ServingScene
from .vllm_env import PLACE, VllmNotHad
from .vllm_host import MAX_MODEL_LEN, NAME, PORT, SERVED, START_LIMIT_S, image_name, vllm_host

pytestmark = [pytest.mark.lab, pytest.mark.vllm, pytest.mark.timeout(2 * START_LIMIT_S)]

FRONT, ENGINE, CONTAINER = front_unit(NAME), engine_unit(NAME), container_name(NAME)
URL = f"http://127.0.0.1:{PORT}"
FOLDER = "/var/lib/deepseek-lab/engine_contract"
PARTS = ("__init__.py", "contract.py", "contract_faults.py")
SOURCES = Path(contract.__file__).parent
ONE_CHECK = """
import sys
from engine_contract import contract
url, model, check = sys.argv[1:]
getattr(contract, check)(contract.Target(url, model, timeout_s=60))
"""
CHECK_LIMIT_S = 120
HANG = "SIGSTOP of EngineCore, idle"
SHORT_FATAL = (contract_faults.check_killed_worker, contract_faults.check_sigterm_while_busy)
# Each of these costs a start; on the other flavour the death of EngineCore has to do.
FATAL = [
    pytest.param(check, id=check.__name__, marks=() if check in SHORT_FATAL else pytest.mark.long)
    for check in (*contract_faults.FATAL_CHECKS, *contract_faults.WORKER_CHECKS)
    if check is not contract_faults.check_killed_core
]


@pytest.fixture(scope="module", params=list(Flavour), ids=lambda flavour: flavour.value)
def host(request: pytest.FixtureRequest) -> Iterator[LabHost]:
    """With a vLLM that serves."""
    flavour: Flavour = request.param
    try:
        with vllm_host(flavour, f"vllm-{flavour.value}") as found:
            for part in PARTS:
                found.copy_in(SOURCES / part, f"{FOLDER}/{part}")
            start(found, "enable", "--now")
            yield found
    except VllmNotHad as error:
        pytest.skip(f"vLLM: NOT RUN: {error}")


def start(host: LabHost, *verb: str) -> None:
    done = host.run(["systemctl", *verb, FRONT], timeout_s=START_LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr + product.describe(host)


def wait_serving(host: LabHost) -> None:
    """Its STATUS= says that and nothing else."""
    deadline = time.monotonic() + START_LIMIT_S
    while (now := product.show(host, FRONT, "StatusText")["StatusText"]) != "serving":
        assert time.monotonic() < deadline, now + product.describe(host)
        time.sleep(product.ANSWER_EVERY_S)


def python(host: LabHost, *arguments: str) -> Completed:
    folder = FOLDER.rpartition("/")[0]
    program = ["env", f"--chdir={folder}", "python3", *arguments]
    return host.run(program, timeout_s=CHECK_LIMIT_S, check=False)


def run_check(host: LabHost, check: Callable[[contract.Target], None]) -> None:
    done = python(host, "-c", ONE_CHECK, URL, SERVED, check.__name__)
    assert done.returncode == 0, done.stderr


def run_fault_check(host: LabHost, check: contract_faults.Check) -> None:
    pid = host.run(["podman", "inspect", "--format={{.State.Pid}}", CONTAINER]).stdout.strip()
    arguments = (URL, SERVED, pid, check.__name__)
    done = python(host, "-m", "engine_contract.contract_faults", *arguments)
    assert done.returncode == 0, done.stderr


def test_a_start_says_what_the_contract_says(host: LabHost) -> None:
    log = host.run(["journalctl", "--boot", "--output=cat", f"--unit={ENGINE}"]).stdout
    assert not contract_start.missing_start_lines(log), log


@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__)
def test_it_passes_the_contract(host: LabHost, check: Callable[[contract.Target], None]) -> None:
    run_check(host, check)


@pytest.mark.parametrize("check", contract_faults.FAULT_CHECKS, ids=lambda check: check.__name__)
def test_it_fails_as_the_contract_says(host: LabHost, check: contract_faults.Check) -> None:
    run_fault_check(host, check)


@pytest.mark.parametrize("failure", contract_start.START_FAILURES, ids=lambda one: one.flag)
def test_it_refuses_what_the_contract_says(
    host: LabHost, failure: contract_start.StartFailure
) -> None:
    if host.flavour is not Flavour.MODERN:
        pytest.skip("says the same on the other flavour")
    mounts = (f"--volume={PLACE}:{PLACE}:ro", f"--volume=/var/lib/deepseek/models/{NAME}:/model:ro")
    run = ["podman", "run", "--rm", "--network=none", *mounts, image_name(), "vllm", "serve"]
    flags = ["--dtype=float32", f"--max-model-len={MAX_MODEL_LEN}", failure.flag]
    done = host.run([*run, "/model", *flags], check=False, timeout_s=CHECK_LIMIT_S)
    assert done.returncode == failure.status
    assert failure.words in done.stderr + done.stdout


def test_a_dead_engine_core_is_replaced(host: LabHost) -> None:
    before = product.show(host, ENGINE, "InvocationID")
    run_fault_check(host, contract_faults.check_killed_core)
    # By its unit that ends, or by its own word before that.
    deadline = time.monotonic() + START_LIMIT_S
    while product.show(host, ENGINE, "InvocationID") == before:
        assert time.monotonic() < deadline, product.describe(host)
        time.sleep(product.ANSWER_EVERY_S)
    wait_serving(host)
    run_check(host, contract.check_completion)


@pytest.mark.parametrize("check", FATAL)
def test_it_ends_as_the_contract_says(host: LabHost, check: contract_faults.Check) -> None:
    if host.flavour is not Flavour.MODERN:
        pytest.skip("ends the same on the other flavour")
    start(host, "restart")
    run_fault_check(host, check)


def test_a_stop_while_it_loads_leaves_nothing_failed(host: LabHost) -> None:
    host.run(["systemctl", "stop", FRONT], timeout_s=CHECK_LIMIT_S)
    host.run(["systemctl", "start", "--no-block", FRONT])
    product.wait_told(host, "loading the model", limit_s=60)
    host.run(["sleep", "5"])  # it imports, and has no handlers of its own yet
    host.run(["systemctl", "stop", FRONT], timeout_s=CHECK_LIMIT_S)
    assert product.leftovers(host) == []


def test_a_hung_engine_core_is_replaced(host: LabHost) -> None:
    """One that says "healthy" for ever: SIGSTOP of EngineCore while nothing is asked of it."""
    scene = ServingScene(host, EngineKind.VLLM)
    scene.prepare()
    run = run_case(scene, case_named(HANG))
    assert not run.problems, "\n".join([*run.problems, run.account])


@pytest.mark.long
def test_its_own_files_need_not_be_written(host: LabHost) -> None:
    """The last one: it leaves the profile as it is."""
    path = f"/etc/deepseek-agent/models.d/{NAME}.toml"
    host.write(path, "read_only_root = true\n" + host.read(path))
    host.run(["systemctl", "reload", "deepseek-agent"])
    start(host, "restart")
    run_check(host, contract.check_completion)
    done = host.run(["podman", "exec", CONTAINER, "touch", "/root/x"], check=False)
    assert "Read-only file system" in done.stderr
