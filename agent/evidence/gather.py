# SPDX-License-Identifier: MulanPSL-2.0
"""Gathers the sections of one evidence file, in the order in which what they tell vanishes.

The times of the parts, one after the other: finding the processes 0.4 s, looking at them 0.8 s,
their command lines 0.3 s, py-spy 2 s; beside these systemd 0.8 s, then the journal 1.5 s. That is
3.5 s when everything hangs, and the agent waits 5 s.
"""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from agent.evidence import engine_log
from agent.evidence.children import Child, Children, Work
from agent.evidence.files import Notes
from agent.evidence.processes import command_line, describe_process, pid_inside
from agent.evidence.report import Section
from agent.host.payloads import ProcPayloads, find_processes
from agent.model import container_name, engine_unit, front_unit

FIND_S = 0.4
LOOK_S = 0.8
COMMAND_LINE_S = 0.3
PY_SPY_S = 2.0
UNIT_S = 0.8
JOURNAL_S = 1.5

PROPERTIES = (
    *("ActiveState", "SubState", "Result", "ExecMainPID", "ExecMainStatus", "InvocationID"),
    *("ActiveEnterTimestamp", "StateChangeTimestamp", "MemoryCurrent", "TasksCurrent"),
    *("CPUUsageNSec", "StatusText", "Job", "NeedDaemonReload"),
)
JOURNAL_LINES = 200
# Of which most may be about the agent's own looks: two or three a second for twenty minutes.
JOURNAL_READ_LINES = 3000
INVOCATION = re.compile(r"^InvocationID=([0-9a-f]{32})$", re.MULTILINE)
PODMAN_SOCKET = "unix:///run/podman/podman.sock"
# Run in the container. --nonblocking: py-spy does not stop what it looks at. And each has its own
# end, since nothing here can end what Podman's service has started.
PY_SPY = (
    "command -v py-spy >/dev/null || { echo 'the image has no py-spy'; exit 0; }; "
    'for pid; do timeout -s KILL 2 py-spy dump --nonblocking --pid "$pid" 2>&1 & done; wait'
)
NOTHING = "(nothing)"


@dataclass
class Gathering:
    """`sections` is what there is by now, at every moment."""

    instance: str
    notes: Notes
    children: Children
    on_progress: Callable[[], None]

    def __post_init__(self) -> None:
        self._processes = self._py_spy = self._units = self._journal = "(not gathered in time)"

    @property
    def sections(self) -> tuple[Section, ...]:
        return (
            Section("reason", self.notes.reason or NOTHING),
            Section("processes of the container", self._processes),
            Section("Python stacks (py-spy)", self._py_spy),
            Section("units", self._units),
            Section("journal of the engine", self._journal, keep_end=True),
            Section("metrics of the engine", self.notes.metrics or NOTHING),
            Section("NPUs", self.notes.npus or NOTHING),
        )

    def run(self) -> None:
        units = self.children.run(_show_units(self.instance), UNIT_S)
        processes = self._look_at_processes()
        self.on_progress()
        py_spy = self._ask_py_spy(processes)
        self.children.wait([units])
        self._units = units.text
        argv = _tail_journal(self.instance, units.text)
        tell = partial(engine_log.tell, argv, most_lines=JOURNAL_LINES)
        journal = self.children.start(tell, JOURNAL_S)
        for child in (journal, py_spy):
            if child is not None:
                self.children.wait([child])
        self._journal = engine_log.turn_round(journal.text)
        if py_spy is not None:
            self._py_spy = py_spy.text

    def _look_at_processes(self) -> list[tuple[int, int]]:
        """Each with its number in the container; returns those that were found."""
        finder = self._start(self._find_processes, FIND_S)
        self.children.wait([finder])
        found = [
            (int(outside), int(inside))
            for outside, _, inside in (line.partition(" ") for line in finder.text.splitlines())
            if outside.isdecimal() and inside.isdecimal()
        ]
        if not found:
            self._processes = finder.text or "(none: the container is gone)"
            return []
        looks = self._start_each(describe_process, found, LOOK_S)
        self.children.wait(looks)
        # Only now: these can hang.
        words = self._start_each(lambda pid: [command_line(pid)], found, COMMAND_LINE_S)
        self.children.wait(words)
        self._processes = "\n\n".join(
            f"{look.text.rstrip()}\n  in the container {inside}, command line: {line.text.strip()}"
            for (_, inside), look, line in zip(found, looks, words, strict=True)
        )
        return found

    def _find_processes(self) -> Iterable[str]:
        """By the container's id where the agent tells it, which also finds one without its unit."""
        found = {
            payload.pid
            for payload in ProcPayloads().find()
            if payload.container_id == self.notes.container_id
        }
        for pid in sorted(found) or find_processes(self.instance):
            yield f"{pid} {pid_inside(pid)}"

    def _ask_py_spy(self, processes: Sequence[tuple[int, int]]) -> Child | None:
        if not processes:
            self._py_spy = NOTHING
            return None
        pids = [str(inside) for _, inside in processes]
        # Through Podman's service: this process has too few rights to start one in a container.
        podman = ("podman", "--remote", f"--url={PODMAN_SOCKET}", "exec", "--privileged")
        name = container_name(self.instance)
        return self.children.run((*podman, name, "sh", "-c", PY_SPY, "sh", *pids), PY_SPY_S)

    def _start_each(
        self,
        describe: Callable[[int], Iterable[str]],
        processes: Sequence[tuple[int, int]],
        limit_s: float,
    ) -> list[Child]:
        return [
            self.children.start(_write(partial(describe, outside)), limit_s)
            for outside, _ in processes
        ]

    def _start(self, lines: Callable[[], Iterable[str]], limit_s: float) -> Child:
        return self.children.start(_write(lines), limit_s)


def _write(lines: Callable[[], Iterable[str]]) -> Work:
    """Line by line, so that a deadline leaves those before it."""

    def work(output: int) -> None:
        for line in lines():
            os.write(output, f"{line}\n".encode())

    return work


def _show_units(instance: str) -> tuple[str, ...]:
    chosen = (f"--property={name}" for name in ("Id", *PROPERTIES))
    return ("systemctl", "show", *chosen, engine_unit(instance), front_unit(instance))


def _tail_journal(instance: str, units: str) -> tuple[str, ...]:
    """What the engine said, and what systemd said of it, in its latest run."""
    # Of the first block, the engine's; systemd has forgotten it when nothing needs the unit.
    found = INVOCATION.search(units.partition("\n\n")[0])
    one_run = (
        (f"_SYSTEMD_INVOCATION_ID={found[1]}", "+", f"INVOCATION_ID={found[1]}")
        if found
        else ("--boot", f"--unit={engine_unit(instance)}")
    )
    options = ("--no-pager", "--output=short-iso-precise", "--reverse")
    return ("journalctl", *options, f"--lines={JOURNAL_READ_LINES}", *one_run)
