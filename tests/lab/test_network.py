# SPDX-License-Identifier: MulanPSL-2.0
"""Flushed firewall rules: they kill the published port of an engine that is well. How that looks
from the host, and that the rules come back without the engine noticing.
"""

import json
import time

import pytest

from . import product
from .host import LabHost
from .product import CONTAINER

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

RELOAD = "deepseek-network@8b.service"
PUBLISHED = "http://127.0.0.1:2023/health"
# Both at once, as netavark and its older versions use them.
FLUSH = "nft flush ruleset; iptables -F; iptables -t nat -F"
FORWARD = "/proc/sys/net/ipv4/ip_forward"
LOOK_S = 2
CURL_TIMEOUT = 28  # curl(1): operation timeout
# The agent's own look at Podman.
SURVEY = """
import glob, sys
sys.path[:0] = glob.glob("/usr/lib*/deepseek-agent/vendor") + glob.glob("/usr/lib*/deepseek-agent")
from agent.host.podman.verbs import main
sys.exit(main(["survey"]))
"""


@pytest.fixture(scope="module", autouse=True)
def _serving(host: LabHost) -> None:
    assert product.start(host, "enable", "--now").returncode == 0


def address(host: LabHost) -> str:
    """Of the container, as the agent sees it."""
    survey = json.loads(host.run(["/usr/bin/python3", "-ISB", "-c", SURVEY]).stdout)["answer"]
    (ours,) = (one for one in survey["containers"] if one["name"] == CONTAINER)
    return str(ours["address"])


def look(host: LabHost, url: str) -> tuple[int, str]:
    """curl's exit status, and the status of an answer: 000 when there was none."""
    curl = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-m", str(LOOK_S), url]
    done = host.run(curl, check=False)
    return done.returncode, done.stdout


def test_flushed_rules_are_told_from_a_dead_engine_and_written_again(host: LabHost) -> None:
    before = product.container_started_at(host)
    direct = f"http://{address(host)}:8000/health"
    host.run(["sh", "-c", FLUSH])
    # conmon holds the port, so that nobody else takes it: the kernel makes the connection, and
    # nobody ever reads from it. A port without an engine would refuse.
    assert look(host, PUBLISHED) == (CURL_TIMEOUT, "000")
    assert look(host, direct) == (0, "200")
    began = time.monotonic()
    host.run(["systemctl", "start", RELOAD])
    print(f"{host.flavour}: reloaded in {time.monotonic() - began:.2f} s")
    assert look(host, PUBLISHED) == (0, "200")
    assert product.ask(host) is not None
    assert look(host, direct) == (0, "200")
    assert product.container_started_at(host) == before


def test_forwarding_that_was_shut_is_opened_again(host: LabHost) -> None:
    """Only other hosts notice it; the reload sets it, as the start of a container does."""
    before = product.container_started_at(host)
    host.run(["sh", "-c", f"echo 0 > {FORWARD}"])
    assert look(host, PUBLISHED) == (0, "200")
    host.run(["systemctl", "start", RELOAD])
    assert host.read(FORWARD).strip() == "1"
    assert product.container_started_at(host) == before


def test_a_container_that_is_not_there_is_an_error(host: LabHost) -> None:
    done = host.run(["systemctl", "start", "deepseek-network@none.service"], check=False)
    assert done.returncode != 0
    host.run(["systemctl", "reset-failed", "deepseek-network@none.service"])
