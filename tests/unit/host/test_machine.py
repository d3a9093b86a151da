# SPDX-License-Identifier: MulanPSL-2.0
"""Facts of the machine: cgroups, driver files, and what a model directory is worth."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.facts import Listener
from agent.host.machine import (
    LocalMachine,
    cgroup_version,
    has_pids_controller,
    parse_listeners,
    read_forwarding,
    read_process,
)

TREE = Path(__file__).resolve().parents[3]
NAMESPACE = ("unshare", "--map-root-user", "--mount", "--propagation", "private")
CONFIG = '{"architectures": ["LlamaForCausalLM"], "num_attention_heads": 32}'


def build_model(folder: Path, config: str | bytes | None, *weights: str) -> str:
    model = folder / "model"
    model.mkdir()
    if isinstance(config, str):
        (model / "config.json").write_text(config)
    elif config is not None:
        (model / "config.json").write_bytes(config)
    for name in weights:
        (model / name).write_bytes(b"x")
    return str(model)


def test_pids_controller(tmp_path: Path) -> None:
    assert not has_pids_controller(tmp_path)
    (tmp_path / "pids").mkdir()
    assert has_pids_controller(tmp_path)
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory\n")
    assert not has_pids_controller(tmp_path)
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    assert has_pids_controller(tmp_path)


def test_cgroup_version(tmp_path: Path) -> None:
    assert cgroup_version(tmp_path) == 1  # also the hybrid mode: only /unified has the file
    (tmp_path / "unified").mkdir()
    (tmp_path / "unified" / "cgroup.controllers").touch()
    assert cgroup_version(tmp_path) == 1
    (tmp_path / "cgroup.controllers").touch()
    assert cgroup_version(tmp_path) == 2


def test_facts(tmp_path: Path) -> None:
    there = str(tmp_path / "npu-smi")
    Path(there).touch()
    facts = LocalMachine().facts((4, 9, 4), (there, str(tmp_path / "missing")))
    assert facts.podman_version == (4, 9, 4)
    assert facts.driver_paths == (there,)
    assert facts.cpu_cores == os.cpu_count()
    assert facts.ram_mib > 0
    assert facts.cgroup_version in (1, 2)


def test_a_good_model(tmp_path: Path) -> None:
    facts = LocalMachine().model(build_model(tmp_path, CONFIG, "model-00001.safetensors"))
    assert (facts.attention_heads, facts.problem) == (32, "")


def test_key_value_heads_and_the_disk(tmp_path: Path) -> None:
    config = '{"num_attention_heads": 32, "num_key_value_heads": 8}'
    facts = LocalMachine().model(build_model(tmp_path, config, "a.safetensors"))
    assert (facts.attention_heads, facts.kv_heads) == (32, 8)
    there = os.statvfs(tmp_path)
    assert facts.disk_mib == there.f_blocks * there.f_frsize // 2**20
    missing = LocalMachine().model(str(tmp_path / "not/yet"))
    assert (missing.present, missing.disk_mib) == (False, facts.disk_mib)


def test_size_and_identity_of_a_model(tmp_path: Path) -> None:
    folder = build_model(tmp_path, CONFIG, "a.safetensors", "b.safetensors")
    weights = Path(folder, "a.safetensors")
    with weights.open("wb") as file:
        file.truncate(3 * 2**20)
    before = LocalMachine().model(folder)
    assert before.weights_mib == 3
    assert LocalMachine().model(folder) == before
    status = weights.stat()
    changes: tuple[Callable[[], object], ...] = (
        lambda: os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns + 1)),
        lambda: Path(folder, "README.md").touch(),
        lambda: Path(folder, "b.safetensors").unlink(),
        lambda: Path(folder, "c.safetensors").symlink_to("gone"),
    )
    for change in changes:
        change()
        after = LocalMachine().model(folder)
        assert after.identity != before.identity
        before = after


def test_a_revision_is_looked_at_whatever_the_link_leads_to(tmp_path: Path) -> None:
    """Another instance with the same folder may have moved it."""
    for name, heads in (("old", 32), ("new", 40)):
        folder = tmp_path / ".store/model" / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(f'{{"num_attention_heads": {heads}}}')
        (folder / "a.safetensors").touch()
    directory = tmp_path / "model"
    directory.symlink_to(".store/model/new")

    def look(revision: str = "") -> tuple[str, int, str]:
        found = LocalMachine().model(str(directory), revision)
        return found.directory, found.attention_heads, found.revision

    assert look() == look("new") == (str(directory), 40, "new")
    assert look("old") == (str(directory), 32, "old")
    assert look("gone") == (str(directory), 40, "new")
    (tmp_path / ".store/model/old/config.json").unlink()
    assert "config.json" in LocalMachine().model(str(directory), "old").problem
    directory.unlink()
    directory.mkdir()  # an operator's own
    assert LocalMachine().model(str(directory), "old").revision == ""


def test_weights_of_the_older_kind(tmp_path: Path) -> None:
    assert not LocalMachine().model(build_model(tmp_path, CONFIG, "pytorch_model.bin")).problem


@pytest.mark.parametrize(
    ("config", "weights", "problem"),
    [
        (None, ("a.safetensors",), "cannot read config.json: No such file or directory"),
        ("{", ("a.safetensors",), "config.json is damaged"),
        ("", ("a.safetensors",), "config.json is damaged"),
        (b"\x00" * 100, ("a.safetensors",), "config.json is damaged"),  # after a power cut
        ("[]", ("a.safetensors",), "config.json is damaged"),
        (f'{{"num_attention_heads": {2**63}}}', ("a.safetensors",), "config.json is damaged"),
        ("{}", ("a.safetensors",), "num_attention_heads"),
        ('{"num_attention_heads": "32"}', ("a.safetensors",), "num_attention_heads"),
        (CONFIG, (), "there are no weights"),
        (CONFIG, ("model.safetensors.index.json", "a.safetensors.part"), "there are no weights"),
    ],
)
def test_a_model_that_cannot_be_served(
    tmp_path: Path, config: str | bytes | None, weights: tuple[str, ...], problem: str
) -> None:
    assert problem in LocalMachine().model(build_model(tmp_path, config, *weights)).problem


@pytest.mark.parametrize("heads", [0, -8])
def test_a_number_of_heads_that_is_none(tmp_path: Path, heads: int) -> None:
    config = f'{{"num_attention_heads": {heads}}}'
    assert LocalMachine().model(build_model(tmp_path, config, "a.safetensors")).problem


def test_no_directory(tmp_path: Path) -> None:
    assert LocalMachine().model(str(tmp_path / "x")).problem == "there is no such directory"
    assert not LocalMachine().model(str(tmp_path / "x")).present
    (tmp_path / "file").touch()
    assert LocalMachine().model(str(tmp_path / "file")).problem == "there is no such directory"


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, as root")
def test_a_directory_that_the_agent_may_not_enter(tmp_path: Path) -> None:
    """agentd is root without capabilities: a model below somebody's 0700 home is out of reach."""
    model = build_model(tmp_path, CONFIG, "a.safetensors")
    program = f"""
import os, sys
sys.path.insert(0, {os.getcwd()!r})
from agent.host.machine import LocalMachine
os.setgroups([]); os.setgid(65534); os.setuid(65534)
assert LocalMachine().model({model!r}).problem
"""
    tmp_path.chmod(0o700)
    done = subprocess.run(
        (sys.executable, "-c", program), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


# --- who lives, who listens ----------------------------------------------------------------------


def test_processes_that_live() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        (seen,) = LocalMachine().processes([child.pid])
        assert seen.pid == child.pid
        assert seen.cgroup == Path(f"/proc/{child.pid}/cgroup").read_text()
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie now
        assert list(LocalMachine().processes([child.pid])) == []
    assert list(LocalMachine().processes([child.pid])) == []


@pytest.mark.parametrize(
    ("state", "threads", "lives"),
    [("S", 1, True), ("D", 1, True), ("Z", 1, False), ("Z", 2, True), ("X", 1, False)],
)
def test_a_leader_that_exited_counts_while_a_thread_hangs(
    tmp_path: Path, state: str, threads: int, lives: bool
) -> None:
    for thread in range(threads):
        (tmp_path / "7/task" / str(thread)).mkdir(parents=True)
    (tmp_path / "7/stat").write_text(f"7 (VLLM) (x) {state} 1 7 7 0 -1 4194560 0")
    (tmp_path / "7/cgroup").write_text("0::/x\n")
    assert (read_process(7, tmp_path) is not None) is lives


def test_a_thread_of_the_kernel_holds_nothing() -> None:
    """The driver may count pids of a container; 2 is kthreadd on every host."""
    stat = Path("/proc/2/stat")
    if not stat.exists() or "kthreadd" not in stat.read_text():
        pytest.skip("no kernel threads are seen here")
    assert read_process(2) is None


def test_the_flag_of_kernel_threads(tmp_path: Path) -> None:
    (tmp_path / "7/task/7").mkdir(parents=True)
    (tmp_path / "7/stat").write_text("7 (kworker/0:1) I 2 0 0 0 -1 69238880 0")
    (tmp_path / "7/cgroup").write_text("0::/\n")
    assert read_process(7, tmp_path) is None


@pytest.mark.parametrize(
    ("family", "address"),
    [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::1")],  # noqa: S104
)
def test_a_real_listener_is_seen(family: socket.AddressFamily, address: str) -> None:
    with socket.socket(family) as one:
        try:
            one.bind((address, 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
        port = one.getsockname()[1]
        assert Listener(address, port) not in LocalMachine().listeners()  # bound is not enough
        one.listen()
        assert Listener(address, port) in LocalMachine().listeners()


TCP6 = """  sl  local_address                         remote_address                        st
   0: 00000000000000000000000001000000:07E7 00000000000000000000000000000000:0000 0A 00000000:0
   1: B80D01200000000067452301EFCDAB89:1F90 B80D01200000000067452301EFCDAB89:0050 01 00000000:0
   2: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A
"""


@pytest.mark.skipif(sys.byteorder != "little", reason="the table is one of such a machine")
def test_the_table_of_ipv6() -> None:
    assert list(parse_listeners(iter(TCP6.splitlines()))) == [
        Listener("::1", 2023),
        Listener("::", 22),
    ]


FULL = """
from agent.host.machine import LocalMachine
import sys
here, there = LocalMachine(), sys.argv[1]
print(here.has_room(there))
open(there + "/filler", "wb").write(bytes(7 * 2**19))
print(here.has_room(there))
"""


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ("size=4m", ["True", "False"]),
        ("size=8m", ["True", "True"]),
        ("size=8m,nr_inodes=2", ["True", "False"]),  # one is its root
        ("size=8m,nr_inodes=0", ["True", "True"]),  # as many as there is room for
    ],
)
def test_room(tmp_path: Path, options: str, found: list[str]) -> None:
    if subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no namespaces here")
    script = f'mount -t tmpfs -o {options} none "$1" && exec {sys.executable} -c "$2" "$1"'
    inside = [*NAMESPACE, "sh", "-c", script, "sh", str(tmp_path), FULL]
    done = subprocess.run(inside, cwd=TREE, capture_output=True, text=True, check=True)
    assert done.stdout.split() == found


def test_a_folder_that_is_not_there_is_not_said_to_be_full(tmp_path: Path) -> None:
    assert LocalMachine().has_room(str(tmp_path / "none"))


@pytest.mark.parametrize(("text", "forwards"), [("1\n", True), ("0\n", False), (None, None)])
def test_whether_packets_of_other_hosts_are_forwarded(
    tmp_path: Path, text: str | None, forwards: bool | None
) -> None:
    for address, name in (
        ("10.88.0.7", "ipv4/ip_forward"),
        ("fd00::7", "ipv6/conf/all/forwarding"),
    ):
        file = tmp_path / "sys/net" / name
        file.parent.mkdir(parents=True)
        if text is not None:
            file.write_text(text)
        assert read_forwarding(address, tmp_path) is forwards
