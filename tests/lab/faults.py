# SPDX-License-Identifier: MulanPSL-2.0
"""Words of the tests that break what is around the agent: what it tells, and which engines live.

Every question to the agent has its limit here, so that no test has to say that nothing may hang.
"""

import json
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from . import product
from .host import LabHost
from .process import LabError
from .product import CONTAINER, ENGINE, FRONT

AGENT = ("deepseek-agent.socket", "deepseek-agent.service")
HELD = "69"
# deepseekctl itself gives up after 10 s; an agent that does not hang needs a hundredth of one.
STATUS_LIMIT_S = 9.0
LOOK_EVERY_S = 0.5
# Prints [pid, container] of each living process of a container, whatever Podman knows of it.
FIND_PAYLOADS = r"""
import glob, json, re
found = []
for path in glob.glob("/proc/[0-9]*/cgroup"):
    try:
        groups, stat = open(path).read(), open(path[:-6] + "stat").read()
    except OSError:
        continue
    containers = re.findall(r"libpod-(?:payload-)?([0-9a-f]{64})", groups)
    if containers and stat.rpartition(")")[2].split()[0] not in "ZX":
        found.append([int(path.split("/")[2]), containers[0]])
print(json.dumps(found))
"""


@dataclass(frozen=True, slots=True)
class Told:
    """What one `deepseekctl status --json` said."""

    returncode: int
    snapshot: dict[str, Any]
    errors: str
    seconds: float

    @property
    def instance(self) -> dict[str, Any]:
        """8b; empty when the agent said nothing of it."""
        known = self.snapshot.get("instances", [])
        return next((one for one in known if one["name"] == "8b"), {})

    @property
    def phase(self) -> str:
        return str(self.instance.get("phase", ""))

    @property
    def code(self) -> str:
        """Why 8b does not serve."""
        return str((self.instance.get("failure") or {}).get("code", ""))

    @property
    def message(self) -> str:
        return str((self.instance.get("failure") or {}).get("message", ""))

    @property
    def systemd_code(self) -> str:
        """Why the agent does not see the units."""
        return str((self.snapshot.get("systemd_problem") or {}).get("code", ""))

    def events(self, kind: str, since: float) -> list[str]:
        """Messages of what happened since then, of one kind."""
        known = self.snapshot.get("events", [])
        return [one["message"] for one in known if one["kind"] == kind and one["at"] >= since]


def ask_status(host: LabHost) -> Told:
    """Fails when it does not answer in time."""
    told = read_status(host)
    assert told.seconds < STATUS_LIMIT_S, f"status took {told.seconds:.1f} s\n{told.errors}"
    return told


def read_status(host: LabHost) -> Told:
    """However long it takes; empty while there is no agent."""
    done = host.run(["deepseekctl", "status", "--json"], check=False, timeout_s=60)
    return Told(done.returncode, json.loads(done.stdout or "{}"), done.stderr, done.seconds)


def wait_told(host: LabHost, what: str, is_so: Callable[[Told], bool], limit_s: float = 30) -> Told:
    """Until the agent tells `what`; every answer on the way comes in time."""
    started = time.monotonic()
    while not is_so(told := ask_status(host)):
        if time.monotonic() - started > limit_s:
            raise LabError(
                f"not told within {limit_s} s: {what}; it is {told.phase}, {told.code}: "
                f"{told.message} {told.errors}\n{product.describe(host)}"
            )
        time.sleep(LOOK_EVERY_S)
    return told


def wait_failure(
    host: LabHost, codes: Collection[str], words: str = "", limit_s: float = 30
) -> Told:
    """Until 8b is said not to serve, with one of the codes and these words."""
    return wait_told(
        host,
        f"{' or '.join(codes)} with {words!r}",
        lambda told: told.code in codes and words in told.message,
        limit_s,
    )


def wait_event(
    host: LabHost, kind: str, since: float, limit_s: float = 30, words: str = ""
) -> Told:
    """Until something of that kind, with these words, is told to have happened since then."""
    return wait_told(
        host,
        kind,
        lambda told: any(words in message for message in told.events(kind, since)),
        limit_s,
    )


def wait_held(host: LabHost, code: str, limit_s: float = 30) -> Told:
    """Until 8b is held for that reason, and its front unit has failed because of it."""
    what = f"held by {code}"
    told = wait_told(host, what, lambda told: (told.phase, told.code) == ("held", code), limit_s)
    product.wait_state(host, FRONT, "failed")
    assert product.show(host, FRONT, "ExecMainStatus")["ExecMainStatus"] == HELD
    return told


@contextmanager
def agent_away(host: LabHost) -> Iterator[None]:
    """Stopped, with its socket; started again at the end."""
    host.run(["systemctl", "stop", *AGENT])
    try:
        yield
    finally:
        host.run(["systemctl", "start", *AGENT])


def start_fresh(host: LabHost) -> str:
    """8b serves, and no failure of an earlier test makes the next one wait; its container's id."""
    product.start(host, "stop", timeout_s=280)
    host.run(["systemctl", "reset-failed", "deepseek*"], check=False)
    done = product.start(host)
    assert done.returncode == 0, f"{done.stderr}\n{product.describe(host)}"
    return container_id(host)


def stop_leaves_nothing(host: LabHost, limit_s: float) -> None:
    """`systemctl stop` of the front unit, in its usual time."""
    stopped = product.start(host, "stop", timeout_s=280)
    assert stopped.returncode == 0, stopped.stderr
    assert stopped.seconds < limit_s, product.describe(host)
    assert product.leftovers(host) == []
    assert find_payloads(host) == {}


def find_payloads(host: LabHost) -> dict[str, list[int]]:
    """Living processes in containers, by container."""
    found: dict[str, list[int]] = {}
    for pid, container in json.loads(host.run(["python3", "-c", FIND_PAYLOADS]).stdout):
        found.setdefault(container, []).append(pid)
    return found


def wait_serving_alone(host: LabHost, old: str, limit_s: float) -> None:
    """Until 8b serves in another container than `old`; never do two live, and `old` is gone.
    (product.wait_serving may return while the old one has died and nobody knows it yet.)"""
    started = time.monotonic()
    while True:
        living = find_payloads(host)
        assert len(living) <= 1, f"two engines live: {living}\n{product.describe(host)}"
        told = ask_status(host)
        if told.phase == "serving" and living and old not in living:
            break
        if time.monotonic() - started > limit_s:
            raise LabError(f"{told.phase} after {limit_s} s, {living}\n{product.describe(host)}")
        time.sleep(LOOK_EVERY_S)
    (id_told,) = host.run(["podman", "ps", "--all", "--quiet", "--no-trunc"]).stdout.split()
    assert {id_told} == set(find_payloads(host))
    assert product.ask(host) is not None


def container_id(host: LabHost) -> str:
    inspect = ["podman", "inspect", "--format={{.Id}}", CONTAINER]
    return host.run(inspect).stdout.strip()


def kill_engine(host: LabHost) -> None:
    host.run(["podman", "kill", "--signal=KILL", CONTAINER])


def main_pid(host: LabHost, unit: str = ENGINE) -> int:
    return int(product.show(host, unit, "MainPID")["MainPID"])


def wait_left(host: LabHost, unit: str, state: str, limit_s: float = 30) -> None:
    """Until the unit is in another ActiveState."""
    deadline = time.monotonic() + limit_s
    while product.active_state(host, unit) == state:
        if time.monotonic() > deadline:
            raise LabError(f"{unit} is still {state} after {limit_s} s\n{product.describe(host)}")
        time.sleep(0.05)


def send_signal(host: LabHost, name: str, pids: Collection[int]) -> None:
    """To processes of the host; one that has just ended is no error."""
    host.run(["kill", f"-{name}", *map(str, pids)], check=False)
