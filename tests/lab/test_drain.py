# SPDX-License-Identifier: MulanPSL-2.0
"""A stop while requests run: they finish, new ones are refused, and it always comes to an end; with
and without the agent. And a stop of an idle engine is no slower for it.
"""

import json
import re
import statistics
import time
from collections.abc import Iterator

import pytest

from . import product
from .faults import agent_away, send_signal, start_fresh
from .host import LabHost
from .process import LabError
from .product import ENGINE, FRONT

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

PROFILE = "/etc/deepseek-agent/models.d/8b.toml"
COMPLETIONS = "http://127.0.0.1:2023/v1/completions"
METRICS = "http://127.0.0.1:2023/metrics"
REQUEST = "lab-request.service"
ANSWER = "/var/lib/lab-answer"
REFUSED = 7  # curl(1): failed to connect
# 40 tokens, at 5 a second.
REQUEST_S = 8
SLOW = {"tokens_per_s": 5}
TOKENS = 40
NODRAIN = "/run/deepseek-agent/nodrain/8b"
# What a stop takes beside the wait for requests: programs, Podman, the engine's own end.
STOP_S = 4.0


@pytest.fixture(scope="module", autouse=True)
def _enabled(host: LabHost) -> None:
    assert product.start(host, "enable", "--now").returncode == 0


@pytest.fixture(autouse=True)
def _fresh(host: LabHost) -> Iterator[None]:
    yield
    host.run(["systemctl", "stop", REQUEST], check=False)
    host.run(["rm", "-f", NODRAIN])
    product.set_engine(host)


def serve(host: LabHost, drain_s: int = 30, **options: object) -> None:
    """8b serves with this setting, and its engine does this."""
    host.write(PROFILE, f"drain_s = {drain_s}\n{product.SMALLER_NEEDS}")
    host.run(["systemctl", "reload", "deepseek-agent"])
    deadline = time.monotonic() + 30
    while in_force(host) != drain_s:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    product.set_engine(host)
    start_fresh(host)
    product.set_engine(host, **options)


def in_force(host: LabHost) -> int:
    """drain_s of 8b, as the agent has last written it down; a reload returns earlier."""
    text = host.read("/var/lib/deepseek-agent/config.json")
    (profile,) = re.findall(r'\{"name":"8b",.*?"drain_s":(\d+)', text)
    return int(profile)


def begin_request(host: LabHost) -> None:
    """Returns when the engine works on it."""
    prompt = "Is it let finish? " * 20
    wanted = {"model": "deepseek-r1:8b", "prompt": prompt, "max_tokens": TOKENS}
    curl = ["curl", "-sS", "-o", ANSWER, "-w", "%{http_code}", "-d", json.dumps(wanted)]
    header = ["-H", "Content-Type: application/json"]
    host.run(["rm", "-f", ANSWER])
    # A client elsewhere is not stopped when the host goes down.
    run = ["systemd-run", f"--unit={REQUEST}", "--collect", "--property=DefaultDependencies=no"]
    host.run([*run, *curl, *header, COMPLETIONS])
    deadline = time.monotonic() + 5
    while running(host) != 1:
        if time.monotonic() > deadline:
            raise LabError("the request does not run")
        time.sleep(0.1)


def running(host: LabHost) -> int:
    metrics = host.run(["curl", "-sS", "-m", "2", METRICS]).stdout
    (line,) = (one for one in metrics.splitlines() if one.startswith("vllm:num_requests_running{"))
    return int(float(line.split()[-1]))


def tokens_answered(host: LabHost) -> int:
    """Of the request; 0 when it got no whole answer."""
    host.run(["sh", "-c", f"while systemctl is-active -q {REQUEST}; do sleep 0.1; done"])
    answer = host.run(["cat", ANSWER], check=False).stdout
    return int(json.loads(answer)["usage"]["completion_tokens"]) if answer else 0


def told(host: LabHost, since: float) -> str:
    """What the engine's unit has said since then, drain among it."""
    journal = ["journalctl", "-o", "cat", f"--unit={ENGINE}", f"--since=@{since:.3f}"]
    return host.run(journal).stdout


def is_refused(host: LabHost) -> bool:
    curl = ["curl", "-sS", "-m", "2", "-o", "/dev/null", METRICS]
    return host.run(curl, check=False).returncode == REFUSED


def stop_while_asking(host: LabHost) -> tuple[float, list[bool]]:
    """Seconds that a stop takes, and whether new connections were refused, twice a second."""
    began = time.monotonic()
    product.start(host, "stop", "--no-block")
    refused = []
    while product.active_state(host, FRONT) != "inactive":
        if product.active_state(host, ENGINE) == "deactivating":
            refused.append(is_refused(host))
        time.sleep(0.3)
    return time.monotonic() - began, refused


@pytest.mark.parametrize("agent", [True, False], ids=["", "agent-dead"])
def test_a_running_request_finishes_and_new_ones_are_refused(host: LabHost, agent: bool) -> None:
    serve(host, **SLOW)
    begin_request(host)
    since = time.time()
    if agent:
        took, refused = stop_while_asking(host)
    else:
        with agent_away(host):
            took, refused = stop_while_asking(host)
    print(f"{host.flavour}: stopped after {took:.1f} s, refused {sum(refused)} of {len(refused)}")
    assert tokens_answered(host) == TOKENS
    assert REQUEST_S / 2 < took < REQUEST_S + STOP_S
    assert sum(refused) > 5
    assert refused.count(False) <= 2  # the first may come before the rule
    said = told(host, since)
    assert "waiting up to 30 s for 1 requests" in said
    assert "all requests are answered" in said
    assert product.leftovers(host) == []
    product.set_engine(host)
    assert product.start(host).returncode == 0
    assert product.ask(host) is not None  # nothing of the rule is left


def test_a_host_without_nft_refuses_with_iptables(host: LabHost) -> None:
    serve(host, **SLOW)
    begin_request(host)
    nft = host.run(["sh", "-c", "command -v nft"]).stdout.strip()
    since = time.time()
    host.run(["mv", nft, f"{nft}.away"])
    try:
        product.start(host, "stop", "--no-block")
        while "waiting up to" not in told(host, since):
            assert time.time() < since + 10
        time.sleep(1)
        assert is_refused(host)
    finally:
        # Podman needs it, to take the rules of the published port away.
        host.run(["mv", f"{nft}.away", nft])
    assert tokens_answered(host) == TOKENS
    assert "cannot refuse" not in told(host, since)
    product.wait_state(host, FRONT, "inactive")


def test_a_dead_conmon_does_not_make_it_wait(host: LabHost) -> None:
    """The engine lives on without its unit then, and the agent is to replace it at once."""
    serve(host, endless=True)
    begin_request(host)
    since = time.time()
    before = product.container_started_at(host)
    host.run(["kill", "-KILL", product.show(host, ENGINE, "MainPID")["MainPID"]])
    product.set_engine(host)
    product.wait_serving(host, other_than=before)
    assert time.time() - since < 20
    assert "waiting up to" not in told(host, since)


def test_a_restart_lets_it_finish_as_well(host: LabHost) -> None:
    serve(host, **SLOW)
    before = product.container_started_at(host)
    begin_request(host)
    host.run(["deepseekctl", "restart", "8b"])
    assert tokens_answered(host) == TOKENS
    product.set_engine(host)
    product.wait_serving(host, other_than=before)
    assert product.ask(host) is not None


def test_a_reboot_lets_it_finish_as_well(host: LabHost) -> None:
    """On cgroup v1 the container's scope is a unit of its own, which its slice would stop."""
    serve(host, **SLOW)
    before = product.container_started_at(host)
    begin_request(host)
    took = host.reboot()
    print(f"{host.flavour}: rebooted in {took:.1f} s")
    assert tokens_answered(host) == TOKENS
    product.set_engine(host)
    product.wait_serving(host, other_than=before, limit_s=60)


def test_a_request_without_an_end_is_cut_off_in_time(host: LabHost) -> None:
    serve(host, drain_s=6, endless=True)
    begin_request(host)
    since = time.time()
    stopped = product.start(host, "stop")
    print(f"{host.flavour}: an endless request, drain_s = 6: {stopped.seconds:.1f} s")
    assert stopped.returncode == 0
    assert 6 < stopped.seconds < 6 + STOP_S
    assert "1 requests are cut off" in told(host, since)
    assert product.leftovers(host) == []


@pytest.mark.parametrize("why", ["not wanted", "the agent says so"])
def test_what_is_not_to_be_waited_for(host: LabHost, why: str) -> None:
    serve(host, drain_s=0 if why == "not wanted" else 30, endless=True)
    begin_request(host)
    if why != "not wanted":
        host.write(NODRAIN, "")
    stopped = product.start(host, "stop")
    assert stopped.returncode == 0
    assert stopped.seconds < STOP_S


def test_an_api_that_hangs_is_not_waited_for(host: LabHost) -> None:
    serve(host, drain_s=30, endless=True)
    begin_request(host)
    api = host.run(["pgrep", "-o", "-f", "^python3 /usr/local/bin/vllm"]).stdout.split()
    send_signal(host, "STOP", [int(pid) for pid in api])
    since = time.time()
    product.start(host, "stop", "--no-block")
    deadline = time.monotonic() + 10
    while "the engine does not answer" not in told(host, since):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    send_signal(host, "CONT", [int(pid) for pid in api])
    product.wait_state(host, FRONT, "inactive")


def test_a_stop_of_an_idle_engine_is_as_quick_as_before(host: LabHost) -> None:
    times: dict[int, list[float]] = {0: [], 30: []}
    for _ in range(3):
        for drain_s, measured in times.items():
            serve(host, drain_s)
            stopped = product.start(host, "stop")
            assert stopped.returncode == 0
            measured.append(stopped.seconds)
    without, with_it = (statistics.median(measured) for measured in times.values())
    print(f"{host.flavour}: idle stop {without:.2f} s without, {with_it:.2f} s with drain: {times}")
    assert with_it < without + 1.0
