# SPDX-License-Identifier: MulanPSL-2.0
"""`make demo`: the main job, from `dnf install` to an answered chat and a lost NPU, on a real host.

Prints a timeline. Colour and a line of progress on a terminal, plain lines otherwise. Ends with
exit status 0 only when every step did what it should; leaves nothing running (unless --keep).
"""

import argparse
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from tests.fakes.dcmi.control import MAJOR

from . import product
from .__main__ import hosts_directory
from .host import LabHost
from .machine import prepare_machine
from .npus import libdcmi_of
from .process import LabError
from .rootfs import Flavour

SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
Result = TypeVar("Result")
# Where 8b is placed, and a code of level Separate (/usr/share/deepseek-agent/faults.toml).
LOST_NPU = 0
LOST_BY = "80E18402"


class Timeline:
    """Prints each step with the time since the start, and how long it took."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._is_terminal = sys.stdout.isatty()
        self._has_colour = self._is_terminal and "NO_COLOR" not in os.environ

    def step(self, title: str, work: Callable[[], Result], says: str = "") -> Result:
        """Does `work`; raises what it raises. `says` is printed below the finished step."""
        began = time.monotonic()
        with self._progress(title):
            result = work()
        now = time.monotonic()
        at, took = self._paint(f"{now - self._started:7.1f} s", "2"), f"{now - began:.1f} s"
        print(f"{at}  {self._paint('✓', '32')} {title}  {self._paint(took, '36')}", flush=True)
        if says:
            self.say(says)
        return result

    def say(self, text: str) -> None:
        for line in text.strip().splitlines():
            print(f"             {self._paint(line, '2')}", flush=True)

    def fail(self, text: str) -> None:
        print(f"           {self._paint('✗', '31')} {text}", flush=True)

    def _paint(self, text: str, colour: str) -> str:
        return f"\033[{colour}m{text}\033[0m" if self._has_colour else text

    @contextmanager
    def _progress(self, title: str) -> Iterator[None]:
        if not self._is_terminal:
            yield
            return
        done = threading.Event()

        def spin() -> None:
            turn = 0
            while not done.wait(0.1):
                turn += 1
                print(
                    f"\r           {SPINNER[turn % len(SPINNER)]} {title}\033[K", end="", flush=True
                )

        spinner = threading.Thread(target=spin)
        spinner.start()
        try:
            yield
        finally:
            done.set()
            spinner.join()
            print("\r\033[K", end="", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the host up")
    parser.add_argument("--flavour", type=Flavour, choices=list(Flavour), default=Flavour.MODERN)
    options = parser.parse_args()
    line = Timeline()
    try:
        if options.keep:
            _run(line, options.flavour, hosts_directory(), keep=True)
            print(
                "\nThe host is up.\n"
                "  enter it   make lab-shell NAME=demo\n"
                "  inside     deepseekctl status --watch, deepseekctl chat 8b\n"
                "  end it     make lab-stop NAME=demo"
            )
        else:
            with tempfile.TemporaryDirectory(prefix="deepseek-demo-", dir="/var/tmp") as folder:
                _run(line, options.flavour, Path(folder), keep=False)
    except LabError as error:
        line.fail(str(error))
        return 1
    return 0


def _run(line: Timeline, flavour: Flavour, folder: Path, *, keep: bool) -> None:
    prepare_machine()
    line.step("build the RPM (locked wheels inside)", lambda: product.packages(flavour))
    host = line.step(
        f"boot the {flavour.value} host (real systemd, D-Bus, Podman)",
        lambda: product.create_host(flavour, "demo", folder, detached=keep),
    )
    try:
        _serve(line, host)
    except BaseException:
        host.destroy()
        raise
    if not keep:
        line.step("power off", host.shutdown)
        host.destroy()


def _serve(line: Timeline, host: LabHost) -> None:
    line.step("8 simulated NPUs, the engine's image, a model", lambda: product.supply(host))
    line.step("a local dnf repository", lambda: product.add_repository(host))
    line.step("dnf install deepseek-agent", lambda: product.install(host))
    line.say(f"(this machine is small: models.d/8b.toml lowers {product.SMALLER_NEEDS.split()[0]})")
    line.step("systemctl enable --now deepseek@8b", lambda: _start(host))
    answer = line.step("the tutorial's curl is answered", lambda: _ask(host))
    line.say(answer)
    line.say(host.run(["deepseekctl", "status"]).stdout)
    host.run(["podman", "kill", "--signal=KILL", product.CONTAINER])
    line.step("the engine was killed; answered again", lambda: product.ask_until_answered(host))
    line.step("reboot, multi-user.target reached", host.reboot)
    line.step("answered again", lambda: product.ask_until_answered(host))
    line.say(host.run(["systemctl", "status", "--no-pager", "--lines=0", product.FRONT]).stdout)
    before = product.container_started_at(host)
    libdcmi_of(host).raise_fault(LOST_NPU, 0, LOST_BY, MAJOR, "isolated rows at their limit")
    line.step(
        f"NPU {LOST_NPU} breaks ({LOST_BY}); answered again, on another one",
        lambda: _serve_elsewhere(host, before),
    )
    line.say(host.run(["deepseekctl", "npus"]).stdout)
    line.say(host.run(["sh", "-c", "deepseekctl status | sed -n '/latest events/,$p'"]).stdout)
    libdcmi_of(host).clear_fault(LOST_NPU, 0, LOST_BY)
    clear = ["deepseekctl", "quarantine", "clear", str(LOST_NPU)]
    line.step("it was replaced: deepseekctl quarantine clear N", lambda: host.run(clear))


def _start(host: LabHost) -> None:
    done = product.start(host, "enable", "--now")
    if done.returncode != 0:
        raise LabError(f"the model did not start: {done.stderr}\n{product.describe(host)}")


def _serve_elsewhere(host: LabHost, before: str) -> None:
    product.wait_serving(host, other_than=before)
    product.ask_until_answered(host)
    listed = host.run(["podman", "exec", product.CONTAINER, "ls", "/dev"]).stdout.split()
    if f"davinci{LOST_NPU}" in listed:
        raise LabError(f"it serves on the broken NPU\n{product.describe(host)}")


def _ask(host: LabHost) -> str:
    answer = product.ask(host)
    if answer is None:
        raise LabError(f"no answer\n{product.describe(host)}")
    return answer


if __name__ == "__main__":
    sys.exit(main())
