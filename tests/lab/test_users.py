# SPDX-License-Identifier: MulanPSL-2.0
"""Users against the machine: whatever people type, and whatever happens meanwhile, it ends in what
the last command said, and stays there.

What can be tried on several instances at once is: a test ends with one look at all of them.
"""

import json
import random
import time
from collections.abc import Iterator

import pytest

from agent.model import container_name, engine_unit, front_unit

from . import ending, product
from .ending import PORTS, TWINS, Ending, ends
from .host import LabHost
from .models import SHOW_MODEL, hide_model, show_model
from .npus import remove_npus, restore_npus
from .process import CommandTimedOut, Completed
from .product import CONTAINER, ENGINE, FRONT

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

HELD, SERVING = Ending.HELD, Ending.SERVING
AGENT = ("deepseek-agent.socket", "deepseek-agent.service")
RESET = f"""
systemctl unmask --quiet {FRONT} {ENGINE}
systemctl unmask --quiet --runtime {engine_unit(TWINS[0])}
{SHOW_MODEL}
systemctl start deepseek-npud {" ".join(AGENT)}
systemctl disable --quiet {" ".join(map(front_unit, PORTS))}
systemctl stop 'deepseek@*' 'deepseek-vllm-*'
systemctl reset-failed 'deepseek*'
"""


@pytest.fixture(autouse=True, scope="module")
def _instances(host: LabHost) -> None:
    ending.add_twins(host)
    # The smallest that is allowed.
    host.write("/etc/deepseek-agent/agent.toml.d/users.toml", "[limits]\nrecheck_held_s = 10\n")
    host.run(["systemctl", "restart", "deepseek-agent"])


@pytest.fixture(autouse=True)
def _nothing_started(host: LabHost) -> Iterator[None]:
    """Each test begins with nothing started, nothing enabled, and an engine that loads quickly."""
    product.set_engine(host, load_s=0.3)
    yield
    restore_npus(host, range(8))
    shell(host, RESET)


def run(host: LabHost, *words: str) -> Completed:
    try:
        return host.run(words, timeout_s=120, check=False)
    except CommandTimedOut as error:
        raise AssertionError(f"{error}\n{ending.tell(host)}") from error


def shell(host: LabHost, script: str) -> str:
    """What the commands printed; they are typed as fast as a shell can."""
    return run(host, "bash", "-c", script).stdout


def systemctl(host: LabHost, *words: str) -> int:
    return run(host, "systemctl", *words).returncode


def rendered(name: str) -> tuple[str, str]:
    """Where its unit file is, with one renderer or the other."""
    return (
        f"/run/containers/systemd/{container_name(name)}.container",
        f"/run/systemd/system/{engine_unit(name)}",
    )


def serve(host: LabHost, *names: str) -> None:
    assert systemctl(host, "start", *map(front_unit, names)) == 0, ending.tell(host)


def start_is_held(host: LabHost, name: str) -> None:
    assert systemctl(host, "start", front_unit(name)) == 1
    shown = product.show(host, front_unit(name), "ExecMainStatus", "StatusText")
    assert shown["ExecMainStatus"] == "69", shown


def lose(host: LabHost, *numbers: int) -> None:
    """These NPUs, or all of them; the agent knows when this returns."""
    remove_npus(host, numbers or None)
    left = 8 - len(numbers) if numbers else 0
    deadline = time.monotonic() + 30
    while seen_npus(host) > left:
        assert time.monotonic() < deadline, ending.tell(host)
        time.sleep(0.1)


def seen_npus(host: LabHost) -> int:
    told = host.run(["deepseekctl", "status", "--json"], check=False).stdout
    return sum(npu["device_present"] for npu in json.loads(told)["inventory"]["npus"])


# --- stop, start and restart ---------------------------------------------------------------------


def test_a_stop_ends_a_recovery(host: LabHost) -> None:
    """At several moments after its death: noticed, waiting, planning, starting, loading."""
    serve(host, *PORTS)
    product.set_engine(host, load_s=3)
    for name, moment in zip(PORTS, (0, 0.05, 0.2, 0.5, 1, 1.5, 2), strict=True):
        kill, stop = f"podman kill {container_name(name)}", f"systemctl stop {front_unit(name)}"
        assert shell(host, f"{kill} >/dev/null; sleep {moment}; {stop} || echo no") == ""
    ends(host, {})


@pytest.mark.parametrize("slow", [False, True], ids=["quick", "slow"])
def test_a_stop_ends_a_start(host: LabHost, slow: bool) -> None:
    """While the agent, which may be slow, is at it: the unit was written, as after every boot."""
    pid = product.show(host, "deepseek-agent", "MainPID")["MainPID"]
    before, after = (f"kill -STOP {pid}", f"kill -CONT {pid}") if slow else ("true", "true")
    moments = [0] if slow else [0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3]
    for name, moment in zip(PORTS, moments, strict=False):
        front, files = front_unit(name), rendered(name)
        start = f"rm -f {files[0]} {files[1]}; systemctl start --no-block {front}"
        written = f"until [ -e {files[0]} ] || [ -e {files[1]} ]; do :; done"
        stop = f"{before}; sleep {moment}; systemctl stop {front} || echo refused; {after}"
        assert shell(host, f"{start}; {written}; {stop}") == "", ending.tell(host)
    ends(host, {})


def test_two_starts_at_once_and_restarts_one_after_the_other(host: LabHost) -> None:
    start = f"systemctl start {FRONT}"
    with ending.counting(host) as most:
        assert shell(host, f"{start} & {start}; a=$?; wait $!; echo $a $?") == "0 0\n"
        restart = f"systemctl restart {FRONT}"
        assert shell(host, f"for i in {{1..20}}; do {restart} || echo $i; done") == ""
        ends(host, {"8b": SERVING})
    assert most == [1]


def test_the_last_of_a_burst_counts(host: LabHost) -> None:
    started, stopped, restarted = map(front_unit, (TWINS[0], TWINS[1], "8b"))
    serve(host, "8b")
    commands = (
        f"stop {started}; systemctl --no-block start {started}",
        f"start {stopped}; systemctl --no-block stop {stopped}",
        f"restart {restarted}; systemctl --no-block restart {restarted}",
    )
    with ending.counting(host) as most:
        bursts = (f"for i in {{1..10}}; do systemctl --no-block {one}; done" for one in commands)
        shell(host, " & ".join((*bursts, "wait")))
        ends(host, {"8b": SERVING, TWINS[0]: SERVING})
    assert most[0] <= len(commands)


def test_disabled_while_loading_and_enabled_again(host: LabHost) -> None:
    product.set_engine(host, load_s=30)
    assert systemctl(host, "enable", "--now", "--no-block", FRONT) == 0
    product.wait_status(host, FRONT, "loading the model")
    assert systemctl(host, "disable", "--now", FRONT) == 0
    product.set_engine(host, load_s=0.3)
    assert systemctl(host, "enable", "--now", FRONT) == 0
    ends(host, {"8b": SERVING})


# --- two things at once --------------------------------------------------------------------------


def test_start_and_stop_at_the_same_time(host: LabHost) -> None:
    """Nobody can say which comes last, but front unit and container have to agree."""
    chance = random.Random(f"{host.flavour}")  # noqa: S311 - the same order in each run
    for stays_s in (0, ending.STAYS_S):
        commands = [
            f"systemctl {verb} --no-block {front_unit(name)} & "
            for name in PORTS
            for verb in chance.sample(("start", "stop"), 2)
        ]
        shell(host, f"{''.join(commands)} wait")
        ends(host, ending.settled(host), stays_s=stays_s)


def test_a_stop_beside_something_else_is_a_stop(host: LabHost) -> None:
    """Beside restarts by the agent, beside a crash of the front unit: just before, just after."""
    serve(host, *PORTS)
    moments = (0, 0.1, 0.5, 0, 0.002, 0, 0.3)
    for number, (name, moment) in enumerate(zip(PORTS, moments, strict=True)):
        restart, stop = f"deepseekctl restart {name}", f"systemctl stop {front_unit(name)}"
        kill = f"kill -KILL {product.show(host, front_unit(name), 'MainPID')['MainPID']}"
        if number < 3:
            script = f"{restart} & {restart} & sleep {moment}; {stop}; wait"
        elif number < 5:
            script = f"{stop} --no-block; sleep {moment}; {kill}"
        else:
            script = f"{kill}; sleep {moment}; {stop}"
        shell(host, script)
    ends(host, dict.fromkeys(PORTS, Ending.STOPPED_OR_KILLED))


# --- held, and what helps ------------------------------------------------------------------------


def test_a_held_one_starts_by_itself_only_when_it_is_wished(host: LabHost) -> None:
    enabled, once, reset, disabled = "8b", *TWINS[:3]
    hide_model(host)
    assert systemctl(host, "enable", *map(front_unit, (enabled, reset, disabled))) == 0
    for name in (enabled, once, reset, disabled):
        start_is_held(host, name)
    ends(host, {enabled: HELD, once: Ending.HELD_ONCE, reset: HELD, disabled: HELD}, stays_s=0)
    assert systemctl(host, "reset-failed", front_unit(reset)) == 0
    assert systemctl(host, "disable", front_unit(disabled)) == 0
    not_wished = dict.fromkeys((once, disabled), Ending.HELD_ONCE)
    ends(host, {enabled: HELD, **not_wished}, stays_s=0)
    show_model(host)
    ends(host, {enabled: SERVING, **not_wished})
    serve(host, once, reset)
    ends(host, {enabled: SERVING, once: SERVING, reset: SERVING, disabled: Ending.HELD_ONCE})


def test_stop_of_a_held_one_withdraws_the_wish(host: LabHost) -> None:
    hide_model(host)
    assert systemctl(host, "enable", FRONT) == 0
    start_is_held(host, "8b")
    ends(host, {"8b": HELD}, stays_s=0)
    assert systemctl(host, "stop", FRONT) == 0
    ends(host, {}, limit_s=15)


def test_npus_that_are_gone_and_come_back(host: LabHost) -> None:
    """One that a profile names is missing: held. All are: waited for, as at boot."""
    enabled, once, waiting, stopped = TWINS[:4]
    ending.add_profile(host, enabled, "npus = [6]")
    ending.add_profile(host, once, "npus = [7]")
    host.run(["systemctl", "restart", "deepseek-agent"])
    assert systemctl(host, "enable", front_unit(enabled)) == 0
    lose(host, 6, 7)
    start_is_held(host, enabled)
    start_is_held(host, once)
    lose(host)
    for name in (waiting, stopped):
        assert systemctl(host, "start", "--no-block", front_unit(name)) == 0
        product.wait_status(host, front_unit(name), "waiting: ")
    assert systemctl(host, "stop", front_unit(stopped)) == 0
    restore_npus(host, range(8))
    ends(host, {enabled: SERVING, once: Ending.HELD_ONCE, waiting: SERVING})
    serve(host, once)
    ends(host, {enabled: SERVING, once: SERVING, waiting: SERVING}, stays_s=0)


# --- mask ----------------------------------------------------------------------------------------


def test_mask_is_no_stop(host: LabHost) -> None:
    serve(host, "8b")
    before = product.container_started_at(host)
    assert systemctl(host, "mask", FRONT) == 0
    ends(host, {"8b": SERVING})
    assert product.container_started_at(host) == before
    assert systemctl(host, "stop", FRONT) == 0
    assert systemctl(host, "start", FRONT) == 1
    ends(host, {})
    assert systemctl(host, "unmask", FRONT) == 0
    serve(host, "8b")
    ends(host, {"8b": SERVING}, stays_s=0)


def test_mask_while_the_engine_recovers(host: LabHost) -> None:
    serve(host, "8b")
    shell(host, f"podman kill {CONTAINER}; sleep 0.5; systemctl mask {FRONT}")
    ends(host, {"8b": SERVING}, limit_s=30)
    assert systemctl(host, "stop", FRONT) == 0
    ends(host, {})


def test_mask_of_the_engine_is_obeyed_and_named(host: LabHost) -> None:
    masked = {"8b": ("mask",), TWINS[0]: ("mask", "--runtime")}
    for name, mask in masked.items():
        # As after a reboot. A unit that is there already would be in the way of --runtime.
        host.run(["rm", "-f", *rendered(name)])
        assert systemctl(host, *mask, engine_unit(name)) == 0
    for name in masked:
        assert systemctl(host, "start", front_unit(name)) == 1, ending.tell(host)
        assert "masked" in product.show(host, front_unit(name), "StatusText")["StatusText"]
        assert product.show(host, engine_unit(name), "LoadState")["LoadState"] == "masked"
    ends(host, dict.fromkeys(masked, Ending.HELD_ONCE))
    for name, mask in masked.items():
        assert systemctl(host, f"un{mask[0]}", *mask[1:], engine_unit(name)) == 0
    serve(host, *masked)
    ends(host, dict.fromkeys(masked, SERVING), stays_s=0)


# --- the wrong unit, the wrong signal ------------------------------------------------------------


def test_signals_to_the_front(host: LabHost) -> None:
    """SIGTERM is a stop, SIGKILL a crash."""
    serve(host, "8b", TWINS[0])
    before = product.container_started_at(host)
    assert systemctl(host, "kill", "--signal=SIGKILL", FRONT) == 0
    assert systemctl(host, "kill", "--signal=SIGTERM", front_unit(TWINS[0])) == 0
    ends(host, {"8b": SERVING})
    assert product.container_started_at(host) == before


def test_the_engine_alone_is_no_wish(host: LabHost) -> None:
    serve(host, "8b")
    before = product.container_started_at(host)
    assert systemctl(host, "stop", ENGINE) == 0
    ends(host, {"8b": SERVING})
    assert product.container_started_at(host) != before
    assert systemctl(host, "stop", FRONT) == 0
    systemctl(host, "start", ENGINE)  # skipped by its ExecCondition=, which is no error (ADR 11)
    ends(host, {})


# --- the agent, systemd --------------------------------------------------------------------------


def test_with_the_agent_stopped(host: LabHost) -> None:
    serve(host, "8b")
    assert systemctl(host, "stop", *AGENT) == 0
    ends(host, {"8b": SERVING}, agent=False)
    assert systemctl(host, "stop", FRONT) == 0
    ends(host, {}, agent=False, stays_s=0)
    serve(host, "8b")
    ends(host, {"8b": SERVING})


def test_systemd_reads_everything_again(host: LabHost) -> None:
    serve(host, *TWINS[:2], "8b")
    before = product.container_started_at(host)
    for verb in ("daemon-reexec", "daemon-reload"):
        assert shell(host, f"for i in {{1..10}}; do systemctl {verb} || echo $i; done") == ""
    ends(host, dict.fromkeys((*TWINS[:2], "8b"), SERVING))
    assert product.container_started_at(host) == before


def test_rescue_and_back(host: LabHost) -> None:
    assert systemctl(host, "enable", "--now", FRONT) == 0
    assert systemctl(host, "isolate", "rescue.target") == 0
    ends(host, {}, agent=False, stays_s=0)
    assert systemctl(host, "isolate", "multi-user.target") == 0
    ends(host, {"8b": SERVING})
