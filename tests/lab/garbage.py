# SPDX-License-Identifier: MulanPSL-2.0
"""`python -m tests.lab.garbage modern|legacy`: garbage in every file that the agent reads.

The files are not listed by hand: strace looks at the host's PID 1 and all that it starts, from a
new agent to an engine that serves and to the next agent, and each file of ours, of the model and of
the driver that was opened is one. In the place of each comes each kind of garbage; then the agent
is started anew, and, for what only a start of the engine reads, the engine, too. What has to hold:
the same agent goes on, it answers in time, it takes no more memory than else, an engine that serves
is left alone, and with the file as it was all is well again. What it says of it is printed. Exit
status 1 when one of these did not hold.
"""

import argparse
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import product
from .fault_scene import AGENT, one_line, restart, restarts, wait_well, wait_well_slowly
from .faults import Told, ask_status, find_payloads, main_pid, read_status
from .host import LabHost
from .process import LabError
from .rootfs import Flavour

# Of the package are those in /usr/share; they are read as root's own, which only root can break.
READ = re.compile(
    r'openat\([^"]*"(?P<path>/(?:etc|var/lib|run|usr/local)/[^"]*)", (?:O_RDONLY|O_RDWR)'
)
OURS = re.compile(
    r"/etc/deepseek-agent/.*\.(?:toml|key)$|/var/lib/deepseek-agent/(?!evidence)[^.].*"
    r"|/run/deepseek-agent/.*\.(?:json|env)$|/var/lib/deepseek/models/.*\.json$"
    r"|/run/(?:containers/systemd|systemd/system)/deepseek-vllm.*|/usr/local/(?:Ascend|dcmi)/.*"
    r"|/etc/ascend_install.info"
)
# systemd holds them, or they are not read as text: libraries, and the double's own option file.
NOT_READ_AS_FILES = (".so", "vllm_double.json", "events.db-shm", "events.db-wal")
FOR_THE_ENGINE = ("/var/lib/deepseek/models/", "/usr/local/", "/etc/ascend_install.info")
KINDS: Mapping[str, str] = {
    "empty": ': > "$1"',
    "noise": 'head -c 4000 /dev/urandom > "$1"',
    "nested": 'head -c 200000 /dev/zero | tr "\\0" "[" > "$1"',
    "endless": 'truncate --size=1T "$1"',
    "folder": 'mkdir "$1"',
    "pipe": 'mkfifo "$1"',
    "loop": 'ln -s "$1" "$1"',
    "forbidden": ': > "$1"; chmod 0 "$1"',
}
KEPT = "/var/lib/lab-kept"
PSS_LIMIT_MIB = 64.0
WATCHED_S = 4.0
ENGINE_WATCHED_S = 8.0


@dataclass(frozen=True, slots=True)
class Result:
    path: str
    kind: str
    said: str = ""
    problem: str = ""

    def __str__(self) -> str:
        word = "FAILED" if self.problem else "good  "
        return f"{word} {self.kind:<9} {self.path:<62} {self.problem or self.said or 'not said'}"


def record(host: LabHost) -> list[str]:
    """Files that are opened from a new agent to an engine that serves."""
    product.start(host, "stop")
    with tempfile.TemporaryDirectory(prefix="deepseek-strace-") as folder:
        output = Path(folder) / "calls"
        trace = ["strace", "-f", "-q", "-o", str(output), "-e", "trace=openat"]
        with subprocess.Popen(
            [*trace, "-p", str(host.leader())], stderr=subprocess.DEVNULL
        ) as process:
            try:
                time.sleep(1)
                restart(host, AGENT)
                product.start(host)
                wait_well_slowly(host)
                restart(host, AGENT)  # what it reads of an engine that serves
                time.sleep(1)
                wait_well_slowly(host)
            finally:
                process.send_signal(signal.SIGINT)
        paths = {found["path"] for found in READ.finditer(output.read_text(errors="replace"))}
    wanted = (path for path in paths if OURS.fullmatch(path))
    return sorted(path for path in wanted if is_file(host, path))


def is_file(host: LabHost, path: str) -> bool:
    if path.endswith(NOT_READ_AS_FILES):
        return False
    return host.run(["test", "-f", path], check=False).returncode == 0


@contextmanager
def garbage(host: LabHost, path: str, kind: str) -> Iterator[None]:
    """In its place; the file is there again at the end, as it was, whatever has become of it."""
    script = f'set -e; cp --archive "$1" {KEPT}; rm -f "$1"; {KINDS[kind]}'
    host.run(["sh", "-c", script, "sh", path])
    try:
        yield
    finally:
        again = f'rm -rf "$1" "$1.damaged"; cp --archive {KEPT} "$1"; rm {KEPT}'
        host.run(["systemctl", "stop", AGENT], check=False)
        host.run(["sh", "-c", again, "sh", path])
        host.run(["systemctl", "start", AGENT])


def run_case(host: LabHost, path: str, kind: str) -> Result:
    """Leaves all as it was."""
    try:
        wait_well(host)
        (container,) = find_payloads(host)
        with garbage(host, path, kind):
            restart(host, AGENT)
            said = watch(host, WATCHED_S)
            assert list(find_payloads(host)) == [container], "the engine is another one"
            if path.startswith(FOR_THE_ENGINE):
                product.start(host, "restart", "--no-block")
                said += watch(host, ENGINE_WATCHED_S)
        product.start(host, "start", "--no-block")
        wait_well(host)
        return Result(path, kind, ", ".join(dict.fromkeys(said)))
    except (AssertionError, LabError) as error:
        return Result(path, kind, problem=one_line(error))


def watch(host: LabHost, for_s: float) -> list[str]:
    """The same agent answers all the time; the codes of what it complains of."""
    wait_answers(host)
    pid, before, since = main_pid(host, AGENT), restarts(host, AGENT), time.time() - 5
    codes: list[str] = []
    deadline = time.monotonic() + for_s
    while time.monotonic() < deadline:
        codes += complaints(ask_status(host), since)
        time.sleep(0.5)
    pss = product.pss_mib(host, AGENT)
    assert pss < PSS_LIMIT_MIB, f"the agent takes {pss:.0f} MiB"
    assert (main_pid(host, AGENT), restarts(host, AGENT)) == (pid, before), "another agent"
    return codes


def wait_answers(host: LabHost) -> None:
    deadline = time.monotonic() + 20
    while not read_status(host).snapshot:
        assert time.monotonic() < deadline, "no agent answers"
        time.sleep(0.2)


def complaints(told: Told, since: float) -> list[str]:
    broken = [one["code"] for one in told.snapshot["broken"] if "code" in one]
    found = [told.code, *(["broken profile"] if told.snapshot["broken"] else []), *broken]
    if told.snapshot["config_problem"]:
        found.append(told.snapshot["config_problem"]["code"])
    if told.snapshot["faults_problem"]:
        found.append("faults_problem")
    for kind in ("state-damaged", "file-not-written", "unit-file-restored"):
        found += [kind] if told.events(kind, since) else []
    return [code for code in found if code]


def run(host: LabHost, cases: Sequence[tuple[str, str]]) -> int:
    """Prints one line for each; returns how many failed."""
    failed = 0
    for number, (path, kind) in enumerate(cases, 1):
        result = run_case(host, path, kind)
        failed += bool(result.problem)
        print(f"{number:>3}/{len(cases)} {result}", flush=True)
        if result.problem:
            print(product.describe(host), file=sys.stderr)
            product.start(host, "restart")
    print(f"{len(cases)} pieces of garbage, {failed} failed")
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("flavour", type=Flavour, choices=list(Flavour))
    parser.add_argument("--only", default="", help="words of a file's path")
    parser.add_argument("--first", type=int, default=1, help="begin with the so-manyth of these")
    parser.add_argument("--kinds", default=",".join(KINDS))
    options = parser.parse_args()
    with product.supplied_host(options.flavour, f"garbage-{options.flavour}") as host:
        product.install(host)
        product.set_engine(host, load_s=1)
        assert product.start(host, "enable", "--now").returncode == 0
        paths = [path for path in record(host) if options.only in path]
        print(f"{options.flavour}: {len(paths)} files: {' '.join(paths)}", flush=True)
        cases = [(path, kind) for path in paths for kind in options.kinds.split(",")]
        cases = cases[options.first - 1 :]
        return 1 if run(host, cases) or not cases else 0


if __name__ == "__main__":
    sys.exit(main())
