# SPDX-License-Identifier: MulanPSL-2.0
"""A lab host with an engine whose processes fail, and a neighbor that must not notice: what the
table of serving faults (serving_table.py) looks at, and how all becomes well again between cases.
"""

import contextlib
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

from agent.model import container_name, front_unit

from . import ending, vllm_host
from .host import LabHost
from .npu_scene import Engine, Scene
from .process import LabError, kill_session
from .victims import Victims, find_victims

NEIGHBOR = ending.TWINS[0]
CLIENT = Path(__file__).with_name("load_client.py")
CLIENT_PLACE = "/var/lib/deepseek-lab/load_client.py"
CHAT = "/v1/completions"
POLL_LIMIT_S = 2.0
MOST_FAILURES = 2  # the next start waits for 4 s
START_LIMIT_S = float(vllm_host.START_LIMIT_S)


class EngineKind(StrEnum):
    VLLM = "vllm"
    DOUBLE = "double"


class ServingScene(Scene):
    """`name` is the instance that the cases are about."""

    def __init__(self, host: LabHost, kind: EngineKind) -> None:
        super().__init__(host)
        self.kind = kind
        self.name, self.port, self.model = {
            EngineKind.VLLM: (vllm_host.NAME, vllm_host.PORT, vllm_host.SERVED),
            EngineKind.DOUBLE: ("8b", ending.PORTS["8b"], "deepseek-r1:8b"),
        }[kind]
        self.container = container_name(self.name)
        self.url = f"http://127.0.0.1:{self.port}"

    def prepare(self) -> None:
        ending.add_profile(self.host, NEIGHBOR)
        self.host.write(CLIENT_PLACE, CLIENT.read_text())
        self.host.run(["systemctl", "restart", "deepseek-agent"])
        for name in (NEIGHBOR, self.name):
            start = ["systemctl", "enable", "--now", front_unit(name)]
            done = self.host.run(start, check=False, timeout_s=START_LIMIT_S)
            if done.returncode != 0:
                raise LabError(f"cannot start {name}: {done.stderr}\n{self.tell()}")
        self.make_well()

    # --- looking ---------------------------------------------------------------------------------

    def victims(self) -> Victims:
        return find_victims(self.host, self.container)

    def engines(self) -> dict[str, Engine]:
        format_ = "--format={{.Names}} {{.ID}} {{.StartedAt}}"
        lines = self.host.run(["podman", "ps", "--no-trunc", format_]).stdout.splitlines()
        ids = dict(line.split(" ", 1) for line in lines)
        names = (self.name, NEIGHBOR)
        return {name: Engine(ids.get(container_name(name), ""), ()) for name in names}

    def answers(self, name: str) -> bool:
        """Whether a token is given."""
        port, model = (self.port, self.model) if name == self.name else (ending.PORTS[name], name)
        body = {"model": model, "prompt": "openEuler", "max_tokens": 1}
        url = f"http://127.0.0.1:{port}{CHAT}"
        curl = ["curl", "--silent", "--fail", "--max-time", f"{POLL_LIMIT_S}", url]
        typed = ["--header", "Content-Type: application/json", "--data", json.dumps(body)]
        return '"text"' in self.host.run([*curl, *typed], check=False).stdout

    def phase(self) -> str:
        told = self.told().get("instances", [])
        return next((str(one["phase"]) for one in told if one["name"] == self.name), "")

    def gauge(self, name: str) -> float:
        """As the engine tells it. Raises LabError when it does not."""
        values = self._metric(name)
        if not values:
            raise LabError(f"no {name} from {self.url}")
        return sum(values)

    def counter(self, name: str) -> float:
        """Of all labels."""
        return sum(self._metric(name))

    def _metric(self, name: str) -> list[float]:
        curl = ["curl", "--silent", "--max-time", "5", f"{self.url}/metrics"]
        text = self.host.run(curl, check=False).stdout
        found = re.findall(rf"^vllm:{name}\{{[^}}]*\}} (\S+)$", text, re.MULTILINE)
        return [float(value) for value in found]

    def size_of(self, evidence: str) -> int | None:
        """Of that file, in bytes."""
        done = self.host.run(["stat", "--format=%s", evidence], check=False)
        return int(done.stdout) if done.returncode == 0 else None

    # --- doing -----------------------------------------------------------------------------------

    @contextmanager
    def load(self, clients: int, chars: int = 20, max_tokens: int = 2000) -> Iterator[None]:
        """So many clients ask all the time."""
        if not clients:
            yield
            return
        arguments = [self.url, self.model, f"{clients}", f"{chars}", f"{max_tokens}"]
        entry = self.host.build_entry(["python3", CLIENT_PLACE, *arguments])
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        child = subprocess.Popen(entry, start_new_session=True, **quiet)  # type: ignore[call-overload]
        try:
            self.wait("requests run", lambda: self.counter("num_requests_running") >= 1)
            yield
        finally:
            kill_session(child)

    def make_well(self) -> None:
        """Serving; failures of the cases before are forgotten when they have come to some: each
        makes the next start wait longer, and to be rid of them costs a start."""
        with contextlib.suppress(LabError):
            is_well = self.phase() == "serving" and self.answers(self.name)
            if is_well and self._failures() <= MOST_FAILURES:
                return
        self.host.run(
            ["systemctl", "restart", front_unit(self.name)], check=False, timeout_s=START_LIMIT_S
        )
        self.wait("serving", lambda: self.phase() == "serving" and self.answers(self.name))

    def _failures(self) -> int:
        told = self.told()["instances"]
        return next(int(one["failures"]) for one in told if one["name"] == self.name)
