# SPDX-License-Identifier: MulanPSL-2.0
"""`python -m tests.lab.unsynced modern|legacy`: power cuts that lose what was not synced.

cuts.py cannot find a missing fsync, as the page cache outlives its hosts. Here the agent's state
lies on an ext4 of its own, in a file: what that file holds at the moment of the cut is what a disk
would hold, without what the kernel has not written yet, and with it the host boots again. ext4's
own help for those who forget fsync is off (noauto_da_alloc), and it commits by itself only once in
five minutes. A file that is written without fsync just before each cut shows that something is
lost. After each cut all files are whole, and it serves again by itself, with its history. Exit
status 1 when that did not hold.
"""

import argparse
import itertools
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import product
from .cuts import faults_on_disk
from .fault_scene import AGENT, one_line, wait_well_slowly
from .faults import ask_status, find_payloads, kill_engine, main_pid
from .host import LabHost
from .moments import SETTINGS, pid_outside
from .process import LabError, run_command
from .rootfs import Flavour

STATE = "var/lib/deepseek-agent"
OPTIONS = "loop,noauto_da_alloc,commit=300"
MIB = 64
CONTROL = "lab-unsynced"
# Moments of each kind spread over this long, and do not repeat.
LONGEST_S, STEP_S = 1.2, 0.37
WELL_LIMIT_S = 90.0

_turns = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Cut:
    """`lost`: whether the control file was; `seen`: what of the agent's was not finished."""

    what: str
    after_s: float
    lost: bool = False
    seen: str = ""
    served_s: float = 0.0
    problem: str = ""

    def __str__(self) -> str:
        word = "FAILED" if self.problem else "good  "
        lost = "loss is real" if self.lost else "NOTHING LOST"
        took = f"well {self.served_s:4.1f} s after power"
        when = f"{self.what:<8} + {self.after_s:.2f} s"
        return f"{word} {when}  {lost}  {self.problem or took}  {self.seen}"


class Disk:
    """The host's state folder, mounted by the machine before the host boots."""

    def __init__(self, host: LabHost) -> None:
        self._image = host.folder / "state.ext4"
        self._place = host.root / STATE

    def make(self) -> None:
        """With what the folder holds; the host is off."""
        run_command(["truncate", f"--size={MIB}M", str(self._image)])
        run_command(["mkfs.ext4", "-q", "-F", "-d", str(self._place), str(self._image)])

    @contextmanager
    def mounted(self) -> Iterator[None]:
        run_command(["mount", "-o", OPTIONS, str(self._image), str(self._place)])
        try:
            yield
        finally:
            run_command(["umount", str(self._place)])

    def copy(self) -> Path:
        """What a disk would hold now."""
        copy = self._image.with_suffix(".cut")
        shutil.copyfile(self._image, copy)
        return copy

    def replace(self, copy: Path) -> None:
        os.replace(copy, self._image)


# --- moments in which the agent writes ------------------------------------------------------------


def reload_settings(host: LabHost) -> None:
    host.write(SETTINGS, f"[limits]\nstart_wait_s = {1800 + next(_turns)}\n")
    host.run(["systemctl", "kill", "--kill-whom=main", "--signal=HUP", AGENT])


def restart_front(host: LabHost) -> None:
    product.start(host, "restart", "--no-block")


MOMENTS: Mapping[str, Callable[[LabHost], None]] = {
    "reload": reload_settings,
    "death": kill_engine,
    "restart": restart_front,
    "agent": lambda host: _run(host, "systemctl", "restart", "--no-block", AGENT),
}


def _run(host: LabHost, *argv: str) -> None:
    host.run(argv)


def cut(host: LabHost, disk: Disk, what: str, after_s: float) -> Path:
    """The host is off; what its disk held."""
    MOMENTS[what](host)
    time.sleep(after_s)
    agent = main_pid(host, AGENT)
    outside = pid_outside(host, agent) if agent else 0
    if outside:
        os.kill(outside, signal.SIGSTOP)
    (host.root / STATE / CONTROL).write_text("not synced\n")
    copy = disk.copy()
    host.power_cut()
    return copy


def look(host: LabHost, disk: Disk, what: str, after_s: float) -> Cut:
    """Boots it with what the cut has left, and leaves it running, in `disk.mounted()`."""
    control = host.root / STATE / CONTROL
    lost = not control.exists() or not control.read_text()
    control.unlink(missing_ok=True)
    seen = " ".join(path.name for path in (host.root / STATE).glob(".*"))
    try:
        faults = list(faults_on_disk(host.root))
        began = time.monotonic()
        host.boot()
        host.wait_booted()
        wait_well_slowly(host, WELL_LIMIT_S)
        served_s = time.monotonic() - began
        assert not faults, "; ".join(faults)
        assert len(find_payloads(host)) == 1
        told = ask_status(host)
        assert told.events("serving", 0), "it has no history"
        assert not told.events("state-damaged", time.time() - served_s - 1), "damage is told"
        left = [path.name for path in (host.root / STATE).glob(".*")]
        assert not left, f"left over: {left}"
        return Cut(what, after_s, lost, seen, served_s)
    except (AssertionError, LabError) as error:
        return Cut(what, after_s, lost, seen, problem=one_line(error))


def run(host: LabHost, count: int) -> list[Cut]:
    """Prints a line for each. The host is off before and after."""
    disk, cuts = Disk(host), []
    disk.make()
    moments = itertools.islice(itertools.cycle(MOMENTS), count)
    copy: Path | None = None
    before: tuple[str, float] | None = None
    for number, what in enumerate([*moments, ""]):
        if copy is not None:
            disk.replace(copy)
        with disk.mounted():
            if before is None:
                host.boot()
                host.wait_booted()
                wait_well_slowly(host, WELL_LIMIT_S)
            else:
                cuts.append(look(host, disk, *before))
                print(f"{len(cuts):>3}/{count} {cuts[-1]}", flush=True)
            if not what or (cuts and cuts[-1].problem):
                host.power_cut()
                break
            before = what, round(number * STEP_S % LONGEST_S, 2)
            copy = cut(host, disk, *before)
    return cuts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("flavour", type=Flavour, choices=list(Flavour))
    parser.add_argument("--cuts", type=int, default=50)
    options = parser.parse_args()
    with product.supplied_host(options.flavour, f"unsynced-{options.flavour}") as host:
        product.install(host)
        product.set_engine(host, load_s=1)
        assert product.start(host, "enable", "--now").returncode == 0
        host.shutdown()
        cuts = run(host, options.cuts)
    failed = sum(bool(one.problem) for one in cuts)
    lost = sum(one.lost for one in cuts)
    print(f"{len(cuts)} cuts, {failed} failed; {lost} lost what was not synced")
    return 1 if failed or len(cuts) < options.cuts or not lost else 0


if __name__ == "__main__":
    sys.exit(main())
