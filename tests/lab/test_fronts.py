# SPDX-License-Identifier: MulanPSL-2.0
"""Front units that end otherwise than anybody asked for, and what must not come of it: the engine
goes on, the unit comes back, and a stop is a stop all the same.
"""

import time
from collections.abc import Iterator

import pytest

from agent.control.upkeep import REVIVE_EVERY_S

from . import product
from .faults import (
    agent_away,
    ask_status,
    container_id,
    find_payloads,
    main_pid,
    send_signal,
    start_fresh,
    stop_leaves_nothing,
    wait_event,
    wait_told,
)
from .host import LabHost
from .process import LabError
from .product import ENGINE, FRONT

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

DROP_IN = f"/run/systemd/system/{FRONT}.d/lab.conf"
# attach as it is, but that SIGTERM ends it with 1: by hand that is a crash, in a stop it is none.
ENDS_WITH_1 = """\
[Service]
ExecStart=
ExecStart=/usr/bin/python3 -ISBc '\
import runpy, signal, sys; \
set_handler = signal.signal; \
signal.signal = lambda number, handler: set_handler(number, lambda *_: sys.exit(1)); \
runpy.run_path("/usr/libexec/deepseek-agent/attach")' %i
"""
NOT_EXECUTED = "[Service]\nExecStart=\nExecStart=/usr/libexec/deepseek-agent/nothing-there %i\n"
# systemd refuses to make the process, as it does when it cannot fork: ExecStopPost=, too.
NOT_MADE = "[Service]\nEnvironmentFile=/run/nothing-there\n"
JOURNALD = (
    "systemd-journald.service",
    "systemd-journald.socket",
    "systemd-journald-dev-log.socket",
)
STOP_S = 60.0
STAYS_S = REVIVE_EVERY_S + 2


@pytest.fixture(autouse=True)
def container(host: LabHost) -> Iterator[str]:
    """The one in which 8b serves when the test begins."""
    yield start_fresh(host)
    use(host, None)


def use(host: LabHost, drop_in: str | None) -> None:
    """From the front unit's next process on."""
    if drop_in is None:
        host.run(["rm", "-f", DROP_IN])
    else:
        host.write(DROP_IN, drop_in)
    host.run(["systemctl", "daemon-reload"])


def goes_on(host: LabHost, container: str) -> None:
    assert list(find_payloads(host)) == [container]
    assert container_id(host) == container
    assert product.ask(host) is not None


def all_is_well(host: LabHost, container: str) -> None:
    product.wait_state(host, FRONT, "active")
    product.wait_status(host, FRONT, "serving")
    wait_told(host, "all is well", lambda told: told.returncode == 0)
    goes_on(host, container)


def stays_stopped(host: LabHost) -> None:
    """The agent has systemd forget what looks like a crash, and nothing is started again."""
    deadline = time.monotonic() + STOP_S
    while (left := product.leftovers(host)) or find_payloads(host):
        if time.monotonic() > deadline:
            raise LabError(f"left: {left}\n{product.describe(host)}")
        time.sleep(product.ANSWER_EVERY_S)
    time.sleep(STAYS_S)
    assert product.leftovers(host) == []
    states = [product.active_state(host, unit) for unit in (FRONT, ENGINE)]
    assert states == ["inactive", "inactive"], product.describe(host)
    assert (ask_status(host).phase, ask_status(host).instance["wished"]) == ("idle", False)


def test_an_error_in_attach_is_no_stop(host: LabHost) -> None:
    use(host, ENDS_WITH_1)
    container = start_fresh(host)
    before, since = main_pid(host, FRONT), time.time()
    send_signal(host, "TERM", [before])
    wait_event(host, "front-revived", since, words="exit-code, exit status 1")
    all_is_well(host, container)
    assert main_pid(host, FRONT) != before
    use(host, None)
    send_signal(host, "TERM", [main_pid(host, FRONT)])
    time.sleep(REVIVE_EVERY_S)
    all_is_well(host, container)
    stop_leaves_nothing(host, STOP_S)


def test_an_error_in_attach_during_a_stop_is_a_stop(host: LabHost) -> None:
    use(host, ENDS_WITH_1)
    start_fresh(host)
    assert product.start(host, "stop").returncode == 0
    assert product.active_state(host, ENGINE) == "inactive"
    stays_stopped(host)


@pytest.mark.parametrize(
    ("drop_in", "words"),
    [(NOT_EXECUTED, "exit-code, exit status 203"), (NOT_MADE, "resources")],
    ids=["not-executed", "not-made"],
)
def test_what_systemd_cannot_run_is_tried_until_it_can(
    host: LabHost, container: str, drop_in: str, words: str
) -> None:
    """As while the package is being replaced, or while there is no memory or no pid."""
    use(host, drop_in)
    since = time.time()
    send_signal(host, "KILL", [main_pid(host, FRONT)])
    wait_event(host, "front-revived", since, words=words)
    goes_on(host, container)
    use(host, None)
    all_is_well(host, container)
    stop_leaves_nothing(host, STOP_S)


def test_a_stop_is_one_though_systemd_cannot_run_what_waits_for_its_end(
    host: LabHost, container: str
) -> None:
    use(host, NOT_MADE)
    assert product.start(host, "stop").returncode == 0
    stays_stopped(host)


def test_a_stop_of_what_systemd_cannot_run_is_a_stop(host: LabHost, container: str) -> None:
    """Between two tries: PartOf= passes it on, and the agent hears of the job (ADR 11)."""
    use(host, NOT_EXECUTED)
    since = time.time()
    send_signal(host, "KILL", [main_pid(host, FRONT)])
    wait_event(host, "front-revived", since, words="exit status 203")
    goes_on(host, container)
    product.wait_state(host, FRONT, "failed")
    assert product.start(host, "stop").returncode == 0
    stays_stopped(host)


def test_a_try_restart_of_what_systemd_cannot_run_is_no_stop(host: LabHost, container: str) -> None:
    """It ends as that stop does, and nobody means one (ADR 11)."""
    use(host, NOT_EXECUTED)
    since = time.time()
    send_signal(host, "KILL", [main_pid(host, FRONT)])
    wait_event(host, "front-revived", since, words="exit status 203")
    product.wait_state(host, FRONT, "failed")
    assert product.start(host, "try-restart").returncode == 0
    time.sleep(STAYS_S)
    assert ask_status(host).instance["wished"] is True
    goes_on(host, container)
    use(host, None)
    all_is_well(host, container)
    stop_leaves_nothing(host, STOP_S)


def test_a_journal_that_lost_its_streams_is_missed_by_nobody(host: LabHost, container: str) -> None:
    """Restarted, journald gets them back from systemd; stopped and started, it does not."""
    before = main_pid(host, FRONT)
    host.run(["systemctl", "stop", *JOURNALD])
    host.run(["systemctl", "start", *JOURNALD])
    with agent_away(host):
        product.wait_status(host, FRONT, "does not answer")  # which is said in the journal, too
    all_is_well(host, container)
    assert main_pid(host, FRONT) == before
    stop_leaves_nothing(host, STOP_S)
