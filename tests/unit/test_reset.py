# SPDX-License-Identifier: MulanPSL-2.0
"""Before NPUs are reset it is proved that nothing uses them: by claims, Podman and /proc."""

import asyncio
from dataclasses import dataclass, field

from agent.action.reset import reset_npus
from agent.errors import Code, HostUnavailable
from agent.facts import PayloadFacts
from agent.model import ResetOutcome
from agent.ports import ResetOrder, ResetReport
from tests.build import build_container
from tests.scenario.ports import FakeNpuDriver, FakePayloads, FakePodman

ORDER = ResetOrder(2, (2, 3), ("80FA4E00",))
DONE = ResetReport(ResetOutcome.OK, "boot status 16")


@dataclass
class Bench:
    """One reset of the NPUs 2 and 3, and all that may be in its way."""

    podman: FakePodman = field(default_factory=FakePodman)
    payloads: FakePayloads = field(default_factory=FakePayloads)
    npud: FakeNpuDriver = field(default_factory=lambda: FakeNpuDriver(on_reset=lambda order: DONE))
    taken: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def contain(self, name: str, *npus: int, running: bool = True) -> str:
        devices = (f"/dev/davinci{npu}" for npu in npus)
        container = build_container(name, *devices, running=running)
        self.podman.containers[name] = container
        return container.container_id

    def reset(self) -> ResetReport:
        async def once() -> ResetReport:
            lock = asyncio.Lock()
            return await reset_npus(
                ORDER, lambda: self.taken, lock, self.podman, self.payloads, self.npud
            )

        return asyncio.run(once())

    def refuses(self, why: str, others: frozenset[int] = frozenset()) -> None:
        report = self.reset()
        assert report.outcome is ResetOutcome.BUSY
        assert why in report.detail
        assert report.others == others
        assert self.npud.resets == []


def test_what_nothing_uses_is_reset() -> None:
    bench = Bench(taken={"8b": (0, 1)})
    bench.contain("deepseek-vllm-8b", 0, 1)
    bench.contain("train", 2, running=False)
    assert bench.reset() == DONE
    assert bench.npud.resets == [ORDER]


def test_an_instance_has_one_of_the_ring() -> None:
    Bench(taken={"8b": (3,)}).refuses("deepseek@8b has NPU 3")


def test_a_foreign_container_has_one_of_the_ring() -> None:
    bench = Bench()
    bench.contain("train", 3, 4)
    bench.refuses("container train has NPU 3", frozenset({3}))


def test_an_engine_of_ours_that_is_on_its_way_down() -> None:
    """It may be gone in a moment, so it is asked again soon."""
    bench = Bench()
    bench.contain("deepseek-vllm-8b", 2)
    bench.refuses("container deepseek-vllm-8b has NPU 2")


def test_a_container_that_has_ended_for_podman_alone() -> None:
    bench = Bench()
    container = bench.contain("deepseek-vllm-8b", 2, running=False)
    bench.payloads.running.append(PayloadFacts(4711, 1, container))
    bench.refuses("container deepseek-vllm-8b has NPU 2")


def test_a_process_that_has_lost_its_container() -> None:
    bench = Bench()
    bench.payloads.running.append(PayloadFacts(4711, 1, "f" * 64))
    bench.refuses("process 4711 of an engine that has lost its container may use it")


def test_while_podman_does_not_answer_nothing_is_known() -> None:
    bench = Bench()
    bench.podman.broken = HostUnavailable(Code.PODMAN_SILENT, "cannot ask Podman: silence")
    bench.refuses("it cannot be told what uses the NPU: cannot ask Podman: silence")


def test_a_plan_under_way_is_waited_for() -> None:
    """It may take one of them: what it claims is seen."""
    bench = Bench()

    async def race() -> ResetReport:
        lock = asyncio.Lock()
        await lock.acquire()
        reset = asyncio.create_task(
            reset_npus(ORDER, lambda: bench.taken, lock, bench.podman, bench.payloads, bench.npud)
        )
        await asyncio.sleep(0.01)
        assert bench.podman.surveys == 0
        bench.taken["8b"] = (2,)
        lock.release()
        return await reset

    assert asyncio.run(race()).detail == "deepseek@8b has NPU 2"
