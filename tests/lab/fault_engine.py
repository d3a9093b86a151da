# SPDX-License-Identifier: MulanPSL-2.0
"""Rows of the fault table: an engine that speaks no HTTP, or without end (fakes/hostile_engine).

What it comes to differs: who answers nothing that can be understood is not known to be ill, who
does not answer is replaced. What is looked at is that the agent goes on, and how much it takes.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from . import product
from .fault_scene import AGENT, Fault, restarts, wait_well
from .faults import ask_status, find_payloads, main_pid, start_fresh
from .host import LabHost
from .images import HOSTILE_ENGINE, add_engine_image

IMAGE = "localhost/lab/hostile:1"
PROFILE = "/etc/deepseek-agent/models.d/8b.toml"
# Longer than the deadline of any question to an engine that has nothing to do.
WHILE_S = 40.0
# Four questions at a time, each with an answer of 8 MiB at most.
GROWTH_MIB = 40.0
CPU_PART = 0.5
TICKS_PER_S = 100
MANNERS = (
    "endless-body",
    "endless-headers",
    "endless-continue",
    "drips",
    "noise",
    "nested",
    "numbers",
    "hangs-up",
    "silence",
)


@contextmanager
def hostile_engine(host: LabHost) -> Iterator[None]:
    """8b serves by it, well at first."""
    add_engine_image(host, IMAGE, HOSTILE_ENGINE)
    host.write(PROFILE, f'image = "{IMAGE}"\n{product.SMALLER_NEEDS}')
    product.set_engine(host)
    host.run(["systemctl", "reload", AGENT])
    start_fresh(host)
    try:
        yield
    finally:
        product.set_engine(host, load_s=1)
        host.write(PROFILE, product.SMALLER_NEEDS)
        host.run(["systemctl", "reload", AGENT])
        product.start(host, "restart")


def speaks(host: LabHost, manner: str) -> str:
    with hostile_engine(host):
        pid, before = main_pid(host, AGENT), restarts(host, AGENT)
        pss, cpu = product.pss_mib(host, AGENT), cpu_s(host, pid)
        product.set_engine(host, hostile=manner)
        began, most, phases = time.monotonic(), pss, dict[str, None]()
        while time.monotonic() - began < WHILE_S:
            phases[ask_status(host).phase] = None
            most = max(most, product.pss_mib(host, AGENT))
            assert len(find_payloads(host)) <= 1
            time.sleep(0.5)
        part = (cpu_s(host, pid) - cpu) / WHILE_S
        assert (main_pid(host, AGENT), restarts(host, AGENT)) == (pid, before)
        assert most - pss < GROWTH_MIB, f"{pss:.1f} MiB before, {most:.1f} MiB"
        assert part < CPU_PART, f"{part:.0%} of a CPU"
        product.set_engine(host)
        wait_well(host)
    return f"{' > '.join(phases)}; {part:.0%} of a CPU, {most - pss:+.1f} MiB"


def cpu_s(host: LabHost, pid: int) -> float:
    """Of the process and of its children that have ended."""
    fields = host.read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS_PER_S


def _row(manner: str) -> Fault:
    return Fault(
        f"engine speaks {manner}",
        "the same agent answers in time, takes little, and serves when the engine does again",
        lambda host, _: speaks(host, manner),
    )


ENGINE_FAULTS = tuple(map(_row, MANNERS))
