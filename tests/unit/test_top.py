# SPDX-License-Identifier: MulanPSL-2.0
"""The page of `deepseekctl top`, and how fast an engine is by what it has counted."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from agent.model import DriverState, EngineWork, Inventory, NpuReadings, Phase
from agent.status.page import Look
from agent.status.snapshot import InstanceView, Snapshot, npus_answer
from agent.status.top import WINDOW_S, Pace, Paces, show_top
from tests.build import build_inventory, build_npu, build_snapshot, build_view

NOW = 1_700_000_090.0
WORK = EngineWork(3, 1, 1000, 2000, kv_cache_ratio=0.456, first_tokens=10, first_token_wait_s=5.0)
LATER = replace(
    WORK, prompt_tokens=1400, generation_tokens=2100, first_tokens=14, first_token_wait_s=6.0
)
COUNTS = st.integers(0, 10**9)


def seen(work: EngineWork | None, at: float, **changes: object) -> Snapshot:
    view: InstanceView = build_view(**changes)  # type: ignore[arg-type]
    return replace(build_snapshot(replace(view, work=work)), at=at)


def paces(*snapshots: Snapshot) -> Paces:
    found = Paces()
    for one in snapshots:
        found.take(one)
    return found


def test_two_looks_tell_how_fast_it_is() -> None:
    found = paces(seen(WORK, NOW), seen(LATER, NOW + 4)).of("8b")
    assert found == Pace(generated_per_s=25.0, read_per_s=100.0, first_token_s=0.25)


def test_one_look_tells_nothing_nor_does_the_same_one_again() -> None:
    assert paces(seen(WORK, NOW)).of("8b") is None
    assert paces(seen(WORK, NOW), seen(WORK, NOW)).of("8b") is None
    assert paces(seen(None, NOW), seen(WORK, NOW + 2)).of("8b") is None


def test_without_a_new_answer_there_is_no_wait_for_one() -> None:
    idle = paces(seen(WORK, NOW), seen(WORK, NOW + 2)).of("8b")
    assert idle == Pace(0.0, 0.0, None)
    silent = replace(WORK, first_tokens=None, first_token_wait_s=None)
    found = paces(seen(silent, NOW), seen(silent, NOW + 2)).of("8b")
    assert found == Pace(0.0, 0.0, None)


def test_another_engine_begins_anew() -> None:
    fresh = replace(WORK, generation_tokens=5)
    assert paces(seen(WORK, NOW), seen(fresh, NOW + 2)).of("8b") is None
    moved = replace(LATER, first_tokens=1)
    assert paces(seen(WORK, NOW), seen(moved, NOW + 2)).of("8b") is None
    other = seen(LATER, NOW + 2)
    (view,) = other.instances
    restarted = replace(other, instances=(replace(view, since=NOW + 1),))
    assert paces(seen(WORK, NOW), restarted).of("8b") is None


def test_a_clock_that_was_set_back_begins_anew() -> None:
    assert paces(seen(WORK, NOW), seen(LATER, NOW - 60)).of("8b") is None


def test_only_the_last_moments_count() -> None:
    looks = [
        seen(replace(WORK, generation_tokens=2000 + made), NOW + at)
        for at, made in ((0, 0), (2, 9000), (4, 9000), (8, 9000), (14, 9010), (16, 9020))
    ]
    found = paces(*looks).of("8b")
    assert found is not None
    assert found.generated_per_s == 20 / 12  # from NOW + 4: the latest that is WINDOW_S before
    assert WINDOW_S == 10.0


@given(st.lists(st.tuples(COUNTS, COUNTS, st.floats(0, 5)), min_size=1, max_size=30))
def test_no_pace_is_below_nothing(looks: list[tuple[int, int, float]]) -> None:
    found, at = Paces(), NOW
    for read, made, later in looks:
        at += later
        found.take(seen(replace(WORK, prompt_tokens=read, generation_tokens=made), at))
        pace = found.of("8b")
        assert pace is None or min(pace.generated_per_s, pace.read_per_s) >= 0


def page(snapshot: Snapshot, found: Paces, look: Look | None = None) -> list[str]:
    return show_top(snapshot, npus_answer(snapshot), found, look or Look()).splitlines()


def test_the_page() -> None:
    readings = NpuReadings(temperature_c=52, power_w=310.5, utilization_percent=64)
    npus = [build_npu(0, readings=readings), build_npu(1, device_present=False)]
    first = seen(WORK, NOW)
    snapshot = replace(build_snapshot(inventory=build_inventory(npus)), at=NOW + 4)
    snapshot = replace(snapshot, instances=seen(LATER, NOW + 4).instances)
    lines = page(snapshot, paces(first, snapshot))
    assert lines[1] == "serving, but: 1 NPU gone"
    assert [" ".join(line.split()) for line in (lines[3], lines[4], lines[6])] == [
        "model state out tok/s in tok/s running waiting KV cache first token",
        "8b serving 25.0 100.0 3 1 46 % 250 ms",
        "NPU AI core memory temp power health used by",
    ]
    assert " ".join(lines[7].split()).startswith("0 ######.... 64 % ")
    assert " ".join(lines[7].split()).endswith("2.9/64 GiB 52 °C 310.5 W ok free")
    assert " ".join(lines[8].split()).startswith("1 - - ")
    assert "gone" in lines[8]
    assert max(map(len, lines)) <= 80


def test_what_is_not_known_is_not_zero() -> None:
    snapshot = seen(None, NOW, phase=Phase.LOADING)
    lines = page(snapshot, paces(snapshot))
    assert lines[4].split() == ["8b", "loading", "-", "-", "-", "-", "-", "-"]


def test_no_model_and_no_driver() -> None:
    snapshot = build_snapshot(inventory=Inventory(DriverState.ABSENT))
    lines = page(snapshot, paces(snapshot))
    assert lines[-1] == "NPU driver: absent"
    assert not [line for line in lines if "tok/s" in line]


def test_color_says_who_is_well() -> None:
    snapshot = seen(WORK, NOW)
    assert page(snapshot, paces(snapshot), Look(80, color=True))[4].startswith("\033[32m8b\033[0m ")
