# SPDX-License-Identifier: MulanPSL-2.0
"""Planning: which NPUs are chosen, and what is refused with which code, numbers and hint."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config.values import Profile
from agent.errors import Code, Failure, Remedy
from agent.facts import (
    ContainerFacts,
    FileFacts,
    HostFacts,
    ImageFacts,
    Listener,
    ModelFacts,
    Neighbor,
    ProcessFacts,
)
from agent.model import (
    DriverState,
    Inventory,
    Npu,
    NpuHealth,
    NpuProcess,
    ProductLine,
    Unfit,
    product_line,
)
from agent.plan.demand import Choice, Demand
from agent.plan.holders import Holder, find_holders, npus_of
from agent.plan.needs import MANAGER_DEVICES
from agent.plan.npus import choose_npus
from agent.plan.plan import Plan, build_plan
from tests.build import (
    IMAGE_ID,
    NPU_MEMORY_MIB,
    build_container,
    build_facts,
    build_host,
    build_inventory,
    build_npu,
    build_profile,
)


def plan(
    profile: Profile | None = None,
    host: HostFacts | None = None,
    inventory: Inventory | None = None,
    model: ModelFacts | None = None,
    **changes: Any,
) -> Plan | Failure:
    """`changes` are those of build_facts."""
    profile = profile or build_profile()
    if model is not None:
        changes["models"] = (replace(model, directory=profile.model),)
    return build_plan(profile, build_facts(profile, host, inventory, **changes))


def choose(
    wanted: str | Sequence[int],
    inventory: Inventory,
    taken: Collection[int],
    heads: int,
    need_mib: int,
    *,
    kv_heads: int = 0,
    products: tuple[ProductLine, ...] = (ProductLine.A2, ProductLine.A3),
    unfit: Sequence[Unfit] = (),
    suspect: str = "",
) -> Choice | Failure:
    wanted = wanted if isinstance(wanted, str) else tuple(wanted)
    demand = Demand(wanted, products, heads, kv_heads, need_mib)
    holders = {npu: Holder("something else") for npu in taken}
    lost = {one.logic_id: one for one in unfit}
    return choose_npus(demand, inventory, holders, lost, suspect)


def chosen(answer: Plan | Choice | Failure) -> list[int]:
    assert not isinstance(answer, Failure), answer
    return [npu.logic_id for npu in answer.npus]


def refused(answer: Plan | Choice | Failure, code: Code, *words: str) -> None:
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
        (32768, 12, 65, 3),
        (32768, 28, 150, 7),  # 5 and 6 would fit
        (32768, 32, 256, 8),
    ],
)
def test_auto_takes_the_smallest_size_that_fits_and_divides(
    memory_mib: int, heads: int, need_gib: int, size: int
) -> None:
    npus = [build_npu(logic_id, memory_mib=memory_mib) for logic_id in range(8)]
    answer = choose("auto", build_inventory(npus), (), heads, need_gib * 1024)
    assert chosen(answer) == list(range(size))


@pytest.mark.parametrize(
    ("heads", "kv_heads", "need_gib", "size"),
    [
        (12, 2, 65, 4),  # Qwen-1.5B: 3 divides 12, and neither divides 2 nor is divided by it
        (28, 4, 129, 0),  # Qwen-7B: 7 divides 28, and not 4; 8 divides 4 the other way, and not 28
        (28, 4, 128, 4),
        (32, 8, 65, 4),
        (16, 2, 129, 8),  # each key-value head is repeated on four chips
    ],
)
def test_key_value_heads_are_divided_too(
    heads: int, kv_heads: int, need_gib: int, size: int
) -> None:
    """As vLLM asserts it when it builds the model; with a wrong size the engine never starts."""
    npus = [build_npu(logic_id, memory_mib=32768) for logic_id in range(8)]
    answer = choose("auto", build_inventory(npus), (), heads, need_gib * 1024, kv_heads=kv_heads)
    assert (0 if isinstance(answer, Failure) else len(answer.npus)) == size


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
    answer = choose("auto", build_inventory(npus), {4}, 32, 2 * NPU_MEMORY_MIB)
    assert chosen(answer) == [5, 6]


def test_auto_does_not_depend_on_the_order_of_the_inventory() -> None:
    npus = [build_npu(logic_id) for logic_id in (5, 3, 7, 4)]
    assert chosen(choose("auto", build_inventory(npus), (), 32, NPU_MEMORY_MIB)) == [3]


def test_auto_says_what_it_looked_at() -> None:
    npus = [build_npu(0), build_npu(1), build_npu(2, memory_mib=1000)]
    answer = choose("auto", build_inventory(npus), {0}, 32, 100_000)
    refused(answer, Code.NPU_TOO_FEW, "100000 MiB", "32 attention heads", "1: free, 65536")
    assert isinstance(answer, Failure)
    assert "0: something else holds it; 1: " in answer.message


def test_no_free_npu_at_all() -> None:
    answer = choose("auto", build_inventory(2), {0, 1}, 32, 1)
    refused(answer, Code.NPU_TOO_FEW, "0: something else holds it; 1: something else holds it")
    refused(choose("auto", build_inventory(0), (), 32, 1), Code.NPU_TOO_FEW, "there are: none")


def test_a_driver_that_does_not_tell_the_memory_is_not_trusted() -> None:
    npus = [build_npu(logic_id, memory_mib=0) for logic_id in range(8)]
    refused(choose("auto", build_inventory(npus), (), 32, 1024), Code.NPU_TOO_FEW)


def test_unknown_heads_are_not_divided() -> None:
    """A model whose heads are not known may run on one NPU, and on more only when told to."""
    answer = choose("auto", build_inventory(8), (), 0, 2 * NPU_MEMORY_MIB)
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
    refused(choose(wanted, BROKEN, {3}, 32, 1024), code, *words)


def test_a_list_that_does_not_divide_the_heads() -> None:
    answer = plan(build_profile(npus=(0, 1, 2)))
    refused(answer, Code.NPU_TOO_FEW, "3 NPUs", "32 attention heads")


def test_all_of_none() -> None:
    refused(choose("all", build_inventory(0), (), 32, 1), Code.NPU_TOO_FEW)


# --- who holds what ------------------------------------------------------------------------------


def test_other_instances_and_containers_are_respected() -> None:
    others = (
        build_container("somebody", "/dev/davinci1", "/dev/davinci_manager", "/dev/hisi_hdc"),
        build_container("stopped", "/dev/davinci2", running=False),
        build_container("deepseek-vllm-8b", "/dev/davinci3"),
    )
    profile = build_profile(needs={"npu_memory_gib": 128})
    assert chosen(plan(profile, containers=others, neighbors=(neighbor(0),))) == [2, 3]


def test_devices_that_are_no_chips_do_not_count() -> None:
    devices = (
        "/dev/davinci_manager",
        "/dev/davinci",
        "/dev/davinci12",
        "/dev/fuse",
        "/dev/davinci7x",
    )
    assert npus_of(build_container("one", *devices)) == (12,)


def test_an_instance_that_is_planned_again_keeps_its_npus() -> None:
    mine = build_container("deepseek-vllm-8b", "/dev/davinci0")
    assert chosen(plan(containers=(mine,))) == [0]


def neighbor(*npus: int, **changes: Any) -> Neighbor:
    return replace(Neighbor("7b", npus, "127.0.0.1", 2024), **changes)


X_ID = build_container("x").container_id
OWN_ID = build_container("deepseek-vllm-8b").container_id
IN_X = "0::/machine.slice/libpod-" + X_ID
OURS = "0::/deepseek.slice/deepseek-vllm-7b.service/libpod-payload-" + "d" * 64


@pytest.mark.parametrize(
    ("cgroup", "containers", "who", "code"),
    [
        ("0::/user.slice/session-1.scope", (), "process 4711 (python)", Code.NPU_BUSY),
        (
            "0::/machine.slice/libpod-" + X_ID,
            (build_container("x"),),
            "container x",
            Code.NPU_TOO_FEW,
        ),
        (OURS, (), "process 4711 (python) of an engine that is being stopped", Code.NPU_LEFTOVER),
    ],
)
def test_a_process_that_holds_memory_holds_the_npu(
    cgroup: str, containers: tuple[ContainerFacts, ...], who: str, code: Code
) -> None:
    """Also in a privileged container, which has no list of devices."""
    busy = build_npu(0, processes=(NpuProcess(4711, "python", 30_000),))
    facts = build_facts(
        inventory=build_inventory([busy, build_npu(1)]),
        processes=(ProcessFacts(4711, cgroup),),
        containers=containers,
    )
    (holder,) = find_holders("8b", facts).values()
    assert holder.who.startswith(who)
    assert holder.code is code
    assert chosen(build_plan(build_profile(), facts)) == [1]
    refused(build_plan(build_profile(npus=(0,)), facts), code, "NPU 0", "process 4711")
    only = replace(facts, inventory=build_inventory([busy]))
    refused(build_plan(build_profile(), only), code, "0: ", "process 4711")


@pytest.mark.parametrize(
    ("processes", "containers"),
    [
        ((), ()),  # it ended since the driver told of it
        (
            (ProcessFacts(4711, f"0::/deepseek.slice/libpod-{OWN_ID}.scope"),),
            (build_container("deepseek-vllm-8b", "/dev/davinci0"),),
        ),
    ],
)
def test_its_own_engine_and_the_dead_hold_nothing(
    processes: tuple[ProcessFacts, ...], containers: tuple[ContainerFacts, ...]
) -> None:
    npu = build_npu(0, processes=(NpuProcess(4711, "VLLMEngineCore", 30_000),))
    answer = plan(inventory=build_inventory([npu]), processes=processes, containers=containers)
    assert chosen(answer) == [0]


LEFT = {"memory_used_mib": 20 * 1024, "processes_told": True}


def test_memory_that_no_process_holds_holds_the_npu() -> None:
    facts = build_facts(inventory=build_inventory([build_npu(0, **LEFT), build_npu(1)]))
    who = "memory that no process is known to hold (20 of 64 GiB)"
    assert find_holders("8b", facts) == {0: Holder(who, Code.NPU_LEFTOVER, "is in use")}
    assert chosen(build_plan(build_profile(), facts)) == [1]
    refused(build_plan(build_profile(npus=(0,)), facts), Code.NPU_LEFTOVER, f"NPU 0: {who} is in")
    only = replace(facts, inventory=build_inventory([build_npu(0, **LEFT)]))
    refused(build_plan(build_profile(), only), Code.NPU_LEFTOVER, f"0: {who}")


@pytest.mark.parametrize(
    "changes",
    [
        {"memory_used_mib": 19 * 1024},
        {"processes_told": False},  # nobody knows who has it; the engine will say
        {"memory_mib": 0},
    ],
)
def test_what_is_not_known_to_be_left_holds_nothing(changes: dict[str, Any]) -> None:
    npu = build_npu(0, **{**LEFT, **changes})
    assert find_holders("8b", build_facts(inventory=build_inventory([npu]))) == {}


@pytest.mark.parametrize("memory_used_mib", [20 * 1024, 3445])
def test_the_memory_of_a_process_that_ended(memory_used_mib: int) -> None:
    """A zombie, or one that is gone: the driver lists it, and holds its memory or has given it
    back."""
    process = NpuProcess(4711, "VLLMEngineCore", 17_000)
    changes = {**LEFT, "memory_used_mib": memory_used_mib}
    npu = build_npu(0, processes=(process,), **changes)
    found = find_holders("8b", build_facts(inventory=build_inventory([npu])))
    words = "memory of process 4711 (VLLMEngineCore) that ended and did not give it back"
    wanted = {0: Holder(f"{words} (20 of 64 GiB)", Code.NPU_LEFTOVER, "is in use")}
    assert found == (wanted if memory_used_mib > 3445 else {})


def test_whoever_is_known_to_have_it_is_named_first() -> None:
    npus = [build_npu(one, **LEFT) for one in range(4)]
    busy = replace(npus[2], processes=(NpuProcess(4711, "python", 17_000), NpuProcess(4712, "", 1)))
    facts = build_facts(
        inventory=build_inventory([*npus[:2], busy, npus[3]]),
        processes=(ProcessFacts(4711, "0::/user.slice"),),
        containers=(build_container("x", "/dev/davinci1"),),
        neighbors=(neighbor(0),),
    )
    found = find_holders("8b", facts)
    assert [found[one].why for one in range(3)] == [
        "deepseek@7b holds it",
        "container x holds it",
        "process 4711 (python) holds it",
    ]
    assert found[3].code is Code.NPU_LEFTOVER


def test_an_npu_of_its_own_container_is_its_own() -> None:
    """Not every driver lists the processes of containers; and without Podman's word nobody knows
    whose it is."""
    own = build_container("deepseek-vllm-8b", "/dev/davinci0")
    inventory = build_inventory([build_npu(0, **LEFT)])
    assert find_holders("8b", build_facts(inventory=inventory, containers=(own,))) == {}
    gone = replace(own, running=False)
    assert find_holders("8b", build_facts(inventory=inventory, containers=(gone,))) != {}
    assert find_holders("8b", build_facts(inventory=inventory, podman_seen=False)) == {}


def test_without_podmans_word_a_process_of_ours_is_not_judged() -> None:
    npu = build_npu(0, processes=(NpuProcess(4711, "VLLMEngineCore", 30_000),))
    answer = plan(
        inventory=build_inventory([npu]),
        processes=(ProcessFacts(4711, OURS),),
        podman_seen=False,
    )
    assert chosen(answer) == [0]


# --- products ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("product", "line"),
    [
        ("910B1", "a2"),
        ("910B3", "a2"),
        ("910B4-1", "a2"),
        ("910B2C", "a2"),
        ("Ascend 910B3", "a2"),
        ("Ascend910", "a3"),
        ("910_9391", "a3"),
        ("310P3", "duo"),
        ("910A", "unknown"),
        ("910B", "unknown"),
        ("910ProB", "unknown"),
        ("310B4", "unknown"),
        ("Ascend950PR", "unknown"),
        ("", "unknown"),
    ],
)
def test_the_line_of_a_product(product: str, line: str) -> None:
    assert product_line(product) == line


def dies(*logic_ids: int, product: str = "Ascend910", **changes: Any) -> list[Npu]:
    """Two to a card."""
    return [
        build_npu(one, card_id=one // 2, chip_id=one % 2, product=product, **changes)
        for one in logic_ids
    ]


def test_the_dies_of_a3_go_in_pairs() -> None:
    answer = plan(inventory=build_inventory(dies(*range(16))))
    assert chosen(answer) == [0, 1]
    assert isinstance(answer, Plan)
    assert answer.tensor_parallel_size == 2


def test_a_module_with_one_die_gone_is_not_used() -> None:
    npus = [*dies(0), *dies(1, health=NpuHealth.CRITICAL), *dies(2, 3, 4, 5)]
    assert chosen(plan(inventory=build_inventory(npus))) == [2, 3]
    held = build_container("x", "/dev/davinci3")
    assert chosen(plan(inventory=build_inventory(npus), containers=(held,))) == [4, 5]


def test_halves_of_modules_do_not_make_a_pair() -> None:
    """With one die of every module ill no two of the others may serve; and that is said."""
    npus = [*dies(0, 2), *dies(1, 3, health=NpuHealth.CRITICAL)]
    answer = plan(inventory=build_inventory(npus))
    refused(answer, Code.NPU_TOO_FEW, "0: the other die of its module is not free", "1: its health")


def test_a_list_on_a3_names_whole_modules() -> None:
    inventory = build_inventory(dies(*range(4)))
    answer = plan(build_profile(npus=(1, 2)), inventory=inventory)
    refused(answer, Code.NPU_TOO_FEW, "NPU 1", "[0, 1]", "module")
    assert chosen(plan(build_profile(npus=(2, 3)), inventory=inventory)) == [2, 3]


DUO = build_profile(products=(ProductLine.DUO,), needs={"npu_memory_gib": 32})


@pytest.mark.parametrize(
    ("there", "need_gib", "ids"),
    [
        (range(8), 32, [0]),
        ((1, 2, 3), 32, [1]),  # the card that is broken into already
        ((0, 1, 3), 32, [3]),  # also when it is not the first
        ((1, 2, 3), 80, [2, 3]),  # two chips of one card
        ((0, 2, 4, 5), 80, [4, 5]),
        ((0, 2), 80, [0, 2]),
        ((1, 2, 3, 4, 5), 160, [2, 3, 4, 5]),
    ],
)
def test_chips_of_a_duo_are_taken_card_by_card(
    there: Sequence[int], need_gib: int, ids: list[int]
) -> None:
    inventory = build_inventory(dies(*there, product="310P3", memory_mib=44278))
    profile = replace(DUO, needs=replace(DUO.needs, npu_memory_gib=need_gib))
    assert chosen(plan(profile, inventory=inventory)) == ids


def test_each_line_has_its_image_and_its_mounts() -> None:
    network = "/usr/local/Ascend/driver/tools/hccn_tool"
    for profile, product, line in (
        (build_profile(), "910B3", ProductLine.A2),
        (build_profile(), "Ascend910", ProductLine.A3),
        (DUO, "310P3", ProductLine.DUO),
    ):
        inventory = build_inventory(dies(0, 1, product=product))
        images = tuple(
            ImageFacts(profile.images.of(one), str(one))
            for one in (ProductLine.A2, ProductLine.A3, ProductLine.DUO)
        )
        facts = build_facts(profile, inventory=inventory)
        facts = replace(facts, podman=replace(facts.podman, images=images))
        answer = build_plan(profile, facts)
        assert isinstance(answer, Plan)
        assert (answer.line, answer.image) == (line, str(line))
        assert (network in answer.driver_paths) is (line is not ProductLine.DUO)


@pytest.mark.parametrize("product", ["310P3", "910A", "Ascend950PR"])
@pytest.mark.parametrize("wanted", ["auto", (0,)])
def test_a_model_is_not_put_on_npus_that_it_is_not_for(
    product: str, wanted: str | tuple[int, ...]
) -> None:
    """Said before an image is asked for that would not help."""
    inventory = build_inventory([build_npu(0, product=product)])
    answer = plan(build_profile(npus=wanted), inventory=inventory, image_id="")
    refused(answer, Code.NPU_UNSUPPORTED, product, "a2, a3")


def test_npus_of_two_lines_are_not_mixed() -> None:
    npus = [build_npu(0, memory_mib=32768), *dies(2, 3, memory_mib=32768)]
    profile = build_profile(needs={"npu_memory_gib": 64})
    assert chosen(plan(profile, inventory=build_inventory(npus))) == [2, 3]
    refused(
        plan(
            build_profile(needs={"npu_memory_gib": 65}),
            inventory=build_inventory(npus),
        ),
        Code.NPU_TOO_FEW,
    )


# --- ports and files -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listen", "address", "clash"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "0.0.0.0", True),  # noqa: S104
        ("127.0.0.1", "::", True),
        ("0.0.0.0", "127.0.0.1", True),  # noqa: S104
        ("::1", "::", True),
        ("127.0.0.1", "10.0.0.1", False),
        ("127.0.0.1", "::1", False),
        ("::1", "0.0.0.0", False),  # noqa: S104
    ],
)
def test_a_port_that_somebody_else_has(listen: str, address: str, clash: bool) -> None:
    profile = build_profile(listen=listen)
    for answer, who in (
        (plan(profile, listeners=(Listener(address, 2023),)), f"listens on {address}"),
        (
            plan(profile, neighbors=(neighbor(7, listen=address, port=2023),)),
            "deepseek@7b has it",
        ),
    ):
        code = Code.PORT_TAKEN if "deepseek@" in who else Code.PORT_IN_USE
        if clash:
            refused(answer, code, "port 2023", who)
        else:
            assert isinstance(answer, Plan)


def test_other_ports_and_the_instances_own_do_not_matter() -> None:
    listening = (Listener("127.0.0.1", 2023),)
    assert isinstance(plan(listeners=(Listener("127.0.0.1", 2024),)), Plan)
    mine = build_container("deepseek-vllm-8b", "/dev/davinci0")
    assert isinstance(plan(listeners=listening, containers=(mine,)), Plan)
    stopped = replace(mine, running=False)
    refused(plan(listeners=listening, containers=(stopped,)), Code.PORT_IN_USE)
    me = neighbor(0, name="8b", port=2023)
    assert isinstance(plan(neighbors=(me,)), Plan)


@pytest.mark.parametrize("key", ["api_key_file", "tls_certificate", "tls_key"])
def test_a_file_that_cannot_be_used(key: str) -> None:
    profile = build_profile(**{key: "/etc/x"})
    assert isinstance(plan(profile), Plan)
    answer = plan(profile, files=(FileFacts("/etc/x", "others can read it"),))
    refused(answer, Code.FILE_UNUSABLE, key, "/etc/x", "others can read it")


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


@pytest.mark.parametrize(
    ("present", "image_id", "disk_mib", "refusal"),
    [
        (False, IMAGE_ID, 50_000, True),
        (True, "", 50_000, False),  # images are elsewhere
        (True, IMAGE_ID, 50_000, False),  # all is there: it fits
        (False, IMAGE_ID, 60_000, False),
        (False, IMAGE_ID, 0, False),  # nobody knows
    ],
)
def test_a_disk_that_cannot_hold_what_is_missing(
    present: bool, image_id: str, disk_mib: int, refusal: bool
) -> None:
    problem = "" if present else "there is no such directory"
    model = ModelFacts("", 32, problem, present, disk_mib=disk_mib)
    answer = plan(model=model, image_id=image_id)
    if refusal:
        refused(answer, Code.HOST_TOO_SMALL, "60 GiB of disk", "50000 MiB")
    else:
        assert isinstance(answer, Plan) or answer.code is not Code.HOST_TOO_SMALL


def test_facts_that_do_not_tell_about_the_model() -> None:
    refused(plan(models=()), Code.MODEL_MISSING, build_profile().model)


def test_an_image_that_nobody_could_ask_for_is_named() -> None:
    answer = plan(image_id="", podman_seen=False)
    assert isinstance(answer, Plan)
    assert answer.image == build_profile().images.a2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"memory_mib": 0}, "0: the driver does not tell its memory"),
        ({"product": ""}, "0: the model is not for a chip that the driver does not name"),
        ({"product": "310P3"}, "0: the model is not for 310P3"),
        ({"health": NpuHealth.ALARM}, "0: its health is alarm"),
        ({"device_present": False}, "0: /dev/davinci0 does not exist"),
        ({"memory_mib": 1000}, "0: free, 1000 MiB"),
    ],
)
def test_auto_says_of_each_chip_why_not(changes: dict[str, Any], words: str) -> None:
    npus = [build_npu(0, **changes), build_npu(1, memory_mib=2000)]
    refused(plan(inventory=build_inventory(npus)), Code.NPU_TOO_FEW, words, "8 key-value heads")


def test_a_list_with_too_little_memory() -> None:
    profile = build_profile(npus=(0,), needs={"npu_memory_gib": 65})
    refused(plan(profile), Code.NPU_TOO_FEW, "[0]", "66560 MiB", "65536")
    untold = build_inventory([build_npu(0, memory_mib=0)])
    assert chosen(plan(profile, inventory=untold)) == [0]


def test_the_image_has_to_be_there() -> None:
    refused(plan(image_id=""), Code.IMAGE_MISSING, build_profile().images.a2)


@pytest.mark.parametrize(("present", "code"), [(False, "model-missing"), (True, "model-invalid")])
def test_the_model_has_to_be_whole(present: bool, code: str) -> None:
    model = ModelFacts("/srv/m", 0, "a shard is missing", present)
    refused(plan(model=model), Code(code), build_profile().model, "a shard")


def test_the_plan_holds_what_it_was_made_of() -> None:
    answer = plan()
    assert isinstance(answer, Plan)
    assert (answer.instance, answer.image) == ("8b", IMAGE_ID)
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
# Attention and key-value heads: of the distills' own shapes, and of models without sharing.
heads_counts = st.sampled_from([(1, 1), (12, 2), (28, 4), (32, 8), (40, 8), (64, 64)])
needs_mib = st.integers(1, 600_000)


@given(wishes, inventories, taken_npus, heads_counts, needs_mib)
@settings(deadline=None, max_examples=500)
def test_what_is_chosen_can_be_used(
    wanted: str | list[int],
    inventory: Inventory,
    taken: frozenset[int],
    heads: tuple[int, int],
    need: int,
) -> None:
    count, kv_heads = heads
    answer = choose(wanted, inventory, taken, count, need, kv_heads=kv_heads)
    assert answer == choose(wanted, inventory, taken, count, need, kv_heads=kv_heads)
    if isinstance(answer, Failure):
        assert answer.hint
        return
    ids = chosen(answer)
    assert ids == sorted(set(ids))
    assert ids
    assert set(ids).isdisjoint(taken)
    assert all(npu in inventory.npus and npu.device_present for npu in answer.npus)
    assert all(npu.health in (NpuHealth.OK, NpuHealth.WARNING) for npu in answer.npus)
    assert count % len(ids) == 0
    assert max(len(ids), kv_heads) % min(len(ids), kv_heads) == 0
    match wanted:
        case "auto":
            assert sum(npu.memory_mib for npu in answer.npus) >= need
        case "all":
            assert set(ids) == {npu.logic_id for npu in inventory.npus}
        case _:
            assert set(ids) == set(wanted)


@given(inventories, taken_npus, heads_counts, needs_mib)
@settings(deadline=None, max_examples=500)
def test_auto_refuses_only_when_equal_npus_do_not_suffice(
    inventory: Inventory, taken: frozenset[int], heads: tuple[int, int], need: int
) -> None:
    """With chips of one kind, as in every server: no smaller size would do, and none is refused."""
    same = [replace(npu, memory_mib=32768) for npu in inventory.npus]
    count, kv_heads = heads
    answer = choose("auto", build_inventory(same), taken, count, need, kv_heads=kv_heads)
    usable = (NpuHealth.OK, NpuHealth.WARNING)
    free = [
        npu
        for npu in same
        if npu.device_present and npu.health in usable and npu.logic_id not in taken
    ]
    fitting = [
        size
        for size in range(1, len(free) + 1)
        if count % size == 0
        and max(size, kv_heads) % min(size, kv_heads) == 0
        and size * 32768 >= need
    ]
    assert (0 if isinstance(answer, Failure) else len(answer.npus)) == min(fitting, default=0)


# --- NPUs that are unfit -------------------------------------------------------------------------


def lost(*logic_ids: int) -> list[Unfit]:
    return [Unfit(one, "set aside: 80E18402", passing=False) for one in logic_ids]


def mending(*logic_ids: int) -> list[Unfit]:
    return [Unfit(one, "it is being reset", passing=True) for one in logic_ids]


def test_a_spare_of_the_same_size_comes_first() -> None:
    answer = choose("auto", build_inventory(4), (), 32, NPU_MEMORY_MIB, unfit=lost(0))
    assert chosen(answer) == [1]
    assert isinstance(answer, Choice)
    assert answer.degraded == ""


def test_auto_tells_of_each_chip_that_is_set_aside() -> None:
    answer = choose("auto", build_inventory(2), (), 32, 2 * NPU_MEMORY_MIB, unfit=lost(1))
    refused(answer, Code.NPU_TOO_FEW, "1: set aside: 80E18402", "0: free")


@pytest.mark.parametrize(
    ("wanted", "gone", "heads", "need", "ids"),
    [
        (range(8), (3,), 32, 1, [0, 1, 2, 4]),  # of 7 that are left: 4 divides
        ("all", (0, 5), 32, 1, [1, 2, 3, 4]),
        ((0, 1), (1,), 32, NPU_MEMORY_MIB, [0]),
        (range(8), (3,), 28, 1, [0, 1, 2, 4, 5, 6, 7]),
        ("all", range(7), 32, NPU_MEMORY_MIB, [7]),
    ],
)
def test_a_list_without_a_lost_npu_is_served_by_fewer(
    wanted: str | Sequence[int], gone: Sequence[int], heads: int, need: int, ids: list[int]
) -> None:
    answer = choose(wanted, build_inventory(8), (), heads, need, unfit=lost(*gone))
    assert chosen(answer) == ids
    assert isinstance(answer, Choice)
    total = 8 if isinstance(wanted, str) else len(wanted)
    assert answer.degraded.startswith(f"{len(ids)} of {total} NPUs; ")
    assert f"{gone[0]}: set aside: 80E18402" in answer.degraded


def test_fewer_must_still_fit() -> None:
    answer = choose((0, 1), build_inventory(8), (), 32, NPU_MEMORY_MIB + 1, unfit=lost(1))
    refused(answer, Code.NPU_TOO_FEW, "1: set aside", "65537 MiB", "([0])")
    refused(choose((0,), build_inventory(1), (), 32, 1, unfit=lost(0)), Code.NPU_TOO_FEW)


def test_of_a_module_with_a_lost_die_none_is_used() -> None:
    inventory = build_inventory(dies(*range(6)))
    answer = choose("all", inventory, (), 32, 1, unfit=lost(2))
    assert chosen(answer) == [0, 1, 4, 5]
    assert chosen(choose("auto", inventory, (), 32, 1, unfit=lost(0))) == [2, 3]


@pytest.mark.parametrize("wanted", ["all", (0, 7)])
def test_a_chip_that_the_driver_does_not_list_any_more_is_lost(
    wanted: str | tuple[int, ...],
) -> None:
    """It was there: no typing error, and not to be waited for."""
    answer = choose(wanted, build_inventory(7), (), 32, 1, unfit=lost(7))
    assert chosen(answer) == ([0, 1, 2, 3] if wanted == "all" else [0])
    assert isinstance(answer, Choice)
    assert answer.degraded


def test_the_others_of_a_list_are_still_obeyed_or_refused() -> None:
    answer = choose((0, 1, 2), build_inventory(8), {2}, 32, 1, unfit=lost(1))
    refused(answer, Code.NPU_TOO_FEW, "NPU 2", "something else")


@pytest.mark.parametrize("wanted", ["auto", "all", (0, 1)])
def test_what_takes_an_npu_that_is_being_mended_waits(wanted: str | tuple[int, ...]) -> None:
    need = 2 * NPU_MEMORY_MIB
    answer = choose(wanted, build_inventory(2), (), 32, need, unfit=mending(1))
    refused(answer, Code.NPU_RESETTING, "1: it is being reset")
    assert isinstance(answer, Failure)
    assert answer.remedy is Remedy.EVENT


def test_auto_does_not_wait_where_it_would_not_help() -> None:
    need = 3 * NPU_MEMORY_MIB
    answer = choose("auto", build_inventory(2), (), 32, need, unfit=mending(1))
    refused(answer, Code.NPU_TOO_FEW, "1: it is being reset")
    spare = choose("auto", build_inventory(2), (), 32, 1, unfit=mending(0))
    assert chosen(spare) == [1]


def test_a_plan_tells_that_it_is_degraded() -> None:
    answer = plan(build_profile(npus=(0, 1)), unfit=tuple(lost(1)))
    assert isinstance(answer, Plan)
    assert (chosen(answer), answer.tensor_parallel_size) == ([0], 1)
    assert answer.degraded == "1 of 2 NPUs; 1: set aside: 80E18402"
    assert isinstance(full := plan(build_profile(npus=(0, 1))), Plan)
    assert full.degraded == ""


# --- a host that is suspected --------------------------------------------------------------------

SUSPECT = "4 of 4 NPUs failed at once"


def healths(*each: NpuHealth) -> Inventory:
    return build_inventory([build_npu(one, health=health) for one, health in enumerate(each)])


IN_ALARM = healths(*[NpuHealth.ALARM] * 4)


@pytest.mark.parametrize(
    ("wanted", "ids"), [("auto", [0]), ("all", [0, 1, 2, 3]), ((1, 2), [1, 2])]
)
def test_an_alarm_of_all_npus_does_not_count(wanted: str | tuple[int, ...], ids: list[int]) -> None:
    """A firmware that raises a code on all of them: they serve, and shall serve again."""
    refused(choose(wanted, IN_ALARM, (), 32, 1), Code.NPU_TOO_FEW, "its health is alarm")
    answer = choose(wanted, IN_ALARM, (), 32, 1, suspect=SUSPECT)
    assert chosen(answer) == ids
    assert isinstance(answer, Choice)
    told = f"the host is suspected ({SUSPECT}): the alarm of the NPUs {ids} does not count"
    assert (answer.alarmed, answer.degraded) == (told, "")


def test_npus_that_are_well_come_first() -> None:
    inventory = healths(NpuHealth.ALARM, NpuHealth.ALARM, NpuHealth.WARNING, NpuHealth.ALARM)
    answer = choose("auto", inventory, (), 32, 1, suspect=SUSPECT)
    assert chosen(answer) == [2]
    assert isinstance(answer, Choice)
    assert answer.alarmed == ""
    both = choose((2, 3), inventory, (), 32, 1, suspect=SUSPECT)
    assert isinstance(both, Choice)
    assert "the NPUs [3]" in both.alarmed


@pytest.mark.parametrize("health", [NpuHealth.CRITICAL, NpuHealth.UNKNOWN])
def test_worse_than_an_alarm_counts_always(health: NpuHealth) -> None:
    """The driver's last word; and of what nobody knows nothing is known."""
    answer = choose("auto", healths(health, health), (), 32, 1, suspect=SUSPECT)
    refused(answer, Code.NPU_TOO_FEW, f"its health is {health}")


def test_what_is_taken_or_set_aside_stays_so() -> None:
    answer = choose("auto", IN_ALARM, {0}, 32, 1, unfit=lost(1), suspect=SUSPECT)
    assert chosen(answer) == [2]
    refused(choose((0,), IN_ALARM, {0}, 32, 1, suspect=SUSPECT), Code.NPU_TOO_FEW, "something else")
    waits = choose((0, 1), IN_ALARM, (), 32, 1, unfit=mending(1), suspect=SUSPECT)
    refused(waits, Code.NPU_RESETTING)


def test_a_plan_tells_of_alarms_that_do_not_count() -> None:
    answer = plan(inventory=IN_ALARM, host_suspect=SUSPECT)
    assert isinstance(answer, Plan)
    assert SUSPECT in answer.alarmed


@given(
    wishes,
    inventories,
    taken_npus,
    heads_counts,
    needs_mib,
    st.dictionaries(st.integers(0, 15), st.booleans(), max_size=8),
)
@settings(deadline=None, max_examples=300)
def test_no_plan_takes_an_unfit_npu(
    wanted: str | list[int],
    inventory: Inventory,
    taken: frozenset[int],
    heads: tuple[int, int],
    need: int,
    unfit: dict[int, bool],
) -> None:
    reasons = [Unfit(one, "why", passing) for one, passing in unfit.items()]
    count, kv_heads = heads
    answer = choose(wanted, inventory, taken, count, need, kv_heads=kv_heads, unfit=reasons)
    if isinstance(answer, Failure):
        passing = any(unfit.values())
        assert passing or answer.code is not Code.NPU_RESETTING
        return
    ids = set(chosen(answer))
    assert ids.isdisjoint(unfit)
    assert ids.isdisjoint(taken)
    asked = {npu.logic_id for npu in inventory.npus} | unfit.keys()
    asked = asked if wanted == "all" else set(wanted) if isinstance(wanted, list) else ids
    assert ids <= asked
    assert bool(answer.degraded) is (ids < asked)
    if answer.degraded:
        assert count % len(ids) == 0
        assert any(one in asked and not unfit[one] for one in unfit)
