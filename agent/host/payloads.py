# SPDX-License-Identifier: MulanPSL-2.0
"""`ports.Payloads` from /proc: processes of our containers, known by their control group.

A process is told from a later one with the same number by its start time (proc(5), field 22).
"""

import os
import re
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from agent.errors import Code, HostError
from agent.facts import PayloadFacts
from agent.model import container_name, engine_unit

# Below units/deepseek.slice: "libpod-ID.scope" beside the unit (both cgroup versions, maybe with a
# "container" group in it), or "libpod-payload-ID" below the unit (--cgroups=split). conmon's own
# groups have other names.
PAYLOAD_GROUP = re.compile(r"/deepseek\.slice/(?:\S*/)?libpod-(?:payload-)?([0-9a-f]{64})\b")
UNIT_GROUP = re.compile(rf"/({re.escape(container_name(''))}[^/\s]+\.service)/libpod-payload-")
DEAD = ("Z", "X")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PROC, RUN = Path("/proc"), Path("/run")


def find_processes(instance: str, proc: Path = PROC, run: Path = RUN) -> list[int]:
    """Those of the container that the instance's unit runs, found without Podman and the agent."""
    unit = engine_unit(instance)
    return [payload.pid for payload in ProcPayloads(proc, run).find() if payload.unit == unit]


class ProcPayloads:
    """This host's."""

    def __init__(self, proc: Path = PROC, run: Path = RUN) -> None:
        self._proc = proc
        self._run = run

    def find(self) -> Sequence[PayloadFacts]:
        """All of them, of all instances."""
        units = self._read_units()
        pids = sorted(int(name) for name in os.listdir(self._proc) if name.isdecimal())
        return [found for pid in pids if (found := self._read(pid, units)) is not None]

    def is_alive(self, payload: PayloadFacts) -> bool:
        """A zombie is not: it holds nothing any more."""
        return self._started(payload.pid) == payload.started

    def processor_s(self, container_id: str) -> float | None:
        """The kernel and their own code together, in steps of a clock tick (10 ms)."""
        try:
            own = [one.pid for one in self.find() if one.container_id == container_id]
        except OSError:  # no descriptor is left
            return None
        ticks = [used for pid in own if (used := self._used(pid)) is not None]
        return sum(ticks) / TICKS_PER_S if ticks else None

    def kill(self, payload: PayloadFacts) -> None:
        """SIGKILL; one that has ended meanwhile is no error. Raises HostError."""
        try:
            with suppress(ProcessLookupError):
                handle = os.pidfd_open(payload.pid)
                try:
                    # Looked at with the handle in hand: from now on the number cannot be reused.
                    if self.is_alive(payload):
                        signal.pidfd_send_signal(handle, signal.SIGKILL)
                finally:
                    os.close(handle)
        except OSError as error:
            raise HostError(
                Code.PAYLOAD_LEFT, f"cannot end process {payload.pid}: {error.strerror}"
            ) from error

    def _group(self, pid: int) -> str:
        """Its control groups, as the kernel tells them; empty when it has ended."""
        try:
            return (self._proc / str(pid) / "cgroup").read_text(errors="replace")
        except OSError:
            return ""

    def _read_units(self) -> Mapping[str, str]:
        """By the container that it has written into its cid file, as plain units and quadlets do;
        those of Podman 6 have none, and their payload is below the unit's own group."""
        found = {}
        for path in self._run.glob(f"{container_name('*')}.cid"):
            with suppress(OSError):
                found[path.read_text(errors="replace").strip()] = f"{path.stem}.service"
        return found

    def _read(self, pid: int, units: Mapping[str, str]) -> PayloadFacts | None:
        group = self._group(pid)
        match = PAYLOAD_GROUP.search(group)
        started = self._started(pid) if match else None
        if match is None or started is None:
            return None
        below = UNIT_GROUP.search(group)
        unit = below[1] if below else units.get(match[1], "")
        return PayloadFacts(pid, started, match[1], unit)

    def _started(self, pid: int) -> int | None:
        """In clock ticks since the boot; None when it does not live. A leader that has exited
        while a thread of it hangs in the kernel still holds what it held, and counts."""
        folder = self._proc / str(pid)
        try:
            fields = self._stat(pid)
            state, started = fields[0], int(fields[19])
            if state in DEAD and len(os.listdir(folder / "task")) <= 1:
                return None
        except (OSError, IndexError, ValueError):
            return None
        return started

    def _used(self, pid: int) -> int | None:
        """In clock ticks, all its threads together; None when it has ended."""
        try:
            fields = self._stat(pid)
            return int(fields[11]) + int(fields[12])
        except (OSError, IndexError, ValueError):
            return None

    def _stat(self, pid: int) -> list[str]:
        """From field 3 on."""
        text = (self._proc / str(pid) / "stat").read_text(errors="replace")
        return text.rpartition(")")[2].split()
