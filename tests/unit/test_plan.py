# SPDX-License-Identifier: MulanPSL-2.0
"""Planning: which NPUs are chosen, and what is refused with which code, numbers and hint."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config.values import Profile
from agent.errors import Code, Failure
from agent.model import (
    ContainerFacts,
    DriverState,
    HostFacts,
    Inventory,
    ModelFacts,
    Npu,
    NpuHealth,
)
from agent.plan.npus import choose_npus
from agent.plan.plan import MANAGER_DEVICES, Plan, build_plan, held_by_containers
from tests.build import (
    HEADS,
    IMAGE_ID,
    NPU_MEMORY_MIB,
    build_container,
    build_host,
    build_inventory,
    build_npu,
    build_profile,
    build_survey,
)


def plan(
    profile: Profile | None = None,
    host: HostFacts | None = None,
    inventory: Inventory | None = None,
    model: ModelFacts | None = None,
    containers: tuple[ContainerFacts, ...] = (),
    image_id: str = IMAGE_ID,
    taken: tuple[int, ...] = (),
) -> Plan | Failure:
    profile, host = profile or build_profile(), host or build_host()
    return build_plan(
        profile,
        host,
        build_survey(host, profile, *containers, image_id=image_id),
        model or ModelFacts(profile.model, HEADS),
        inventory or build_inventory(),
        taken,
    )


def chosen(answer: Plan | tuple[Npu, ...] | Failure) -> list[int]:
    assert not isinstance(answer, Failure), answer
    return [npu.logic_id for npu in (answer.npus if isinstance(answer, Plan) else answer)]


def refused(answer: Plan | tuple[Npu, ...] | Failure, code: Code, *words: str) -> None:
    assert isinstance(answer, Failure), answer
    assert answer.code is code
    assert answer.message.startswith("cannot ")
    assert answer.hint
    for word in words:
        assert word in answer.message


# --- auto ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("memory_mib", "heads", "need_gib", "size"),
    [
        (65536, 32, 32, 1),
        (65536, 32, 64, 1),
        (65536, 32, 65, 2),
        (32768, 32, 33, 2),
        (32768, 32, 65, 4),  # 3 would fit, and does not divide 32
        (32768, 28, 65, 4),  # Qwen-7B: 28 heads
        (32768, 12, 65, 3),  # Qwen-1.5B: 12 heads
        (32768, 28, 150, 7),  # 5 and 6 would fit
        (32768, 32, 256, 8),
    ],
)
def test_auto_takes_the_smallest_size_that_fits_and_divides(
    memory_mib: int, heads: int, need_gib: int, size: int
) -> None:
    npus = [build_npu(logic_id, memory_mib=memory_mib) for logic_id in range(8)]
    answer = choose_npus("auto", build_inventory(npus), (), heads, need_gib * 1024)
    assert chosen(answer) == list(range(size))


def test_auto_leaves_out_what_cannot_be_used() -> None:
    npus = [
        build_npu(0, health=NpuHealth.ALARM),
        build_npu(1, health=NpuHealth.CRITICAL),
        build_npu(2, health=NpuHealth.UNKNOWN),
        build_npu(3, device_present=False),
        build_npu(4),
        build_npu(5, health=NpuHealth.WARNING),
        build_npu(6),
    ]
    answer = choose_npus("auto", build_inventory(npus), {4}, 32, 2 * NPU_MEMORY_MIB)
    assert chosen(answer) == [5, 6]


def test_auto_does_not_depend_on_the_order_of_the_inventory() -> None:
    npus = [build_npu(logic_id) for logic_id in (5, 3, 7, 4)]
    assert chosen(choose_npus("auto", build_inventory(npus), (), 32, NPU_MEMORY_MIB)) == [3]


def test_auto_says_what_it_looked_at() -> None:
    npus = [build_npu(0), build_npu(1), build_npu(2, memory_mib=1000)]
    answer = choose_npus("auto", build_inventory(npus), {0}, 32, 100_000)
    refused(answer, Code.NPU_TOO_FEW, "100000 MiB", "32 attention heads", "1: 65536", "2: 1000")
    assert isinstance(answer, Failure)
    assert "0: 65536" not in answer.message


def test_no_free_npu_at_all() -> None:
    refused(choose_npus("auto", build_inventory(2), {0, 1}, 32, 1), Code.NPU_TOO_FEW, "none")


def test_a_driver_that_does_not_tell_the_memory_is_not_trusted() -> None:
    npus = [build_npu(logic_id, memory_mib=0) for logic_id in range(8)]
    refused(choose_npus("auto", build_inventory(npus), (), 32, 1024), Code.NPU_TOO_FEW)


def test_unknown_heads_are_not_divided() -> None:
    """A model whose heads are not known may run on one NPU, and on more only when told to."""
    answer = choose_npus("auto", build_inventory(8), (), 0, 2 * NPU_MEMORY_MIB)
    refused(answer, Code.NPU_TOO_FEW)


# --- a list, and all -----------------------------------------------------------------------------


def test_all_takes_all() -> None:
    assert chosen(plan(build_profile(npus="all"))) == list(range(8))


def test_a_list_is_obeyed() -> None:
    assert chosen(plan(build_profile(npus=(6, 1)))) == [1, 6]


def test_a_list_is_obeyed_although_less_would_do() -> None:
    answer = plan(build_profile(npus=(0, 1, 2, 3)))
    assert isinstance(answer, Plan)
    assert answer.tensor_parallel_size == 4


def test_a_repeated_npu_counts_once() -> None:
    assert chosen(plan(build_profile(npus=(3, 3)))) == [3]


BROKEN = build_inventory(
    [
        build_npu(0),
        build_npu(1, device_present=False),
        build_npu(2, health=NpuHealth.CRITICAL),
        build_npu(3),
    ]
)


@pytest.mark.parametrize(
    ("wanted", "code", "words"),
    [
        ((0, 9), Code.NPU_UNKNOWN, ("NPU 9", "[0, 1, 2, 3]")),
        ((-1,), Code.NPU_UNKNOWN, ("NPU -1",)),
        ((0, 1), Code.NPU_DEVICE_MISSING, ("NPU 1", "/dev/davinci1")),
        ((0, 2), Code.NPU_TOO_FEW, ("NPU 2", "critical")),
        ((3,), Code.NPU_TOO_FEW, ("NPU 3", "something else")),
        ("all", Code.NPU_DEVICE_MISSING, ("NPU 1",)),
        ("most", Code.CONFIG_INVALID, ('"most"',)),
        ((), Code.NPU_TOO_FEW, ("0 NPUs",)),
    ],
)
def test_a_list_that_cannot_be_obeyed(
    wanted: str | tuple[int, ...], code: Code, words: tuple[str, ...]
) -> None:
    refused(choose_npus(wanted, BROKEN, {3}, 32, 1024), code, *words)


def test_a_list_that_does_not_divide_the_heads() -> None:
    answer = plan(build_profile(npus=(0, 1, 2)))
    refused(answer, Code.NPU_TOO_FEW, "3 NPUs", "32 attention heads")


def test_all_of_none() -> None:
    refused(choose_npus("all", build_inventory(0), (), 32, 1), Code.NPU_TOO_FEW)


# --- who holds what ------------------------------------------------------------------------------


def test_other_instances_and_containers_are_respected() -> None:
    others = (
        build_container("somebody", "/dev/davinci1", "/dev/davinci_manager", "/dev/hisi_hdc"),
        build_container("stopped", "/dev/davinci2", running=False),
        build_container("deepseek-vllm-8b", "/dev/davinci3"),
    )
    profile = build_profile(needs={"npu_memory_gib": 128})
    assert chosen(plan(profile, containers=others, taken=(0,))) == [2, 3]


def test_devices_that_are_no_chips_do_not_count() -> None:
    devices = (
        "/dev/davinci_manager",
        "/dev/davinci",
        "/dev/davinci12",
        "/dev/fuse",
        "/dev/davinci7x",
    )
    container = build_container("one", *devices)
    assert held_by_containers([container], except_name="other") == {12}


def test_an_instance_that_is_planned_again_keeps_its_npus() -> None:
    mine = build_container("deepseek-vllm-8b", "/dev/davinci0")
    assert chosen(plan(containers=(mine,))) == [0]


# --- refusals of the host ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inventory", "code", "words"),
    [
        (Inventory(DriverState.ABSENT), Code.DRIVER_ABSENT, ("/dev/davinci",)),
        (Inventory(DriverState.ABSENT, "no npu-smi"), Code.DRIVER_ABSENT, ("no npu-smi",)),
        (Inventory(DriverState.FAILED, "dcmi -8005"), Code.DRIVER_FAILED, ("dcmi -8005",)),
        (Inventory(DriverState.UNKNOWN), Code.NPUD_SILENT, ("no answer",)),
        (
            build_inventory(manager_devices=MANAGER_DEVICES[:2]),
            Code.NPU_DEVICE_MISSING,
            ("/dev/hisi_hdc",),
        ),
    ],
)
def test_without_a_driver_there_is_no_plan(
    inventory: Inventory, code: Code, words: tuple[str, ...]
) -> None:
    refused(plan(inventory=inventory), code, *words)


@pytest.mark.parametrize(
    ("host", "code", "words"),
    [
        (build_host(cpu_cores=31), Code.HOST_TOO_SMALL, ("32 CPU cores", "31")),
        (build_host(ram_mib=29_000), Code.HOST_TOO_SMALL, ("32 GiB", "29000 MiB")),
        (build_host("3.3.9"), Code.PODMAN_UNSUPPORTED, ("3.3.9", "3.4")),
    ],
)
def test_a_host_that_is_too_small(host: HostFacts, code: Code, words: tuple[str, ...]) -> None:
    refused(plan(host=host), code, *words)


@pytest.mark.parametrize(
    "host", [build_host(ram_mib=31_000), build_host("3.4.0"), build_host(cpu_cores=32)]
)
def test_a_host_that_is_just_big_enough(host: HostFacts) -> None:
    assert isinstance(plan(host=host), Plan)


def test_the_image_has_to_be_there() -> None:
    refused(plan(image_id=""), Code.IMAGE_MISSING, build_profile().image)


@pytest.mark.parametrize(("present", "code"), [(False, "model-missing"), (True, "model-invalid")])
def test_the_model_has_to_be_whole(present: bool, code: str) -> None:
    model = ModelFacts("/srv/m", 0, "a shard is missing", present)
    refused(plan(model=model), Code(code), "/srv/m", "a shard")


def test_the_plan_holds_what_it_was_made_of() -> None:
    answer = plan()
    assert isinstance(answer, Plan)
    assert (answer.instance, answer.image_id) == ("8b", IMAGE_ID)
    assert (answer.profile, answer.host) == (build_profile(), build_host())


# --- any host ------------------------------------------------------------------------------------


@st.composite
def chips(draw: st.DrawFn) -> Npu:
    return build_npu(
        draw(st.integers(0, 15)),
        device_present=draw(st.sampled_from([True, True, True, False])),
        health=draw(st.sampled_from([NpuHealth.OK, *NpuHealth])),
        memory_mib=draw(st.sampled_from([0, 16384, 32768, 65536])),
    )


inventories = st.lists(chips(), max_size=16, unique_by=lambda npu: npu.logic_id).map(
    build_inventory
)
taken_npus = st.frozensets(st.integers(0, 15), max_size=8)
wishes = st.sampled_from(["auto", "all"]) | st.lists(st.integers(0, 15), max_size=8)
heads_counts = st.sampled_from([1, 12, 28, 32, 40, 64])
needs_mib = st.integers(1, 600_000)


@given(wishes, inventories, taken_npus, heads_counts, needs_mib)
@settings(deadline=None, max_examples=500)
def test_what_is_chosen_can_be_used(
    wanted: str | list[int], inventory: Inventory, taken: frozenset[int], heads: int, need: int
) -> None:
    answer = choose_npus(wanted, inventory, taken, heads, need)
    assert answer == choose_npus(wanted, inventory, taken, heads, need)
    if isinstance(answer, Failure):
        assert answer.hint
        return
    ids = [npu.logic_id for npu in answer]
    assert ids == sorted(set(ids))
    assert ids
    assert set(ids).isdisjoint(taken)
    assert all(npu in inventory.npus and npu.device_present for npu in answer)
    assert all(npu.health in (NpuHealth.OK, NpuHealth.WARNING) for npu in answer)
    assert heads % len(ids) == 0
    match wanted:
        case "auto":
            assert sum(npu.memory_mib for npu in answer) >= need
        case "all":
            assert set(ids) == {npu.logic_id for npu in inventory.npus}
        case _:
            assert set(ids) == set(wanted)


@given(inventories, taken_npus, heads_counts, needs_mib)
@settings(deadline=None, max_examples=500)
def test_auto_refuses_only_when_equal_npus_do_not_suffice(
    inventory: Inventory, taken: frozenset[int], heads: int, need: int
) -> None:
    """With chips of one kind, as in every server: no smaller size would do, and none is refused."""
    same = [replace(npu, memory_mib=32768) for npu in inventory.npus]
    answer = choose_npus("auto", build_inventory(same), taken, heads, need)
    usable = (NpuHealth.OK, NpuHealth.WARNING)
    free = [
        npu
        for npu in same
        if npu.device_present and npu.health in usable and npu.logic_id not in taken
    ]
    fitting = [
        size for size in range(1, len(free) + 1) if heads % size == 0 and size * 32768 >= need
    ]
    assert (0 if isinstance(answer, Failure) else len(answer)) == min(fitting, default=0)
