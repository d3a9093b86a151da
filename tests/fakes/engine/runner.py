# SPDX-License-Identifier: MulanPSL-2.0
"""Runs the double as a child of a test: in flags and options, out a process surely ended."""

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from tests.fakes.engine.certificate import Certificate
from tests.fakes.engine.contract import Target, is_port_open

VLLM = Path(__file__).parent / "vllm"
DEADLINE_S = 5.0


def wait_until(holds: Callable[[], bool], what: str, timeout_s: float = DEADLINE_S) -> float:
    """The seconds it took."""
    started = time.monotonic()
    while not holds():
        if time.monotonic() - started > timeout_s:
            raise AssertionError(f"not within {timeout_s} s: {what}")
        time.sleep(0.01)
    return time.monotonic() - started


def run_vllm(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The double, when it is expected to end by itself."""
    environment = {"PATH": os.environ["PATH"], "VLLM_DOUBLE_NEEDS_NPU": "0", **env}
    return subprocess.run(
        [str(VLLM), *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


class RunningEngine:
    """One `vllm serve` with its EngineCore, in a session of its own."""

    def __init__(
        self,
        folder: Path,
        *flags: str,
        key: str = "",
        certificate: Certificate | None = None,
        prefix: tuple[str, ...] = (),
        **options: object,
    ) -> None:
        """With a certificate it speaks TLS. `prefix` is a command that runs the double, `options`
        are those of its README.
        """
        self.folder = folder
        self.control = folder / "control.json"
        self._log = folder / "engine.log"
        self._key = key
        self._certificate = certificate
        model = folder / "model"
        model.mkdir(exist_ok=True)
        if not (model / "config.json").exists():
            (model / "config.json").write_text('{"num_attention_heads": 32}')
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*prefix, str(VLLM), "serve", str(model), *self._flags(flags)],
                env=self._environment(options),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _flags(self, flags: tuple[str, ...]) -> list[str]:
        own = ["--host=127.0.0.1", "--port=0", "--served-model-name=m"]
        key = [f"--api-key={self._key}"] if self._key else []
        return [*own, *key, *(self._certificate.flags if self._certificate else ()), *flags]

    def _environment(self, options: dict[str, object]) -> dict[str, str]:
        chosen = {"load_s": 0.05, "needs_npu": 0, "control": self.control, **options}
        given = {f"VLLM_DOUBLE_{name.upper()}": str(value) for name, value in chosen.items()}
        return {"PATH": os.environ["PATH"], **given}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """SIGKILL to the whole session: a stopped EngineCore would outlive its parent."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(DEADLINE_S)

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def target(self) -> Target:
        wait_until(lambda: self._url() is not None, f"a port in {self.log}")
        trusted = str(self._certificate.certfile) if self._certificate else ""
        return Target(str(self._url()), "m", self._key, certificate=trusted)

    def _url(self) -> str | None:
        found = re.search(r"engine double has the port of (https?://127\.0\.0\.1:\d+)\n", self.log)
        return found[1] if found else None

    def wait_ready(self) -> Target:
        target = self.target
        wait_until(lambda: is_port_open(target), f"an open port: {self.log}")
        return target

    def wait_exit(self, timeout_s: float = DEADLINE_S) -> int:
        return self.process.wait(timeout_s)

    @property
    def core_pid(self) -> int:
        return self.child_of(self.process.pid)

    def child_of(self, parent: int) -> int:
        """The pid of its only child."""
        (child,) = self.children_of(parent)
        return child

    def children_of(self, parent: int) -> list[int]:
        return [pid for pid, of in _read_parents() if of == parent]

    def set_options(self, **options: object) -> None:
        """Change the running double through its control file."""
        partial = self.control.with_suffix(".new")
        partial.write_text(json.dumps(options))
        partial.replace(self.control)


def _read_parents() -> Iterator[tuple[int, int]]:
    """Each process with its parent."""
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            found = re.search(r"^PPid:\t(\d+)$", status.read_text(), re.MULTILINE)
            if found:
                yield int(status.parent.name), int(found[1])
