# SPDX-License-Identifier: MulanPSL-2.0
"""The driver's account and the device nodes, joined."""

import json
from dataclasses import fields, replace

import pytest

from agent.model import (
    DriverState,
    FaultSeverity,
    Inventory,
    Npu,
    NpuFault,
    NpuHealth,
    NpuProcess,
    NpuReadings,
)
from agent.npud import inventory
from agent.npud.dcmi.faults import MAX_FAULTS
from agent.npud.devices import Devices
from agent.npud.inventory import (
    NO_ANSWER_YET,
    build_account,
    forget,
    inventory_message,
    is_change,
    status_line,
    unknown_npu,
    with_devices,
)
from agent.npud.npu_smi import parse_mapping, parse_table
from agent.npud.server import MAX_BACKLOG_BYTES
from agent.npud.smi_source import account_of_refusal
from tests.unit.npud.test_npu_smi import text_of

ALL = Devices(
    "/dev", frozenset({0, 1, 2, 3}), managers=("davinci_manager", "devmm_svm", "hisi_hdc")
)
NONE = Devices("/dev")
ABSENT = Inventory(DriverState.ABSENT, "there is no npu-smi")


def account(layout: str = "910b") -> Inventory:
    table = parse_table(text_of(f"{layout}_info"))
    assert table is not None
    return build_account(parse_mapping(text_of(f"{layout}_map")), table)


def healths(seen: Inventory) -> list[str]:
    return [npu.health.value for npu in seen.npus]


def test_ready() -> None:
    seen = with_devices(account(), ALL)
    assert (seen.driver, seen.detail, seen.driver_version) == (DriverState.READY, "", "25.5.1")
    assert healths(seen) == ["ok", "ok", "alarm", "unknown"]
    assert [npu.device for npu in seen.npus] == [f"/dev/davinci{n}" for n in range(4)]
    assert all(npu.device_present for npu in seen.npus)
    assert seen.manager_devices == ("/dev/davinci_manager", "/dev/devmm_svm", "/dev/hisi_hdc")
    assert seen.npus[1].processes == (NpuProcess(2290156, "VLLMEngineCore", 56630),)
    assert (seen.npus[3].product, seen.npus[3].card_id) == ("910B3", 3)


def test_duo_logic_ids_are_not_npu_ids() -> None:
    seen = with_devices(account("duo"), ALL)
    assert [(npu.card_id, npu.chip_id, npu.logic_id) for npu in seen.npus][2:] == [
        (32800, 0, 2),
        (32800, 1, 3),
    ]
    assert healths(seen) == ["ok", "critical", "ok", "ok"]


def test_a_chip_without_node_is_listed_and_not_present() -> None:
    seen = with_devices(account(), replace(ALL, chips=frozenset({0, 2, 3})))
    assert [npu.device_present for npu in seen.npus] == [True, False, True, True]
    assert "/dev/davinci1 missing" in status_line(seen)


def test_a_node_that_the_driver_does_not_know_is_listed_and_unknown() -> None:
    seen = with_devices(account(), replace(ALL, chips=ALL.chips | {9}))
    assert seen.npus[-1] == Npu(9, -1, -1, "/dev/davinci9", True, "", NpuHealth.UNKNOWN, 0, 0)


def guessed(*logic_ids: int) -> Inventory:
    """By a driver that does not tell nodes."""
    npus = (
        replace(unknown_npu(one, ""), card_id=one, health=NpuHealth.OK, node_told=False)
        for one in logic_ids
    )
    return Inventory(DriverState.READY, npus=tuple(npus))


@pytest.mark.parametrize(
    ("listed", "nodes", "sure"),
    [
        ({0, 1, 2, 3}, {0, 1, 2, 3}, {0, 1, 2, 3}),
        ({0, 1, 2}, {0, 2, 3}, {0}),  # 1 did not come up: logic id 1 has node 2
        ({0, 1, 2}, {1, 2, 3}, set()),
        ({0, 1, 2, 3}, {0, 2, 3}, {0, 2, 3}),  # 1 went later, and is listed still
        ({0, 2, 3}, {0, 2, 3}, {0, 2, 3}),  # or not
        ({0, 2, 3}, {0, 1, 2, 3}, {0, 2, 3}),
        ({0, 1, 2, 3}, {0, 1, 2}, {0, 1, 2}),
        ({0, 1, 2}, {0, 1, 2, 3}, {0, 1, 2}),
        ({0, 1}, set(), set()),
    ],
)
def test_whose_a_node_is_is_not_guessed(listed: set[int], nodes: set[int], sure: set[int]) -> None:
    seen = with_devices(guessed(*listed), replace(ALL, chips=frozenset(nodes)))
    known = listed | nodes
    assert [npu.logic_id for npu in seen.npus] == list(range(max(known) + 1))  # no gap
    well = {npu.logic_id for npu in seen.npus if npu.health is NpuHealth.OK}
    assert well & nodes == sure
    others = [npu for npu in seen.npus if npu.logic_id not in well]
    reason = "the driver does not say which device node it has"
    assert {npu.card_id for npu in others} <= {-1}
    reasons = {npu.reason for npu in others if npu.logic_id in known}
    assert reasons <= ({""} if listed <= well else {reason})


def test_one_chip_whose_node_is_not_told_among_others() -> None:
    told = replace(unknown_npu(3, ""), health=NpuHealth.OK)
    account = guessed(1)
    account = replace(account, npus=(*account.npus, told))
    seen = with_devices(account, replace(ALL, chips=frozenset({2, 3})))
    assert healths(seen) == ["unknown", "unknown", "unknown", "ok"]
    assert "/dev/davinci2 unknown (the driver does not say which" in status_line(seen)


def told(*nodes: int) -> Inventory:
    """By a driver that does."""
    npus = (replace(unknown_npu(one, ""), card_id=one, health=NpuHealth.OK) for one in nodes)
    return Inventory(DriverState.READY, npus=tuple(npus))


def test_the_place_of_a_chip_that_did_not_come_up_is_listed() -> None:
    there = frozenset({0, 1, 2, 4, 5, 6, 7})
    seen = with_devices(told(*there), replace(ALL, chips=there))
    assert [npu.logic_id for npu in seen.npus] == list(range(8))
    assert seen.npus[3] == replace(unknown_npu(3, ""), device="/dev/davinci3")
    assert "8 NPUs, driver" in status_line(seen)
    assert "; /dev/davinci3 missing" in status_line(seen)


def test_where_most_places_are_empty_none_is_missing() -> None:
    there = frozenset({0, 9})
    seen = with_devices(told(*there), replace(ALL, chips=there))
    assert {npu.logic_id for npu in seen.npus} == there
    assert with_devices(told(), NONE).npus == ()


def test_npu_smi_tells_the_node_of_an_a3() -> None:
    assert [npu.node_told for npu in account("a3").npus] == [True] * 4
    assert [npu.node_told for npu in account("duo").npus] == [False] * 4


def test_absent() -> None:
    seen = with_devices(ABSENT, NONE)
    assert seen.driver is DriverState.ABSENT
    assert status_line(seen) == "waiting for the NPU driver: no /dev/davinci* yet"


def test_nodes_without_npu_smi() -> None:
    seen = with_devices(ABSENT, ALL)
    assert seen.driver is DriverState.UNKNOWN
    assert healths(seen) == ["unknown"] * 4
    assert {(npu.product, npu.memory_mib) for npu in seen.npus} == {("", 0)}


@pytest.mark.parametrize("code", [-8005, -8020])
def test_a_refusal_is_failed_and_says_the_words(code: int) -> None:
    words = f"dcmi module initialize failed. ret is {code}"
    seen = with_devices(account_of_refusal("npu-smi info -m", words), ALL)
    assert seen.driver is DriverState.FAILED
    assert words in seen.detail
    assert ("another mount namespace" in seen.detail) == (code == -8020)
    assert healths(seen) == ["unknown"] * 4


def test_npu_smi_of_a_driver_that_is_not_loaded_yet() -> None:
    words = "dcmi module initialize failed. ret is -8005"
    seen = with_devices(account_of_refusal("npu-smi info -m", words), NONE)
    assert seen.driver is DriverState.ABSENT
    assert words in seen.detail


def test_text_that_nobody_understands_is_unknown() -> None:
    seen = account_of_refusal("npu-smi info", "\nSegmentation fault\n")
    assert (seen.driver, seen.npus) == (DriverState.UNKNOWN, ())
    assert "Segmentation fault" in seen.detail


def test_forget_what_was_told_about_a_chip_that_went() -> None:
    seen = with_devices(forget(account(), frozenset({0})), ALL)
    assert healths(seen) == ["unknown", "ok", "alarm", "unknown"]
    assert seen.npus[0].product == "910B3"
    assert forget(ABSENT, frozenset()) == NO_ANSWER_YET


def test_memory_alone_is_a_change_only_when_it_is_much() -> None:
    seen = with_devices(account(), ALL)

    def used(amount: int) -> Inventory:
        return replace(seen, npus=(replace(seen.npus[0], memory_used_mib=amount), *seen.npus[1:]))

    assert not is_change(seen, replace(seen, read_at=5.0, sequence=7))
    assert not is_change(used(3000), used(3511))
    assert is_change(used(3000), used(3512))
    assert is_change(seen, replace(seen, npus=seen.npus[:3]))


def test_processes_are_a_change_when_others_hold_the_chip() -> None:
    seen = with_devices(account(), ALL)

    def held(*processes: NpuProcess) -> Inventory:
        return replace(seen, npus=(replace(seen.npus[0], processes=processes), *seen.npus[1:]))

    a, b = NpuProcess(1, "a", 100), NpuProcess(2, "b", 100)
    assert is_change(held(a), held(a, b))
    assert not is_change(held(a, b), held(b, replace(a, memory_mib=200)))
    assert is_change(held(a, b), held(b, replace(a, memory_mib=900)))


def test_readings_alone_are_no_change_but_a_fault_is() -> None:
    seen = with_devices(account(), ALL)

    def first(**fields: object) -> Inventory:
        return replace(seen, npus=(replace(seen.npus[0], **fields), *seen.npus[1:]))  # type: ignore[arg-type]

    warm = NpuReadings(temperature_c=60, ecc_single=3)
    assert not is_change(seen, first(readings=warm))
    assert not is_change(first(readings=warm), first(readings=NpuReadings(temperature_c=61)))
    fault = NpuFault("80E01801", FaultSeverity.MAJOR, "words", 1.0)
    assert is_change(seen, first(faults=(fault,)))
    assert is_change(first(faults=(fault,)), first(faults=(replace(fault, raised_at=2.0),)))
    assert is_change(seen, first(reason="probe hangs: get_device_health"))


def test_the_status_line_tells_faults_and_reasons() -> None:
    seen = with_devices(account(), ALL)
    fault = NpuFault("80E01801", FaultSeverity.MAJOR, "words", 1.0)
    ok = replace(seen.npus[0], faults=(fault,))
    gone = replace(seen.npus[1], health=NpuHealth.UNKNOWN, reason="card dropped (-8012)")
    line = status_line(replace(seen, npus=(ok, gone)))
    assert line.endswith(
        "; /dev/davinci0 ok 80E01801, /dev/davinci1 unknown (card dropped (-8012))"
    )


def test_messages_have_the_names_of_the_model() -> None:
    seen = replace(with_devices(account(), ALL), sequence=3, read_at=1.5)
    line = inventory.inventory_message(seen)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    message = json.loads(line)
    assert (message["schema"], message["type"]) == (1, "inventory")
    told = message["inventory"]
    assert set(told) == {field.name for field in fields(Inventory)}
    assert set(told["npus"][0]) == {field.name for field in fields(Npu)}
    assert set(told["npus"][0]["readings"]) == {field.name for field in fields(NpuReadings)}
    assert set(told["npus"][1]["processes"][0]) == {field.name for field in fields(NpuProcess)}
    assert (told["driver"], told["npus"][2]["health"], told["sequence"]) == ("ready", "alarm", 3)


def test_heartbeat() -> None:
    told = json.loads(inventory.heartbeat_message(4))
    assert told == {"schema": 1, "type": "heartbeat", "sequence": 4}


def test_status_lines() -> None:
    seen = with_devices(account(), ALL)
    well = replace(seen, npus=seen.npus[:2])
    assert status_line(well) == "2 NPUs, driver 25.5.1"
    assert status_line(seen).endswith("; /dev/davinci2 alarm, /dev/davinci3 unknown")
    assert "refuses: no" in status_line(Inventory(DriverState.FAILED, "no"))
    assert "unknown: why" in status_line(Inventory(DriverState.UNKNOWN, "why"))


@pytest.mark.parametrize("text", ["x" * 255, "漏" * 85], ids=["English", "Chinese"])
def test_the_longest_inventory_is_no_reason_to_drop_a_client(text: str) -> None:
    """Every chip of an A3 with as many faults as are kept, with as much text as there can be."""
    faults = tuple(
        NpuFault(f"80E0{number:04X}", FaultSeverity.CRITICAL, text, 1_800_000_000.123)
        for number in range(MAX_FAULTS)
    )
    npus = tuple(
        replace(unknown_npu(number, f"/dev/davinci{number}"), faults=faults) for number in range(16)
    )
    assert len(inventory_message(Inventory(DriverState.READY, npus=npus))) < MAX_BACKLOG_BYTES
