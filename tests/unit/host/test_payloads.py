# SPDX-License-Identifier: MulanPSL-2.0
"""Processes of our containers: known by their control group, told apart by their start time."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from agent.facts import PayloadFacts
from agent.host.payloads import ProcPayloads, find_processes

ID = "0123456789abcdef" * 4
# As seen in the lab: Podman 4.3.1 on cgroup v1, Podman 5.4.2 with --cgroups=split on cgroup v2.
SCOPE = f"/deepseek.slice/libpod-{ID}.scope\n"
V1 = f"12:devices:{SCOPE}1:name=systemd:{SCOPE}"
V2 = f"0::/deepseek.slice/deepseek-vllm-8b.service/libpod-payload-{ID}\n"
NESTED = f"0::/deepseek.slice/libpod-{ID}.scope/container\n"
OTHERS = (
    f"0::/machine.slice/libpod-{ID}.scope\n",  # somebody else's container
    "0::/deepseek.slice/deepseek-vllm-8b.service/supervisor\n",  # conmon
    f"0::/deepseek.slice/libpod-conmon-{ID}.scope\n",
    "0::/system.slice/deepseek-agent.service\n",
    "",
)


def add(proc: Path, pid: int, cgroup: str, state: str = "S", threads: int = 1) -> None:
    folder = proc / str(pid)
    for thread in range(threads):
        (folder / "task" / str(pid + thread)).mkdir(parents=True)
    (folder / "cgroup").write_text(cgroup)
    # proc(5): pid (comm) state and so on; field 22 is the start time. A name may hold anything.
    (folder / "stat").write_text(f"{pid} (a) b) {state} " + "0 " * 18 + f"{pid * 10} 0 0\n")


@pytest.mark.parametrize(
    ("cgroup", "unit"), [(V1, ""), (V2, "deepseek-vllm-8b.service"), (NESTED, "")]
)
def test_payloads_are_known_by_their_group(tmp_path: Path, cgroup: str, unit: str) -> None:
    add(tmp_path, 7, cgroup)
    (tmp_path / "self").mkdir()
    assert ProcPayloads(tmp_path, tmp_path).find() == [PayloadFacts(7, 70, ID, unit)]
    (tmp_path / "deepseek-vllm-8b.cid").write_text(f"{ID}\n")
    found = [PayloadFacts(7, 70, ID, "deepseek-vllm-8b.service")]
    assert ProcPayloads(tmp_path, tmp_path).find() == found


@pytest.mark.parametrize("cgroup", OTHERS)
def test_others_are_none(tmp_path: Path, cgroup: str) -> None:
    add(tmp_path, 7, cgroup)
    assert ProcPayloads(tmp_path).find() == []


def test_the_dead_are_none_unless_a_thread_of_theirs_hangs(tmp_path: Path) -> None:
    add(tmp_path, 7, V1, state="Z")
    add(tmp_path, 8, V1, state="Z", threads=2)
    add(tmp_path, 9, V1, state="D")
    (tmp_path / "11").mkdir()  # it ends just now
    assert [one.pid for one in ProcPayloads(tmp_path).find()] == [8, 9]


def test_a_later_process_of_the_same_number_is_not_meant(tmp_path: Path) -> None:
    add(tmp_path, 7, V1)
    payloads = ProcPayloads(tmp_path)
    assert payloads.is_alive(PayloadFacts(7, 70, ID))
    assert not payloads.is_alive(PayloadFacts(7, 69, ID))
    assert not payloads.is_alive(PayloadFacts(8, 80, ID))


def test_processor_time_is_that_of_all_its_processes(tmp_path: Path) -> None:
    for pid, cgroup in ((7, V1), (8, V1), (9, OTHERS[0])):
        add(tmp_path, pid, cgroup)
        # utime and stime are fields 14 and 15.
        ticks = f"{pid} (a) b) S " + "0 " * 10 + f"{pid * 100} 50 " + "0 " * 6 + "70 0 0\n"
        (tmp_path / str(pid) / "stat").write_text(ticks)
    payloads = ProcPayloads(tmp_path)
    assert payloads.processor_s(ID) == (700 + 50 + 800 + 50) / os.sysconf("SC_CLK_TCK")
    assert payloads.processor_s("f" * 64) is None
    assert ProcPayloads(tmp_path / "none").processor_s(ID) is None


def test_killing_ends_that_very_process() -> None:
    payloads = ProcPayloads()
    with subprocess.Popen(("sleep", "60")) as child:
        started = payloads._started(child.pid)
        assert started is not None
        payload = PayloadFacts(child.pid, started, ID)
        payloads.kill(replace(payload, started=started + 1))
        assert payloads.is_alive(payload)  # another one was meant
        payloads.kill(payload)
        assert child.wait() == -9
        assert not payloads.is_alive(payload)
        payloads.kill(payload)  # gone already


def test_the_container_of_an_instance_by_its_unit_or_its_cid_file(tmp_path: Path) -> None:
    proc, run = tmp_path / "proc", tmp_path / "run"
    run.mkdir()
    other = ID[::-1]
    add(proc, 7, V2)
    add(proc, 8, V1)
    add(proc, 9, f"0::/deepseek.slice/libpod-{other}.scope\n")
    add(proc, 10, V2.replace("vllm-8b", "vllm-8b-x"))
    assert find_processes("8b", proc, run) == [7]
    assert find_processes("8b-x", proc, run) == [10]
    assert find_processes("7b", proc, run) == []
    (run / "deepseek-vllm-7b.cid").write_text(other)
    assert find_processes("7b", proc, run) == [9]
