# SPDX-License-Identifier: MulanPSL-2.0
"""What the agent keeps in /var/lib is damaged, or cannot be written: that is said, and nothing else
comes of it. What runs is in systemd and Podman, and what was told is set aside for a person.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from . import product
from .faults import (
    agent_away,
    ask_status,
    find_payloads,
    kill_engine,
    start_fresh,
    stop_leaves_nothing,
    wait_event,
    wait_serving_alone,
    wait_told,
)
from .host import LabHost

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

FOLDER = "/var/lib/deepseek-agent"
COPY = "/run/lab-kept"
MEMORY = f"{FOLDER}/state.json"
EVENTS = f"{FOLDER}/events.db"
IN_VAR = (MEMORY, f"{FOLDER}/config.json")
KEPT = (*IN_VAR, "/run/deepseek-agent/running/8b.json")
# What an engine was started with is found again without its file, so that one is not told of; nor
# is a configuration that another version may have written.
TOLD = {"another": IN_VAR[:1]}
DAMAGES = {
    "empty": ": > {path}",
    "cut": "truncate --size=-7 {path}",
    "zeros": "head -c 400 /dev/zero > {path}",
    "garbage": "head -c 400 /dev/urandom > {path}",
    "another": "echo '[1, 2, 3]' > {path}",
    "endless": "truncate --size=1T {path}",
}
STATE_DAMAGED, NOT_WRITTEN, WRITTEN = "state-damaged", "file-not-written", "file-written"
AGAIN_S = 60.0
# What could not be written is tried again once a minute.
WRITTEN_S = 90.0
STOP_S = 60.0


@pytest.fixture(scope="module", autouse=True)
def _enabled(host: LabHost) -> None:
    assert product.start(host, "enable", "--now").returncode == 0


@pytest.fixture(autouse=True)
def container(host: LabHost) -> str:
    """The one in which 8b serves when the test begins; it has failed once, which is remembered."""
    first = start_fresh(host)
    kill_engine(host)
    wait_serving_alone(host, first, AGAIN_S)
    (second,) = find_payloads(host)
    return second


def serves_in(host: LabHost, container: str) -> None:
    """All is well, and the engine is the same."""
    wait_told(host, "all is well", lambda told: told.returncode == 0)
    assert list(find_payloads(host)) == [container]
    assert product.ask(host) is not None


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_files_are_set_aside_and_said(host: LabHost, container: str, name: str) -> None:
    since = time.time()
    with agent_away(host):
        for path in KEPT:
            host.run(["rm", "-f", f"{path}.damaged"])
            host.run(["sh", "-c", DAMAGES[name].format(path=path)])
    serves_in(host, container)
    said = " ".join(wait_event(host, STATE_DAMAGED, since).events(STATE_DAMAGED, since))
    for path in TOLD.get(name, IN_VAR):
        assert path in said
        assert host.run(["test", "-f", f"{path}.damaged"], check=False).returncode == 0
        host.run(["rm", f"{path}.damaged"])
    wait_told(host, "written anew", lambda _: all(is_object(host, path) for path in IN_VAR))
    stop_leaves_nothing(host, STOP_S)


def test_a_damaged_history_is_set_aside_and_said(host: LabHost, container: str) -> None:
    since = time.time()
    with agent_away(host):
        for end in ("", "-wal", "-shm"):
            host.run(["rm", "-f", f"{EVENTS}{end}", f"{EVENTS}{end}.damaged"])
        host.run(["sh", "-c", f"head -c 40000 /dev/urandom > {EVENTS}"])
    serves_in(host, container)
    (said,) = wait_event(host, STATE_DAMAGED, since).events(STATE_DAMAGED, since)
    assert EVENTS in said
    host.run(["rm", f"{EVENTS}.damaged"])
    assert STATE_DAMAGED in host.run(["deepseekctl", "events", "-n", "5"]).stdout


def test_events_outlive_the_agent_and_a_power_cut(host: LabHost, container: str) -> None:
    before = host.run(["deepseekctl", "events", "-n", "1000", "--json"]).stdout.splitlines()
    host.power_cut()
    host.boot()
    host.wait_booted()
    product.wait_serving(host)
    after = host.run(["deepseekctl", "events", "-n", "1000", "--json"]).stdout.splitlines()
    assert after[: len(before)] == before
    numbers = [json.loads(line)["id"] for line in after]
    assert numbers == sorted(set(numbers))
    assert len(after) > len(before)


def is_object(host: LabHost, path: str) -> bool:
    done = host.run(["python3", "-m", "json.tool", path], check=False)
    return done.returncode == 0 and done.stdout.startswith("{")


@contextmanager
def disk_full(host: LabHost) -> Iterator[None]:
    """The folder is on a file system of its own, with what it held, and not a byte is left."""
    with agent_away(host):
        host.run(["cp", "--archive", FOLDER, COPY])
        # Room for the evidence that earlier tests left.
        host.run(["mount", "-t", "tmpfs", "-o", "size=16m,mode=700", "lab", FOLDER])
        host.run(["cp", "--archive", f"{COPY}/.", FOLDER])
        host.run(["sh", "-c", f"cat /dev/zero > {FOLDER}/filler"], check=False)
    try:
        yield
    finally:
        with agent_away(host):
            host.run(["umount", FOLDER])
            host.run(["rm", "--recursive", COPY])


def test_a_full_disk_is_said_and_disturbs_nothing(host: LabHost, container: str) -> None:
    since = time.time()
    with disk_full(host):
        serves_in(host, container)
        kept = host.read(MEMORY)
        kill_engine(host)
        wait_serving_alone(host, container, AGAIN_S)
        wait_event(host, NOT_WRITTEN, since)
        assert host.read(MEMORY) == kept  # the old content, whole
        stop_leaves_nothing(host, STOP_S)
        assert product.start(host).returncode == 0
        host.run(["rm", f"{FOLDER}/filler"])
        wait_event(host, WRITTEN, since, WRITTEN_S)
        before = json.loads(kept)["instances"][0]["restarts"]
        deadline = time.monotonic() + WRITTEN_S  # the files are tried again one by one
        while (now := json.loads(host.read(MEMORY))["instances"][0]["restarts"]) == before:
            assert time.monotonic() < deadline
            time.sleep(product.ANSWER_EVERY_S)
        assert now == before + 1
        assert ask_status(host).returncode == 0
