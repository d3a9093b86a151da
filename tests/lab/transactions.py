# SPDX-License-Identifier: MulanPSL-2.0
"""dnf changes the package on a lab host: the change, who answers meanwhile, and what may be there.

For the tests of upgrade and removal.
"""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from . import product
from .faults import read_status
from .host import LabHost
from .process import Completed, LabError
from .product import CONTAINER, ENGINE, FRONT

PACKAGE = "deepseek-agent"
AGENT = "deepseek-agent.service"
OURS = ("deepseek-agent.socket", AGENT, "deepseek-npud.service")
DNF_LIMIT_S = 300
LOOK_EVERY_S = 0.1
# A start of a unit: another value says that it is another process.
IDENTITY = ("MainPID", "InvocationID", "ActiveEnterTimestampMonotonic")
WARNING = "changed on disk"


def transact(host: LabHost, verb: str) -> Completed:
    """`dnf upgrade`, `downgrade`, `reinstall`, `install` or `remove`; no scriptlet may fail."""
    done = host.run(["dnf", "-y", verb, PACKAGE], timeout_s=DNF_LIMIT_S)
    if "scriptlet failed" in done.stdout + done.stderr:
        raise LabError(f"dnf {verb} says:\n{done.stdout}{done.stderr}")
    return done


def installed_version(host: LabHost) -> str:
    return host.run(["rpm", "--query", "--queryformat=%{VERSION}", PACKAGE]).stdout


def verify(host: LabHost) -> str:
    """What `rpm -V` finds changed since installation; empty when nothing."""
    done = host.run(["rpm", "--verify", PACKAGE], check=False)
    return done.stdout + done.stderr


@dataclass
class Answers:
    """Of the tutorial's curl, asked again and again."""

    outcomes: list[bool] = field(default_factory=list)

    @property
    def asked(self) -> int:
        return len(self.outcomes)

    @property
    def failed(self) -> int:
        return self.outcomes.count(False)


@contextmanager
def asking(host: LabHost) -> Iterator[Answers]:
    """Asks the model without a pause while the block runs."""
    answers, enough = Answers(), threading.Event()

    def ask() -> None:
        while not enough.is_set():
            answers.outcomes.append(product.ask(host) is not None)

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask)
        try:
            yield answers
        finally:
            enough.set()
            asked.result()


@contextmanager
def starting(host: LabHost, *verb: str) -> Iterator[Future[Completed]]:
    """`systemctl start` of the model, going on while the block runs."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(product.start, host, *verb)


def withdraw(host: LabHost) -> None:
    """Neither enabled nor running nor failed."""
    product.start(host, "disable", "--now")
    host.run(["systemctl", "reset-failed", "deepseek*"], check=False)


def running(host: LabHost) -> dict[str, str]:
    """What of a model must be the same afterwards: container, both units, the rendered file."""
    paths = product.show(host, ENGINE, "SourcePath", "FragmentPath")
    file = paths.get("SourcePath") or paths["FragmentPath"]
    return {
        "container": product.container_started_at(host),
        "front": str(product.show(host, FRONT, *IDENTITY)),
        "engine": str(product.show(host, ENGINE, *IDENTITY)),
        "file": host.run(["stat", "--format=%n %i %y %s", file]).stdout,
    }


def last_reload(host: LabHost) -> str:
    """When systemd has read its unit files; another value after a daemon-reload."""
    show = ["systemctl", "show", "--property=UnitsLoadTimestampMonotonic", "--value"]
    return host.run(show).stdout.strip()


def wait_adopted(host: LabHost, agent: str, version: str, limit_s: float = 60) -> None:
    """Until another agent than the one of that invocation, of that version, knows of 8b all it
    has to: that it serves, and on which NPUs."""
    started = time.monotonic()
    wanted = (version, "serving", [0])
    while True:
        told = read_status(host)
        seen = (told.snapshot.get("version"), told.phase, told.instance.get("npus"))
        if seen == wanted and invocation(host, AGENT) != agent:
            return
        if time.monotonic() - started > limit_s:
            raise LabError(f"the agent tells {seen}, not {wanted}\n{product.describe(host)}")
        time.sleep(LOOK_EVERY_S)


def invocation(host: LabHost, unit: str) -> str:
    return product.show(host, unit, "InvocationID").get("InvocationID", "")


def wait_loading(host: LabHost) -> None:
    """Until the container runs and does not answer yet."""
    product.wait_status(host, FRONT, "loading the model", limit_s=60)
    if not host.run(["podman", "ps", "--quiet", f"--filter=name={CONTAINER}"]).stdout:
        raise LabError(f"no container while loading\n{product.describe(host)}")
