# SPDX-License-Identifier: MulanPSL-2.0
"""deepseekctl doctor on hosts that lack something, by root and by an ordinary user; and where
npu-smi or Podman hangs. It changes nothing, and it ends.
"""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from . import product
from .host import LabHost
from .product import FRONT
from .rootfs import Flavour

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

Told = Mapping[str, Mapping[str, Any]]
OURS = ("deepseek-agent.socket", "deepseek-agent.service", "deepseek-npud.service")
STATE = "/run/fake-npu/state.json"  # of the double of npu-smi
BAD_FILE = "/etc/deepseek-agent/agent.toml.d/zz.toml"
# Far below what the deadlines of all looks come to one after the other.
LIMIT_S = 60.0


@pytest.fixture(scope="module", params=list(Flavour), ids=lambda flavour: flavour.value)
def installed(request: pytest.FixtureRequest) -> Iterator[LabHost]:
    """The package, and nothing else: no driver, no image, no model."""
    flavour: Flavour = request.param
    with product.empty_host(flavour, f"doctor-{flavour.value}") as host:
        product.add_repository(host)
        product.install(host)
        yield host


@pytest.fixture(scope="module")
def host(installed: LabHost) -> LabHost:
    """With all that belongs to it; its NPUs are known to npu-smi, which can hang."""
    product.supply(installed, libdcmi=False)
    return installed


def examine(host: LabHost, *, user: str = "root", limit_s: float = LIMIT_S) -> Told:
    """By the check's id; the exit status says whether there is an error."""
    started = time.monotonic()
    words = ["runuser", "-u", user, "--", "deepseekctl", "doctor", "8b", "--json"]
    done = host.run(words, timeout_s=limit_s + 30, check=False)
    assert time.monotonic() - started < limit_s
    told = json.loads(done.stdout)
    assert len(told["checks"]) >= 20
    assert done.returncode == (1 if told["counts"]["error"] else 0)
    assert "internal error" not in done.stdout
    return {one["id"]: one for one in told["checks"]}


def errors(told: Told) -> set[str]:
    return {name for name, one in told.items() if one["status"] == "error"}


@contextmanager
def agent_away(host: LabHost) -> Iterator[None]:
    host.run(["systemctl", "stop", *OURS])
    try:
        yield
    finally:
        host.run(["systemctl", "start", *OURS])


def test_a_host_without_anything(installed: LabHost) -> None:
    told = examine(installed)
    assert errors(told) == {"npu-driver", "npu-files", "model"}
    assert "no /dev/davinci* devices" in told["npu-driver"]["message"]
    assert "deepseekctl pull 8b" in told["model"]["hint"]
    assert told["npus"]["status"] == "skipped"
    for unit in (*OURS, "podman.service"):  # it has started nothing
        assert product.active_state(installed, unit) != "active"


def test_an_ordinary_user_sees_as_much_as_may_be(installed: LabHost) -> None:
    told = examine(installed, user="nobody")
    assert errors(told) == {"npu-driver", "npu-files", "model"}
    assert told["podman-service"]["status"] == "skipped"
    assert "only root" in told["podman-service"]["message"]
    assert told["podman"]["status"] == "ok"


def test_before_the_agent_ever_ran(host: LabHost) -> None:
    """The driver is asked by an npud of doctor's own, which is gone afterwards."""
    told = examine(host)
    assert errors(told) == set()
    assert "8 NPUs (a2)" in told["npu-driver"]["message"]
    assert "7.8.0.6.201, fits the driver" in told["npu-firmware"]["message"]
    assert host.run(["pgrep", "-f", "agent.npud"], check=False).returncode == 1


def test_which_form_the_unit_has(host: LabHost) -> None:
    told = examine(host)
    legacy = host.flavour is Flavour.LEGACY
    form = "a plain systemd unit (Podman 4.3.1, cgroup v1)" if legacy else "a quadlet (Podman 5."
    assert told["renderer"]["message"].startswith(form)


def test_an_npu_smi_that_hangs(host: LabHost) -> None:
    with agent_away(host):
        host.write(STATE, '{"mode": "hang"}')
        try:
            told = examine(host)
            left = host.run(["pgrep", "-af", "bin/npu-smi"], check=False).stdout
        finally:
            host.run(["rm", "-f", STATE])
    assert errors(told) == {"npu-driver"}
    assert "no answer within 16 s (npu-smi hangs" in told["npu-driver"]["message"]
    assert left == ""


def test_who_has_an_npu(host: LabHost) -> None:
    host.run(["systemd-run", "--unit=other", "sh", "-c", "exec sleep 600 < /dev/davinci3"])
    try:
        told = examine(host)
    finally:
        host.run(["systemctl", "stop", "other"])
    assert told["npu-users"]["status"] == "warning"
    assert "NPU 3 is open in process" in told["npu-users"]["message"]
    assert "(sleep)" in told["npu-users"]["message"]


def test_a_broken_configuration(host: LabHost) -> None:
    host.write(BAD_FILE, "mode = [\n")
    try:
        told = examine(host)
    finally:
        host.run(["rm", BAD_FILE])
    assert errors(told) == {"config"}
    assert BAD_FILE in told["config"]["message"]


def test_a_full_disk(host: LabHost) -> None:
    state = "/var/lib/deepseek-agent"
    with agent_away(host):
        host.run(["mount", "-t", "tmpfs", "-o", "size=20m", "none", state])
        try:
            told = examine(host)
        finally:
            host.run(["umount", state])
    assert errors(told) == {"disk-room"}
    assert state in told["disk-room"]["message"]


def test_a_masked_unit(host: LabHost) -> None:
    host.run(["systemctl", "mask", FRONT])
    try:
        told = examine(host)
    finally:
        host.run(["systemctl", "unmask", FRONT])
    assert errors(told) == {"front-unit"}
    assert f"systemctl unmask {FRONT}" in told["front-unit"]["hint"]


def test_a_model_that_serves(host: LabHost) -> None:
    product.start(host, "enable", "--now")
    for user in ("root", "nobody"):
        told = examine(host, user=user)
        assert errors(told) == set()
        assert told["front-unit"]["message"] == "enabled, active"
        assert told["port"]["message"].endswith("is ours")
    assert "1 have models of ours" in examine(host)["npu-users"]["message"]


def test_an_agent_that_is_away_from_its_model(host: LabHost) -> None:
    """It is told, and not started by being asked."""
    host.run(["systemctl", "stop", *OURS])
    try:
        told = examine(host)
        assert product.active_state(host, OURS[1]) == "inactive"
    finally:
        host.run(["systemctl", "start", *OURS])
    assert errors(told) == {"agent-units"}
    assert "cannot look after 8b" in told["agent-units"]["message"]


def test_a_podman_that_hangs(host: LabHost) -> None:
    host.run(["systemctl", "start", "podman.service"])
    host.run(["systemctl", "kill", "--kill-whom=main", "--signal=STOP", "podman.service"])
    try:
        told = examine(host)
    finally:
        host.run(["systemctl", "kill", "--kill-whom=main", "--signal=CONT", "podman.service"])
    assert errors(told) == {"podman-service"}
    assert "not answer" in told["podman-service"]["message"]
