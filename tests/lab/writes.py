# SPDX-License-Identifier: MulanPSL-2.0
"""`python -m tests.lab.writes modern|legacy`: no room at each write of the agent.

strace looks at a restart under a changed profile, and finds each file that agentd writes then and
by which system calls. For each of these, the n-th and all later ones of that file fail with ENOSPC
(injected by strace, in the same moment of another restart), until it has been told; then there is
room again. What has to hold: the agent goes on, it says what it could not write, every file is
whole at any time, and with room again it serves and all files are as they should be, without a
person. Exit status 1 when that did not hold.
"""

import argparse
import itertools
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import product
from .cuts import faults_in_files, leftovers_that_stay, list_files
from .fault_scene import AGENT, is_another, one_line, restarts, wait_well_slowly
from .faults import Told, find_payloads, main_pid, read_status, wait_event
from .host import LabHost
from .moments import pid_outside
from .process import LabError
from .rootfs import Flavour

PROFILE = "/etc/deepseek-agent/models.d/8b.toml"
# Each takes room, or makes what was written last. (No folder is made that is there.)
CALLS = "openat,write,pwrite64,fsync,fdatasync,ftruncate,rename"
# Ours; a line of strace -y has the path of each descriptor.
PATH = re.compile(r"(?:/var/lib|/run|/etc)/[^\s\">]*(?:deepseek|/\.deepseek)[^\s\">]*")
CALL = re.compile(r"^\S+\s+(?P<call>\w+)\(")
NOT_WRITTEN, WRITTEN = "file-not-written", "file-written"
# It is tried again once a minute, and said once until then.
WRITTEN_S = 90.0
EVENT = "event"
TOLD_LIMIT_S = 60.0
ATTACHED_LIMIT_S = 10.0
AFTER_S = 3.0
# Of one kind, on one file, in one restart.
MOST = 8

_turns = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Write:
    """The n-th call of that name on that file."""

    path: str
    call: str
    number: int

    def __str__(self) -> str:
        return f"{self.call} {self.number} of {self.path}"


@dataclass(frozen=True, slots=True)
class Result:
    """`hits`: how many calls failed; `told`: how that was said; `back_s`: from room to all well."""

    write: Write
    hits: int = 0
    told: str = ""
    back_s: float = 0.0
    problem: str = ""

    def __str__(self) -> str:
        word = "FAILED" if self.problem else "good  "
        seen = f"{self.hits} failed, {self.told}, well {self.back_s:.1f} s after there was room"
        return f"{word} {self.write!s:<75} {self.problem or (seen if self.hits else 'not reached')}"


@contextmanager
def strace(host: LabHost, *options: str) -> Iterator[Path]:
    """Of the agent that runs now, with its threads and children; yields what it writes."""
    pid = pid_outside(host, main_pid(host, AGENT))
    with tempfile.TemporaryDirectory(prefix="deepseek-strace-") as folder:
        output = Path(folder) / "calls"
        argv = ["strace", "-f", "-q", "-y", "-s", "0", "-o", str(output), "-p", str(pid), *options]
        with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as process:
            try:
                _wait_attached(pid)
                yield output
            finally:
                process.send_signal(signal.SIGINT)  # it lets go of them


def _wait_attached(pid: int) -> None:
    deadline = time.monotonic() + ATTACHED_LIMIT_S
    status = Path(f"/proc/{pid}/status")
    while "TracerPid:\t0" in status.read_text():
        if time.monotonic() > deadline:
            raise LabError(f"strace does not attach to {pid}")
        time.sleep(0.02)


def restart_changed(host: LabHost) -> None:
    """With a setting that another unit file comes of. Returns at once."""
    setting = f'{product.SMALLER_NEEDS}[environment]\nLAB_TURN = "{next(_turns)}"\n'
    host.write(PROFILE, setting)
    host.run(["systemctl", "reload", AGENT])
    product.start(host, "restart", "--no-block")


def record(host: LabHost) -> list[Write]:
    """What is written in one such restart."""
    product.start(host)
    wait_well_slowly(host)
    with strace(host, "-e", f"trace={CALLS}") as output:
        restart_changed(host)
        _wait_settled(host)
        counted: Counter[tuple[str, str]] = Counter(_written(output.read_text()))
    return [
        Write(path, call, number)
        for (path, call), count in sorted(counted.items())
        for number in range(1, min(count, MOST) + 1)
    ]


def _written(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        call, path = CALL.search(line), PATH.search(line)
        if call is None or path is None or "resumed>" in line or " = -1 " in line:
            continue
        if call["call"] == "openat" and not re.search(r"O_WRONLY|O_RDWR|O_CREAT", line):
            continue
        yield path[0], call["call"]


def _wait_settled(host: LabHost) -> None:
    """It serves, and what comes of that has been written."""
    time.sleep(1)
    wait_well_slowly(host)
    time.sleep(1)


def run_case(host: LabHost, write: Write) -> Result:
    before, since, (container,) = restarts(host, AGENT), time.time(), find_payloads(host)
    inject = f"inject={write.call}:error=ENOSPC:when={write.number}+"
    try:
        with strace(host, "-e", f"trace={write.call}", "-e", inject, "-P", write.path) as output:
            restart_changed(host)
            told = _wait_told(host, output, since, container)
            hits = output.read_text().count("(INJECTED)")
            broken = list(_broken(host))
        back_s = wait_well_slowly(host)
        assert not broken, broken
        assert restarts(host, AGENT) == before, "the agent was started anew"
        assert len(find_payloads(host)) == 1
        assert told or not hits, "it was not told"
        if told == EVENT:
            wait_event(host, WRITTEN, since, WRITTEN_S)
        _check_files(host)
    except (AssertionError, LabError) as error:
        return Result(write, problem=one_line(error))
    return Result(write, hits, told, back_s)


def _wait_told(host: LabHost, output: Path, since: float, container: str) -> str:
    """How it was said; empty when nothing failed until the next container served for a while."""
    deadline = time.monotonic() + TOLD_LIMIT_S
    served_at = None
    while (now := time.monotonic()) < deadline:
        told = read_status(host)
        failed = "(INJECTED)" in output.read_text()
        if failed and (word := _said(told, since)):
            return word
        if served_at is None and told.phase == "serving" and is_another(host, container):
            served_at = now
        if served_at is not None and not failed and now - served_at > AFTER_S:
            break
        time.sleep(0.5)
    return ""


def _said(told: Told, since: float) -> str:
    if told.events(NOT_WRITTEN, since):
        return EVENT
    return f"failure {told.code}" if "No space left" in told.message else ""


def _broken(host: LabHost) -> Iterator[str]:
    """Files of ours that are half there, while there is no room."""
    for path in list_files(host):
        if path.endswith(".json") and not Path(path).name.startswith("."):
            done = host.run(["python3", "-m", "json.tool", path], check=False)
            if done.returncode != 0:
                yield path


def _check_files(host: LabHost) -> None:
    left = [*faults_in_files(host), *leftovers_that_stay(host)]
    left = [one for one in left if "/evidence/" not in one]  # text, of an engine that died
    assert not left, left


def run(host: LabHost, writes: Sequence[Write]) -> int:
    """Prints one line for each; returns how many failed."""
    failed = reached = 0
    for number, write in enumerate(writes, 1):
        result = run_case(host, write)
        failed, reached = failed + bool(result.problem), reached + bool(result.hits)
        print(f"{number:>3}/{len(writes)} {result}", flush=True)
        if result.problem:
            print(product.describe(host), file=sys.stderr)
            host.run(["systemctl", "restart", AGENT], check=False)
            wait_well_slowly(host)
    print(f"{len(writes)} writes, {reached} reached, {failed} failed")
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("flavour", type=Flavour, choices=list(Flavour))
    parser.add_argument("--only", default="", help="words of a file's path")
    parser.add_argument("--first", type=int, default=1, help="begin with the so-manyth of these")
    options = parser.parse_args()
    with product.supplied_host(options.flavour, f"writes-{options.flavour}") as host:
        product.install(host)
        product.set_engine(host, load_s=1)
        assert product.start(host, "enable", "--now").returncode == 0
        writes = [write for write in record(host) if options.only in write.path]
        writes = writes[options.first - 1 :]
        print(f"{options.flavour}: {len(writes)} writes", flush=True)
        return 1 if run(host, writes) or not writes else 0


if __name__ == "__main__":
    sys.exit(main())
