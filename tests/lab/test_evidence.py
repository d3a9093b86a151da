# SPDX-License-Identifier: MulanPSL-2.0
"""Evidence of an engine that hangs, with real processes, a real journal and a real Podman: what
stands in the file, how long it takes, and that the sandbox lets it be had and no NPU be touched.
"""

import json
import time
from collections.abc import Iterator

import pytest

from . import product
from .faults import find_payloads, send_signal, start_fresh
from .host import LabHost
from .process import LabError
from .product import CONTAINER, ENGINE

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

UNIT = "deepseek-evidence@8b.service"
NOTES = "/run/deepseek-agent/evidence/8b.json"
FOLDER = "/var/lib/deepseek-agent/evidence"
KEY_FILE = "/run/deepseek-agent/env/8b.env"
KEY = "0123456789abcdef0123456789abcdef"
PROFILE = "/etc/deepseek-agent/models.d/8b.toml"
LIMIT_S = 4.0
# In the place of py-spy: what rights it has, and which process it was asked for.
PY_SPY = '#!/bin/sh\\necho "py-spy $*: $(grep CapEff /proc/self/status)"\\n'
SYS_PTRACE = 1 << 19
# What a process in the unit's sandbox sees of the NPUs.
SANDBOX_DEVICES = """
pid=$(systemctl show --property=MainPID --value deepseek-evidence@8b)
[ "$(cat /proc/$pid/comm)" = evidence ] && ls /proc/$pid/root/dev
"""


@pytest.fixture(scope="module", autouse=True)
def _serving(host: LabHost) -> None:
    host.write("/etc/deepseek-agent/8b.key", f"{KEY}\n", mode=0o600)
    key = 'api_key_file = "/etc/deepseek-agent/8b.key"\n'
    host.write(PROFILE, f"{key}{product.SMALLER_NEEDS}")
    assert product.start(host, "enable", "--now").returncode == 0
    assert KEY in host.read(KEY_FILE)


@pytest.fixture(autouse=True)
def container(host: LabHost) -> Iterator[str]:
    yield start_fresh(host)
    host.run(["systemctl", "kill", "--signal=CONT", "podman.service"], check=False)
    host.run(["rm", "-rf", FOLDER, NOTES])
    host.run(["systemd-tmpfiles", "--create"], check=False)


def engine_core(host: LabHost) -> int:
    return int(host.run(["pgrep", "-x", "VLLM::EngineCor"]).stdout)


def gather(host: LabHost, file: str = "8b-20261125T150102Z.txt", **notes: str) -> tuple[str, float]:
    """The text of the file, and the seconds it took."""
    host.write(NOTES, json.dumps({"file": file, **notes}), mode=0o600)
    began = time.monotonic()
    host.run(["systemctl", "start", UNIT])
    took = time.monotonic() - began
    return host.read(f"{FOLDER}/{file}"), took


def section(text: str, title: str) -> str:
    return text.partition(f"== {title} ==\n")[2].partition("\n== ")[0]


def test_a_stopped_engine(host: LabHost, container: str) -> None:
    core = engine_core(host)
    send_signal(host, "STOP", [core])
    metrics = f"vllm:num_requests_running 1.0\nkey {KEY}\n"
    text, took = gather(
        host, reason="no token for 15 s", container_id=container, metrics=metrics, npus="npu 0 ok"
    )
    print(f"{host.flavour}: {took:.2f} s, {len(text.encode())} bytes")
    assert took < LIMIT_S
    processes = section(text, "processes of the container")
    assert f"process {core} (VLLM::EngineCor): state T, stopped" in processes
    assert f"state T, wchan do_signal_stop: {core} (VLLM::EngineCor)" in processes
    assert "[<0>] do_signal_stop+" in processes
    assert "command line: python3 /usr/local/bin/vllm serve" in processes
    assert set(find_payloads(host)[container]) == {
        int(line.split()[1]) for line in processes.splitlines() if line.startswith("process ")
    }
    assert section(text, "Python stacks (py-spy)").strip() == "the image has no py-spy"
    assert f"Id={ENGINE}" in section(text, "units")
    journal = section(text, "journal of the engine")
    assert "Application startup complete" in journal
    assert f"Started {ENGINE}" in journal or f"Started {ENGINE[:-8]}" in journal
    assert section(text, "reason") == "no token for 15 s\n"
    assert section(text, "NPUs").strip() == "npu 0 ok"
    assert "vllm:num_requests_running 1.0" in section(text, "metrics of the engine")
    assert KEY not in text
    mode = host.run(["stat", "--format=%a %U", FOLDER, f"{FOLDER}/8b-20261125T150102Z.txt"])
    assert mode.stdout.split("\n")[:2] == ["700 root", "600 root"]


def test_py_spy_of_the_image_is_asked_for_every_process(host: LabHost, container: str) -> None:
    install = f"printf '{PY_SPY}' > /usr/local/bin/py-spy; chmod 755 /usr/local/bin/py-spy"
    host.run(["podman", "exec", CONTAINER, "sh", "-c", install])
    text, took = gather(host)  # the container is found without its id, too
    assert took < LIMIT_S
    stacks = section(text, "Python stacks (py-spy)").strip().splitlines()
    assert len(stacks) == len(find_payloads(host)[container])
    for line in stacks:
        assert line.startswith("py-spy dump --nonblocking --pid ")
        assert int(line.split()[-1], 16) & SYS_PTRACE


def test_podman_that_hangs_costs_only_itself(host: LabHost, container: str) -> None:
    host.run(["podman", "--remote", "ps"])  # now its service runs
    host.run(["systemctl", "kill", "--signal=STOP", "podman.service"])
    text, took = gather(host, container_id=container)
    print(f"{host.flavour}: {took:.2f} s with a Podman that hangs")
    assert took < LIMIT_S
    assert section(text, "Python stacks (py-spy)").strip() == "(no more within 2 s)"
    assert "VLLM::EngineCor" in section(text, "processes of the container")
    assert "Application startup complete" in section(text, "journal of the engine")


def test_a_container_that_is_gone(host: LabHost, container: str) -> None:
    product.start(host, "stop")
    text, took = gather(host, reason="it died", container_id=container)
    assert took < LIMIT_S
    assert "the container is gone" in section(text, "processes of the container")
    assert "Application startup complete" in section(text, "journal of the engine")
    assert "ActiveState=inactive" in section(text, "units")


def test_only_the_newest_are_kept(host: LabHost) -> None:
    for second in range(12):
        gather(host, file=f"8b-20261125T1501{second:02}Z.txt")
    kept = host.run(["ls", FOLDER]).stdout.split()
    assert kept == [f"8b-20261125T1501{second:02}Z.txt" for second in range(2, 12)]


def test_it_sees_no_npu(host: LabHost, container: str) -> None:
    """While Podman hangs there is time to look into its sandbox."""
    host.run(["podman", "--remote", "ps"])
    host.run(["systemctl", "kill", "--signal=STOP", "podman.service"])
    host.write(NOTES, json.dumps({"container_id": container}), mode=0o600)
    host.run(["systemctl", "start", "--no-block", UNIT])
    deadline = time.monotonic() + 5
    while "null" not in (seen := host.run(["sh", "-c", SANDBOX_DEVICES], check=False).stdout):
        if time.monotonic() > deadline:
            raise LabError(f"nothing runs: {seen}")
    assert "davinci" not in seen
    assert "davinci0" in host.run(["ls", "/dev"]).stdout


def test_the_limit_of_the_file_holds(host: LabHost) -> None:
    text, _ = gather(host, metrics="vllm:x 1\n" * 100_000, npus="npu\n" * 100_000)
    assert len(text.encode()) <= 256 * 1024
    assert "bytes are cut here" in section(text, "metrics of the engine")
    assert "VLLM::EngineCor" in section(text, "processes of the container")
    assert "Application startup complete" in section(text, "journal of the engine")
