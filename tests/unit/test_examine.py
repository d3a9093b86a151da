# SPDX-License-Identifier: MulanPSL-2.0
"""What is handed over of an engine that does not work, and that it is waited for no longer."""

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.action.examine import Patient, describe_npus, examine
from agent.errors import Code, Failure
from agent.health.metrics import pick_counters, without_buckets
from agent.model import FaultSeverity, NpuFault, NpuProcess, NpuReadings
from tests.build import build_inventory, build_npu
from tests.growth import cpu_s
from tests.scenario.ports import FakeEvidence, FakeNpuDriver

FAILURE = Failure(Code.ENGINE_HUNG, "cannot keep serving: no token")
PATIENT = Patient("8b", FAILURE, "c" * 64, "vllm:x 1", (1,))


def test_what_the_agent_knows_is_handed_over() -> None:
    evidence, npud = FakeEvidence(), FakeNpuDriver()
    file = asyncio.run(examine(PATIENT, npud, lambda: build_inventory(2), evidence))
    assert file == evidence.file
    ((instance, notes),) = evidence.gathered
    assert (instance, notes.container_id, notes.metrics) == ("8b", "c" * 64, "vllm:x 1")
    assert notes.reason == "engine-hung: cannot keep serving: no token"
    assert "NPU 1" in notes.npus
    assert "NPU 0" not in notes.npus
    assert npud.refreshes == 1


def test_a_driver_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.action.examine.NPUS_DEADLINE_S", 0.05)

    class Hanging(FakeNpuDriver):
        async def refresh(self) -> None:
            await asyncio.Event().wait()

    evidence = FakeEvidence()

    async def whole() -> str | None:
        async with asyncio.timeout(1.0):
            return await examine(PATIENT, Hanging(), lambda: build_inventory(2), evidence)

    assert asyncio.run(whole()) == evidence.file


def test_the_npus_are_told_with_faults_and_processes() -> None:
    fault = NpuFault("80E01801", FaultSeverity.MAJOR, "its words", 1.0)
    npu = build_npu(
        0,
        faults=(fault,),
        processes=(NpuProcess(7, "vllm", 4096),),
        readings=NpuReadings(utilization_percent=0, temperature_c=51),
    )
    gone = replace(build_npu(1), device_present=False, reason="card dropped (-8012)")
    text = describe_npus(build_inventory([npu, gone]), ())
    assert "AI core 0 %, 51 C" in text
    assert "fault 80E01801 major its words" in text
    assert "process 7 vllm 4096 MiB" in text
    assert "(card dropped (-8012)), device node gone" in text


def simple(body: bytes) -> bytes:
    """The same, line by line."""
    names = ((one, one.partition(b"{")[0]) for one in body.split(b"\n"))
    left = [one for one, name in names if b"#" in name or not name.endswith(b"_bucket")]
    return b"\n".join(left)


names = st.sampled_from(["vllm:a", "vllm:a_b", "vllm:a_bucket_total", "x"])
labels = st.sampled_from(['{m="x"}', '{m="_bucket{"}', '{le="1",m="vllm:a_count"}', ""])


def histogram(name: str, edges: list[str], tail: list[str]) -> list[str]:
    lines = [f'{name}_bucket{{m="x",le="{edge}"}} 1.0' for edge in edges]
    return lines + [f'{name}_{end}{{m="x"}} 2.5' for end in tail]


histograms = st.builds(
    histogram,
    names,
    st.lists(st.sampled_from(["0.1", "+Inf", "_bucket{"]), max_size=4),
    st.sampled_from([["count", "sum"], ["sum", "count", "created"]]),
)
plain = st.builds(lambda name, label: [f"{name}{label} 1.0"], names, labels)
comments = st.sampled_from([["# HELP vllm:a_bucket{ y"], ["# TYPE vllm:a histogram"], [""]])


@given(st.lists(histograms | plain | comments, max_size=12), st.sampled_from(["", "\n"]))
def test_no_more_is_left_out_than_buckets(parts: list[list[str]], end: str) -> None:
    body = ("\n".join(line for part in parts for line in part) + end).encode()
    assert without_buckets(body) == simple(body)


ENDLESS = [
    b'vllm:a_bucket{le="1"} 3\n',
    b'vllm:a_bucket{le="1"} 3\nvllm:a_sum 1\n',
    b'vllm:a_bucket{le="1"} 3\nvllm:a_count 1\n',
    b"# HELP vllm:a_bucket{ x\n",
    b'x{m="_bucket{"} 1\n',
    b"_bucket{",
]


@pytest.mark.parametrize("line", ENDLESS)
def test_the_cost_grows_with_the_length_only(line: bytes) -> None:
    """Four times as long: four times the work; what looks to the end for each line has sixteen."""
    short = line * (2**17 // len(line))
    long = short * 4
    assert cpu_s(lambda: without_buckets(long)) < 8 * cpu_s(lambda: without_buckets(short))


@pytest.mark.parametrize("line", ENDLESS)
def test_nothing_else_is_left_out_of_what_is_long(line: bytes) -> None:
    assert without_buckets(line * 500).count(b"\n") == simple(line * 500).count(b"\n")


@pytest.mark.parametrize("body", [b"vllm:a_bucket{", b'vllm:a_bucket{le="1"} 3', b"_bucket{\nx 1"])
def test_a_histogram_without_an_end(body: bytes) -> None:
    assert b"vllm" not in without_buckets(body)


def test_counters_without_histograms() -> None:
    body = (
        b'# HELP x y\nvllm:a_total{m="x"} 1.0\nvllm:t_bucket{le="1"} 3.0\nvllm:t_sum 2.5\n'
        b"python_info 1.0\n"
    )
    assert pick_counters(without_buckets(body)) == 'vllm:a_total{m="x"} 1.0\nvllm:t_sum 2.5'
