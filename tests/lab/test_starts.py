# SPDX-License-Identifier: MulanPSL-2.0
"""Starts that are watched, on real hosts: what is told of them, a hang in the middle, and failures
that have a name (all of them: start_table.py). Real journal, real journalctl in agentd's sandbox.
"""

import json
import re
import time

import pytest

from . import product, start_table
from .host import LabHost
from .product import ENGINE, FRONT
from .start_table import LASTING, instance, run_failures

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

MODEL = "/var/lib/deepseek/models/DeepSeek-R1-Distill-Llama-8B"
SHARDS = 8
OWN = "/etc/deepseek-agent/models.d/8b.toml"
BUDGET_S = 6
LOADS_S = 12
# The writer turns at least this often.
TURN_S = 5
CHOSEN = (
    *("damaged-model", "unknown-flag", "bad-dtype", "npu-memory-in-use"),
    *("dcmi-8005", "hccl-timeout", "acl-507015", "npu-out-of-memory"),
)


@pytest.fixture(scope="module")
def shards(host: LabHost) -> LabHost:
    """A model in several files, which load one after the other."""
    split = (
        f"cd {MODEL} && for n in $(seq {SHARDS}); do "
        f"cp model.safetensors model-0000$n-of-0000{SHARDS}.safetensors; done; "
        "rm model.safetensors"
    )
    host.run(["sh", "-c", split])
    host.run(["systemctl", "start", "deepseek-agent"])
    return host


def told(host: LabHost) -> str:
    return product.show(host, FRONT, "StatusText")["StatusText"]


def view(host: LabHost) -> dict[str, object]:
    done = host.run(["deepseekctl", "status", "--json"], check=False)
    found: list[dict[str, object]] = json.loads(done.stdout)["instances"]
    return next(one for one in found if one["name"] == "8b")


def kinds(host: LabHost) -> list[str]:
    done = host.run(["deepseekctl", "status", "--json"], check=False)
    return [one["kind"] for one in json.loads(done.stdout)["events"] if one["instance"] == "8b"]


def set_budget(host: LabHost) -> None:
    host.write(OWN, f"start_budget_s = {BUDGET_S}\n{product.SMALLER_NEEDS}")
    host.run(["systemctl", "reload", "deepseek-agent"])


def stop(host: LabHost) -> None:
    product.start(host, "stop")


def test_the_status_tells_how_far_it_is(shards: LabHost) -> None:
    product.set_engine(shards, load_s=8)
    shards.run(["systemctl", "start", "--no-block", FRONT])
    seen: list[str] = []
    deadline = time.monotonic() + 60
    while "serving" not in seen[-1:] and time.monotonic() < deadline:
        if (text := told(shards)) not in seen[-1:]:
            seen.append(text)
        time.sleep(0.1)
    weights = [re.search(r"weights (\d+) % \((\d) of 8\)", text) for text in seen]
    parts = [int(found[2]) for found in weights if found]
    assert parts == sorted(parts), seen
    assert len(set(parts)) >= 6, seen
    assert seen[-1] == "serving", seen
    assert view(shards)["start"] is None
    stop(shards)


def test_a_restart_by_hand_is_a_start(shards: LabHost) -> None:
    """Of the engine, past the agent: it loads, is not said to serve, and is left alone."""
    product.set_engine(shards, load_s=LOADS_S)
    assert product.start(shards).returncode == 0
    product.wait_serving(shards)
    shards.run(["systemctl", "restart", ENGINE])
    container = product.container_started_at(shards)
    began, seen = time.monotonic(), []
    while (phase := str(view(shards)["phase"])) != "serving" or "loading" not in seen:
        seen.append(phase)
        assert time.monotonic() - began < 3 * LOADS_S, seen
        time.sleep(0.1)
    assert time.monotonic() - began > LOADS_S / 2, seen
    assert product.ask(shards) is not None
    assert product.container_started_at(shards) == container
    stop(shards)


def test_a_start_that_stalls_is_tried_anew(shards: LabHost) -> None:
    set_budget(shards)
    product.set_engine(shards, load_s=2, stall_loading=True)
    shards.run(["systemctl", "start", "--no-block", FRONT])
    product.wait_told(shards, "start-too-slow", limit_s=2 * BUDGET_S + TURN_S + 10)
    product.set_engine(shards, load_s=1)
    product.wait_serving(shards, limit_s=2 * BUDGET_S + 30)
    failed = kinds(shards)
    at = failed.index("start-too-slow")
    wanted = ["start-too-slow", "stopping", "evidence", "backoff", "starting"]
    assert failed[at : at + 5] == wanted
    stop(shards)


def test_a_core_that_is_stopped_while_it_loads(shards: LabHost) -> None:
    """SIGSTOP: every process lives, and the log says nothing any more."""
    set_budget(shards)
    product.set_engine(shards, load_s=8)
    before = kinds(shards).count("start-too-slow")
    shards.run(["systemctl", "start", "--no-block", FRONT])
    product.wait_status(shards, FRONT, "of 8)")
    shards.run(["pkill", "-STOP", "-x", "VLLM::EngineCor"])
    began = time.monotonic()
    while kinds(shards).count("start-too-slow") == before:
        assert time.monotonic() - began < 2 * BUDGET_S + TURN_S + 10, product.describe(shards)
        time.sleep(0.2)
    product.set_engine(shards, load_s=1)
    product.wait_serving(shards, limit_s=120)
    stop(shards)


def test_failures_have_names_and_lasting_ones_are_tried_once(shards: LabHost) -> None:
    rows = run_failures(shards, CHOSEN)
    assert [f"{row} {row.problem}" for row in rows if row.problem] == []


def test_a_held_one_is_started_when_its_profile_changes_and_when_a_person_says_so(
    shards: LabHost,
) -> None:
    failure = "damaged-model"
    assert failure in LASTING
    front = f"deepseek@{instance(failure)}.service"
    start_table.write_profile(shards, failure, 0)
    shards.run(["systemctl", "reload", "deepseek-agent"])
    product.wait_told(shards, instance(failure))
    before = start_table.count_containers(shards, failure)
    try:
        shards.run(["systemctl", "enable", front])
        assert shards.run(["systemctl", "start", front], check=False).returncode != 0
        assert start_table.count_containers(shards, failure) == before + 1
        # The next agent knows it, too.
        shards.run(["systemctl", "restart", "deepseek-agent"])
        product.wait_told(shards, "held")
        assert start_table.count_containers(shards, failure) == before + 1
        assert shards.run(["systemctl", "start", front], check=False).returncode != 0
        assert start_table.count_containers(shards, failure) == before + 2
        path = f"/etc/deepseek-agent/models.d/{instance(failure)}.toml"
        shards.run(["sed", "-i", f's/"{failure}"/""/', path])
        shards.run(["systemctl", "reload", "deepseek-agent"])
        product.wait_state(shards, front, "active", 60)
        product.wait_status(shards, front, "serving")
    finally:
        shards.run(["systemctl", "disable", "--now", front], check=False, timeout_s=120)


def test_a_journal_that_is_away_changes_nothing(shards: LabHost) -> None:
    """No journalctl: nothing is told of the start, and it serves."""
    place = shards.run(["sh", "-c", "command -v journalctl"]).stdout.strip()
    shards.run(["mv", place, f"{place}.away"])
    try:
        product.set_engine(shards, load_s=1)
        assert product.start(shards).returncode == 0
        assert product.ask(shards) is not None
        assert product.show(shards, ENGINE, "ActiveState")["ActiveState"] == "active"
    finally:
        shards.run(["mv", f"{place}.away", place])
    stop(shards)
