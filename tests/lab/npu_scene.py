# SPDX-License-Identifier: MulanPSL-2.0
"""A lab host on which three instances serve, and whose NPUs can be made ill: what the table of NPU
faults (npu_table.py) and its tests look at, and how all becomes well again between two cases.
"""

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agent.model import container_name, engine_unit, front_unit
from agent.policy.npu.reset import SETTLE_S
from tests.fakes.dcmi.control import DcmiDouble

from . import ending, product
from .driver import DRIVER_VERSION
from .ending import PORTS, TWINS
from .host import LabHost
from .npus import PRODUCT, libdcmi_of, restore_npus
from .process import LabError

CARDS = 8
# 8b takes one NPU of its own choice, and so does the second; the third may have one only.
CHOOSER, NEIGHBOR, BOUND = "8b", *TWINS[:2]
BOUND_TO = 5
NAMES = (CHOOSER, NEIGHBOR, BOUND)
SETTINGS = "/etc/deepseek-agent/agent.toml.d/npus.toml"
LEVELS = "/etc/deepseek-agent/faults.d/lab.toml"
# No code of this level in the catalogue is without a pause before it counts.
PRE_SEPARATE = "DEAD0005"
RESTART_AFTER_S = 5.0  # instead of a minute, but in the cases that say so
DEFAULTS = ""
QUICKER = f"restart_after_s = {RESTART_AFTER_S:g}\n"
LOOK_EVERY_S = 0.1
WELL_LIMIT_S = 120.0
# Of systemd's messages: a unit is being stopped, and was.
STOPPING = "de5b426a63be47a7b6ac3eaac82e2f6f"
STOPPED = "9d1aaa27d60140bd96365438aad20286"
SOCKET = "/run/deepseek-agent/agent.sock"
REFRESH = r"""
import socket
client = socket.socket(socket.AF_UNIX)
client.connect("/run/deepseek-agent/npu.sock")
client.sendall(b'{"type": "refresh"}\n')
client.settimeout(1)
try:
    while client.recv(65536):  # who hangs up on npud while it talks is not heard
        pass
except TimeoutError:
    pass
"""


@dataclass(frozen=True, slots=True)
class Engine:
    """Of one instance: it is another one when the container is."""

    container: str  # and when it was started; empty: there is none
    npus: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Event:
    """One of the agent's, as it is told."""

    at: float
    instance: str
    kind: str
    message: str
    npu: int | None
    file: str  # of evidence


class Scene:
    def __init__(self, host: LabHost) -> None:
        self.host = host

    @property
    def libdcmi(self) -> DcmiDouble:
        return libdcmi_of(self.host)

    def prepare(self) -> None:
        """Once, on a host that has the package."""
        ending.add_profile(self.host, NEIGHBOR)
        ending.add_profile(self.host, BOUND, f"npus = [{BOUND_TO}]")
        self.host.write(LEVELS, f'[faults.{PRE_SEPARATE}]\nlevel = "PreSeparate"\n')
        self.host.write(SETTINGS, f"[npu]\n{QUICKER}")
        self.host.run(["systemctl", "restart", "deepseek-agent"])
        product.set_engine(self.host, load_s=1)
        for name in NAMES:
            start = ["systemctl", "enable", "--now", front_unit(name)]
            done = self.host.run(start, check=False, timeout_s=120)
            if done.returncode != 0:
                raise LabError(f"cannot start {name}: {done.stderr}\n{self.tell()}")
        self.make_well()

    def set_npu(self, settings: str) -> None:
        """[npu] of agent.toml, in force when this returns."""
        self.host.write(SETTINGS, f"[npu]\n{settings}")
        self.host.run(["systemctl", "reload", "deepseek-agent"])

    # --- looking ---------------------------------------------------------------------------------

    def told(self) -> dict[str, Any]:
        """What the agent tells now; {} while there is none."""
        curl = ["curl", "--silent", "--max-time", "5", "--unix-socket", SOCKET]
        done = self.host.run([*curl, "http://agent/v1/status"], check=False)
        found: dict[str, Any] = json.loads(done.stdout or "{}")
        return found

    def events(self, since: float, told: dict[str, Any] | None = None) -> list[Event]:
        found = (told if told is not None else self.told()).get("events", [])
        keys = ("at", "instance", "kind", "message", "npu", "file")
        return [Event(*(one[key] for key in keys)) for one in found if one["at"] >= since]

    def engine(self, name: str) -> Engine:
        return self.engines()[name]

    def engines(self) -> dict[str, Engine]:
        npus = {one["name"]: tuple(one["npus"]) for one in self.told()["instances"]}
        format_ = "--format={{.Names}} {{.ID}} {{.StartedAt}}"
        lines = self.host.run(["podman", "ps", "--no-trunc", format_]).stdout.splitlines()
        ids = dict(line.split(" ", 1) for line in lines)
        return {name: Engine(ids.get(container_name(name), ""), npus[name]) for name in NAMES}

    def free_npu(self) -> int:
        """One that nobody uses."""
        used = {npu for engine in self.engines().values() for npu in engine.npus}
        return max(npu for npu in range(CARDS) if npu not in {*used, BOUND_TO})

    def answers(self, name: str) -> bool:
        if name == CHOOSER:
            return product.ask(self.host, limit_s=product.POLL_LIMIT_S) is not None
        body = {"model": name, "messages": [{"role": "user", "content": "openEuler"}]}
        url = f"http://localhost:{PORTS[name]}/v1/chat/completions"
        curl = ["curl", "--silent", "--fail", "--max-time", f"{product.POLL_LIMIT_S}", url]
        typed = ["--header", "Content-Type: application/json", "--data", json.dumps(body)]
        return '"content"' in self.host.run([*curl, *typed], check=False).stdout

    def stops(self, name: str, since: float) -> list[tuple[float, float]]:
        """When systemd began to stop its engine, and was done, each time: seconds since the epoch.
        From the journal: a unit whose file was written anew does not know."""
        unit = engine_unit(name)
        return list(
            zip(
                self._journal(since, f"UNIT={unit}", f"MESSAGE_ID={STOPPING}"),
                self._journal(since, f"UNIT={unit}", f"MESSAGE_ID={STOPPED}"),
                strict=False,
            )
        )

    def _journal(self, since: float, *matches: str, words: str = "") -> list[float]:
        journal = ["journalctl", "--boot", "--no-pager", "--output=short-unix"]
        done = self.host.run([*journal, f"--since=@{since:.6f}", *matches], check=False)
        lines = [line for line in done.stdout.splitlines() if line[:1].isdigit() and words in line]
        return [float(line.split()[0]) for line in lines]

    def npud_said(self, words: str, since: float) -> float | None:
        """When npud's journal first had those words, since then."""
        found = self._journal(since, "--unit=deepseek-npud", words=words)
        return min(found, default=None)

    def tell(self) -> str:
        """For a failure's message."""
        script = (
            "deepseekctl npus; deepseekctl status; journalctl -b -n 60 --no-pager -o short-precise "
            "-t agentd -t npud"
        )
        return self.host.run(["sh", "-c", script], check=False).stdout

    # --- doing -----------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Has npud read all now, as it does every minute."""
        self.host.run(["python3", "-c", REFRESH])

    def kill_npud(self) -> None:
        pid = product.show(self.host, "deepseek-npud", "MainPID")["MainPID"]
        self.host.run(["kill", "-KILL", pid])

    def make_well(self) -> None:
        """All NPUs healthy and remembered as such, all instances serving; the next case finds
        nothing of the one before."""
        self.libdcmi.start(PRODUCT, CARDS)
        self.libdcmi.set_option("driver", DRIVER_VERSION)
        restore_npus(self.host, range(CARDS))
        self.host.run(["systemctl", "restart", "deepseek-npud"])
        self.set_npu(QUICKER)
        self.wait("no fault", self._is_without_faults)
        self.wait("nothing is reset", self._has_settled, limit_s=WELL_LIMIT_S + SETTLE_S)
        self.clear()
        for name in NAMES:
            self.host.run(["systemctl", "start", "--no-block", front_unit(name)])
        self.wait("serving", self._all_serve)
        self.host.run(["deepseekctl", "replan", BOUND], check=False)
        self.wait("serving", self._all_serve)
        self.clear()

    def clear(self) -> None:
        """What is remembered of faults, too."""
        every = [str(number) for number in range(CARDS)]
        self.host.run(["deepseekctl", "quarantine", "clear", *every, "host"])

    def _is_without_faults(self) -> bool:
        told = self.told()
        npus = told.get("npus", [])
        ill = [one for one in npus if one["faults"] or one["health"] != "ok"]
        return told["inventory"]["driver"] == "ready" and len(npus) == CARDS and not ill

    def _has_settled(self) -> bool:
        """What a chip says soon after its reset is not believed."""
        told = self.told()
        ended = [one.at for one in self.events(0, told) if one.kind == "npu-reset-ended"]
        reset = [one.at for one in self.events(0, told) if one.kind == "npu-reset"]
        under_way = len(reset) > len(ended) and time.time() - reset[-1] < 2 * SETTLE_S
        return not under_way and time.time() - max(ended, default=0.0) > SETTLE_S + 1

    def _all_serve(self) -> bool:
        told = self.told()
        found = {one["name"]: one["phase"] for one in told.get("instances", [])}
        unfit = [one for one in told.get("npus", []) if one["unfit"]]
        serving = all(found[name] == "serving" for name in NAMES)
        return serving and not unfit and all(self.answers(name) for name in NAMES)

    def wait(self, what: str, is_so: Callable[[], bool], limit_s: float = WELL_LIMIT_S) -> None:
        deadline = time.monotonic() + limit_s
        while True:
            with contextlib.suppress(LookupError):
                if is_so():
                    return
            if time.monotonic() > deadline:
                raise LabError(f"not so after {limit_s:.0f} s: {what}\n{self.tell()}")
            time.sleep(LOOK_EVERY_S)
