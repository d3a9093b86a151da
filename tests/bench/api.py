# SPDX-License-Identifier: MulanPSL-2.0
"""What the socket API costs and bears: a real agent with 16 NPUs and 8 instances that serve.

    python -m tests.bench.api [--parts latency,watchers,attacks] [--seconds 60]

NPUs and systemd are doubles in this process; each engine has the port and the counters of a vLLM.
The readings of the NPUs change every second, the fastest that npud tells them. Beside it, for
comparison: uvicorn alone, which sends the same bytes. Whoever attacks is nice (19): on a host of
192 cores it would have cores of its own.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agent.model import (
    FaultSeverity,
    Inventory,
    NpuFault,
    NpuProcess,
    NpuReadings,
    Phase,
    container_name,
    engine_unit,
    front_unit,
)
from agent.status.client import AgentClient
from tests.bench.plain import plain_server
from tests.bench.usage import Usage, cpu_s, descriptors, resident_mib
from tests.build import build_inventory
from tests.fakes.bus import private_bus
from tests.fakes.engine.vllm_double.metrics import Counters, render_metrics
from tests.fakes.podman_api import FakeContainer, FakePodmanApi
from tests.scenario.agentd import REPOSITORY, Daemon, daemon, write_config
from tests.scenario.endpoint import Endpoint
from tests.visitors import BAD

INSTANCES = tuple(f"m{number}" for number in range(8))
NPUS = 16
USERS = (1000, 1001, 1002, 1003, 1004)
PARTS = ("latency", "watchers", "attacks")


class Engine(Endpoint):
    """With as much of /metrics as a vLLM has."""

    def _metrics(self) -> str:
        done = {"stop": self.tokens}
        counters = Counters(1, 0, self.tokens, self.tokens, done, self.tokens, 0.1 * self.tokens)
        return render_metrics(counters, "a") + "".join(map(_histogram, range(20)))


def _histogram(number: int) -> str:
    name, labels = f"vllm:time_{number}_seconds", 'engine="0",model_name="a"'
    edges = (f'{name}_bucket{{{labels},le="{edge}.0"}} 7.0\n' for edge in range(60))
    return "".join(edges) + f"{name}_count{{{labels}}} 7.0\n{name}_sum{{{labels}}} 70.0\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--seconds", type=float, default=60, help="of each row about watchers")
    parser.add_argument("--attack-s", type=float, default=8, help="of each attack")
    parser.add_argument("--kinds", default=",".join(BAD), help="of attacks")
    options = parser.parse_args()
    if os.getuid() == 0:
        os.nice(-10)  # what else this machine does is not to be measured
    asyncio.run(_main(options))


async def _main(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as name, private_bus() as bus:
        folder = Path(name)
        os.chmod(folder, 0o755)  # noqa: S103 - others connect, too
        engines = [Engine(flows=True) for _ in INSTANCES]
        for instance, engine in zip(INSTANCES, engines, strict=True):
            write_config(folder, str(engine.port), instance)
            await engine.open()
        # It does nothing to this machine, and looks at everything.
        (folder / "etc" / "agent.toml").write_text('mode = "observe"\n')
        with (folder / "log").open("wb") as log:
            async with daemon(
                folder,
                bus,
                1024,
                podman=_podman(folder),
                npus=NPUS,
                instances=INSTANCES,
                stderr=log.fileno(),
            ) as agent:
                agent.socket.chmod(0o666)
                await _measure(agent, options)
                lines = (folder / "log").read_text(errors="replace").splitlines()
                print(f"the agent has logged {len(lines)} lines, {_kinds_of(lines)}")
        for engine in engines:
            engine.end()


def _podman(folder: Path) -> FakePodmanApi:
    """With the containers of the engines."""
    units = ((container_name(name), engine_unit(name)) for name in INSTANCES)
    return FakePodmanApi(
        folder / "podman.sock", containers=[FakeContainer(name, unit=unit) for name, unit in units]
    )


def _kinds_of(lines: Sequence[str]) -> str:
    counted: dict[str, int] = {}
    for line in lines:
        word = " ".join(line.split()[:3])
        counted[word] = counted.get(word, 0) + 1
    often = sorted(counted.items(), key=lambda one: -one[1])[:5]
    return ", ".join(f"{count} {word!r}" for word, count in often)


async def _measure(agent: Daemon, options: argparse.Namespace) -> None:
    parts = options.parts.split(",")
    await _serve(agent)
    await _fill_events(agent)
    size = len(await asyncio.to_thread(_status_json, agent.socket))
    print(f"{NPUS} NPUs, {len(INSTANCES)} instances serve, the status has {size} bytes")
    if "watchers" in parts:
        await _measure_watchers(agent, options.seconds)
    async with _moving(agent):
        if "latency" in parts:
            await _measure_latency(agent)
        if "attacks" in parts:
            await _measure_attacks(agent, options.attack_s, options.kinds.split(","))


async def _serve(agent: Daemon) -> None:
    for name in INSTANCES:
        agent.systemd.change(front_unit(name), "active", invocation=os.urandom(16))
        agent.systemd.change(engine_unit(name), "active", load="loaded", invocation=os.urandom(16))
    await agent.reach(lambda seen: all(one.phase is Phase.SERVING for one in seen.instances), 60)


async def _fill_events(agent: Daemon) -> None:
    """As many as a status shows, with all that is known of an NPU."""

    def fill() -> None:
        client = AgentClient(agent.socket)
        for _ in range(4):
            for npu in range(NPUS):
                client.quarantine(npu, "a new fan is being built in")
                client.clear(npu)
        client.close()

    agent.npud.say(_inventory(0))
    await asyncio.sleep(0.5)
    await asyncio.to_thread(fill)


def _status_json(path: Path) -> bytes:
    client = AgentClient(path)
    try:
        return client.status_json()
    finally:
        client.close()


# --- what moves ----------------------------------------------------------------------------------


def _inventory(number: int) -> Inventory:
    """Another one for each number; one NPU has a fault for ten of them, and none for the next."""
    chips = []
    for npu in build_inventory(NPUS).npus:
        readings = NpuReadings(
            temperature_c=40 + (number + npu.logic_id) % 20,
            power_w=100.0 + number % 50,
            utilization_percent=number % 100,
            memory_percent=5,
            hbm_temperature_c=41 + number % 10,
            ecc_single=2,
            ecc_double=0,
            isolated_pages=0,
        )
        processes = tuple(NpuProcess(1000 + one, "python3", 1000 + number) for one in range(2))
        chips.append(replace(npu, readings=readings, processes=processes, processes_told=True))
    if number // 10 % 2:
        fault = NpuFault(f"AB{number // 10:06X}", FaultSeverity.MINOR, "node type=SoC", time.time())
        chips[3] = replace(chips[3], faults=(fault,))
    return build_inventory(chips, source="dcmi", read_at=time.time(), sequence=number + 1)


@contextlib.asynccontextmanager
async def _moving(agent: Daemon, every_s: float = 1.0) -> AsyncIterator[None]:
    async def move() -> None:
        number = 1
        while True:
            agent.npud.say(_inventory(number))
            number += 1
            await asyncio.sleep(every_s)

    task = asyncio.create_task(move())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


# --- visitors ------------------------------------------------------------------------------------


@dataclass
class Visitors:
    """A process of `tests.visitors`."""

    child: asyncio.subprocess.Process

    async def told(self) -> dict[str, object]:
        output, _ = await self.child.communicate()
        found: dict[str, object] = json.loads(output)
        return found


async def _send(kind: str, path: Path, seconds: float, *more: str, nice: int = 0) -> Visitors:
    child = await asyncio.create_subprocess_exec(
        *("nice", "-n", str(nice), sys.executable, "-m", "tests.visitors"),
        *(kind, str(path), f"--seconds={seconds}", *more),
        stdout=subprocess.PIPE,
        cwd=REPOSITORY,
    )
    return Visitors(child)


def _times(told: dict[str, object]) -> str:
    times = told["times_ms"]
    assert isinstance(times, list)
    assert told["codes"] == [200], told["codes"]
    times.sort()
    p50, p99 = statistics.median(times), times[len(times) * 99 // 100]
    return f"{len(times):>6} asked  P50 {p50:6.2f}  P99 {p99:6.2f}  longest {times[-1]:7.2f} ms"


# --- the parts -----------------------------------------------------------------------------------


async def _measure_latency(agent: Daemon) -> None:
    async with plain_server(await asyncio.to_thread(_status_json, agent.socket)) as plain:
        for target in ("/v1/status", "/v1/instances", "/v1/health", "/v1/metrics"):
            asked = await _send("ask", agent.socket, 15, "--pause-s=0.003", f"--target={target}")
            print(f"  {target:<16} {_times(await asked.told())}")
        asked = await _send("ask", plain.path, 15, "--pause-s=0.003")
        print(f"  uvicorn alone    {_times(await asked.told())}")


async def _measure_watchers(agent: Daemon, seconds: float) -> None:
    async def row(words: str, watchers: int, pid: int, path: Path) -> None:
        visitors = []
        if watchers:
            for target in ("/v1/watch", "/v1/watch/status"):
                more = (f"--width={watchers}", f"--target={target}")
                visitors.append(await _send("watch", path, seconds + 5, *more))
            await asyncio.sleep(3)
        before = cpu_s(pid)
        await asyncio.sleep(seconds)
        percent = (cpu_s(pid) - before) / seconds * 100
        told = [await one.told() for one in visitors]
        frames = " and ".join(f"{one['frames']} frames" for one in told)
        print(f"  {words:<52} {percent:5.2f} % of a core  {frames}")

    pid = agent.child.pid
    await row("nobody, nothing moves", 0, pid, agent.socket)
    async with _moving(agent):
        await row("nobody, readings every second", 0, pid, agent.socket)
        await row("20 + 20 watchers, readings every second", 20, pid, agent.socket)
    async with _moving(agent, 5.0):
        await row("20 + 20 watchers, readings every 5 s", 20, pid, agent.socket)
    async with plain_server(await asyncio.to_thread(_status_json, agent.socket)) as plain:
        words = "uvicorn alone, 20 + 20 readers, a status every second"
        await row(words, 20, plain.pid, plain.path)


async def _measure_attacks(agent: Daemon, seconds: float, kinds: Sequence[str]) -> None:
    path, pid = agent.socket, agent.child.pid
    for kind in kinds:
        usage = Usage(pid)
        before, memory = descriptors(pid), resident_mib(pid)
        attackers = []
        crowd = kind == "crowd"
        users = USERS if os.getuid() == 0 else (os.getuid(),)
        for user in users:
            width = 1000 // len(users) if crowd else 64
            more = (f"--width={width}", f"--uid={user}", "--pause-s=0.05")
            attackers.append(await _send(kind, path, seconds, *more, nice=19))
        asked = await _send("ask", path, seconds, "--pause-s=0.01", "--target=/v1/status")
        async with usage.followed():
            line = _times(await asked.told())
            told = [await one.told() for one in attackers]
        visits = sum(int(str(one["visits"])) for one in told)
        back_s = await _until_back(pid, before)
        print(
            f"  {kind:<12} {visits:>6} visits {line}  CPU {usage.cpu_percent:3.0f} %"
            f"  descriptors {before} {usage.most_descriptors} {descriptors(pid)} ({back_s:.0f} s)"
            f"  RSS {memory:.1f} {usage.most_mib:.1f} {resident_mib(pid):.1f} MiB"
        )


async def _until_back(pid: int, before: int) -> float:
    began = time.monotonic()
    while descriptors(pid) > before + 2 and time.monotonic() - began < 60:  # noqa: ASYNC110
        await asyncio.sleep(0.2)
    return time.monotonic() - began


if __name__ == "__main__":
    main()
