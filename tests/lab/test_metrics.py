# SPDX-License-Identifier: MulanPSL-2.0
"""Monitoring of a real host: numbers over the socket and a port, from within the agent's sandbox;
Prometheus' own promtool has the last word.
"""

import json
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from tests.metrics import PROMTOOL
from tests.unit.test_metrics import NAMES

from . import product
from .host import LabHost

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

SETTINGS = "/etc/deepseek-agent/agent.toml.d/metrics.toml"
PORT = 9834
URL = f"http://127.0.0.1:{PORT}/metrics"
OVER_SOCKET = ["curl", "-sS", "--max-time", "5", "--unix-socket", "/run/deepseek-agent/agent.sock"]
AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
SHARE = "/usr/share/deepseek-agent/monitoring"


@pytest.fixture(scope="module", autouse=True)
def _serving(host: LabHost) -> Iterator[None]:
    """8b serves."""
    assert product.start(host).returncode == 0
    yield
    product.start(host, "stop")


def over_socket(host: LabHost) -> str:
    """As anybody may ask."""
    return host.run([*AS_NOBODY, *OVER_SOCKET, "http://agent/metrics"]).stdout


def over_port(host: LabHost) -> str:
    """Empty when nobody listens there."""
    return host.run(["curl", "-s", "--max-time", "5", URL], check=False).stdout


def listen(host: LabHost, where: str) -> None:
    host.write(SETTINGS, f'[metrics]\nlisten = "{where}"\n')
    host.run(["systemctl", "reload", "deepseek-agent"])


def wait(host: LabHost, what: str, condition: Callable[[], bool], limit_s: float = 15) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not in {limit_s:g} s: {what}\n{over_socket(host)}"
        time.sleep(0.3)


def kinds(host: LabHost) -> list[str]:
    said = host.run(["deepseekctl", "events", "--json"]).stdout
    return [json.loads(line)["kind"] for line in said.splitlines() if line.startswith("{")]


def test_a_host_that_serves(host: LabHost) -> None:
    wait(host, "figures of the engine", lambda: "engine_requests_running" in over_socket(host))
    text = over_socket(host)
    for line in (
        "deepseek_agent_up 1",
        "deepseek_agent_config_in_force 1",
        "deepseek_agent_systemd_seen 1",
        'deepseek_agent_driver_state{state="ready"} 1',
        "deepseek_agent_npus 8",
        'deepseek_agent_instance_serving{name="8b"} 1',
        'deepseek_agent_instance_wished{name="7b"} 0',
        'deepseek_agent_instance_npus{name="8b"} 1',
        'deepseek_agent_instance_npu{name="8b",npu="0"} 1',
        'deepseek_agent_npu_health{npu="7",state="healthy"} 1',
    ):
        assert line in text.splitlines()
    for name in ("npu_temperature_celsius", "disk_free_bytes", "process_resident_memory_bytes"):
        assert f"deepseek_agent_{name}" in text
    told = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")}
    assert told <= set(NAMES)


def test_an_engine_that_stops_has_no_figures_any_more(host: LabHost) -> None:
    product.start(host, "stop")
    text = over_socket(host)
    assert "deepseek_agent_engine_" not in text
    assert 'deepseek_agent_instance_serving{name="8b"} 0' in text
    assert product.start(host).returncode == 0


def test_nobody_listens_unless_it_is_said(host: LabHost) -> None:
    assert over_port(host) == ""


def test_a_port_by_reload_from_within_the_sandbox(host: LabHost) -> None:
    listen(host, f"127.0.0.1:{PORT}")
    wait(host, "the port", lambda: "deepseek_agent_up 1" in over_port(host))
    status = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}"]
    refused = host.run([*status, f"http://127.0.0.1:{PORT}/v1/status"]).stdout
    assert refused == "404"
    host.run(["rm", SETTINGS])
    host.run(["systemctl", "reload", "deepseek-agent"])
    wait(host, "no port", lambda: over_port(host) == "")


def test_a_port_that_is_taken_is_an_event_and_no_crash(host: LabHost) -> None:
    before = product.show(host, "deepseek-agent.service", "MainPID")["MainPID"]
    taken = product.show(host, "deepseek-agent.service", "NRestarts")["NRestarts"]
    listen(host, "127.0.0.1:2023")  # the engine's own
    wait(host, "the event", lambda: "metrics-not-served" in kinds(host))
    listen(host, f"[::1]:{PORT}")
    wait(host, "the end of it", lambda: "metrics-served" in kinds(host))
    host.run(["rm", SETTINGS])
    host.run(["systemctl", "reload", "deepseek-agent"])
    assert product.show(host, "deepseek-agent.service", "MainPID")["MainPID"] == before
    assert product.show(host, "deepseek-agent.service", "NRestarts")["NRestarts"] == taken


def test_what_comes_with_the_package(host: LabHost) -> None:
    assert "alert: DeepseekModelHeld" in host.read(f"{SHARE}/deepseek-agent.rules.yml")
    assert json.loads(host.read(f"{SHARE}/deepseek-agent.json"))["panels"]
    # Left out when it was installed; the folder is called as the build host wants it.
    manuals = host.run(["rpm", "-q", "--docfiles", "deepseek-agent"]).stdout
    assert any(one.endswith("/monitoring.md") for one in manuals.split())


def test_promtool_takes_it(host: LabHost) -> None:
    argv = [PROMTOOL, "check", "metrics"]
    text = over_socket(host)
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_memory_of_being_asked(host: LabHost) -> None:
    """A thousand times: what is kept for those who ask does not grow."""
    for _ in range(50):
        over_socket(host)
    before = product.pss_mib(host, "deepseek-agent.service")
    loop = "for i in $(seq 1000); do curl -s --unix-socket /run/deepseek-agent/agent.sock"
    host.run(["sh", "-c", f"{loop} http://agent/metrics >/dev/null; done"], timeout_s=120)
    after = product.pss_mib(host, "deepseek-agent.service")
    print(f"{host.flavour}: {before:.1f} MiB, {after:.1f} after 1000 times")
    assert after - before < 2
