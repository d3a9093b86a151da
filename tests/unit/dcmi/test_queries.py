# SPDX-License-Identifier: MulanPSL-2.0
"""What the double of libdcmi says of a host: products, readings, health."""

import time
from pathlib import Path

import pytest

from tests.fakes.dcmi import build
from tests.fakes.dcmi.control import HINT, MAJOR, NOT_SUPPORTED
from tests.unit.dcmi.calls import (
    AICORE,
    HBM_ECC,
    HBM_ROWS,
    INVALID,
    NOT_EXIST,
    NOT_READY,
    NOT_STARTED,
    OK,
    boot,
    chip_count,
    codes,
    health,
    logic_ids,
)
from tests.unit.dcmi.host import Host


def test_910b3(host: Host) -> None:
    client = host.client()
    assert client.call("get_card_list", "int", "int 64", 64)[:2] == (OK, 8)
    assert client.call("get_card_num_list", "int", "int 3", 3) == (OK, 3, [0, 1, 2])
    assert chip_count(client, [0, 7]) == [1, 1]
    assert logic_ids(client, [(0, 0), (7, 0)]) == [0, 7]
    assert client.call("get_device_id_in_card", 3, "int", "int", "int") == (OK, 1, 1, -1)
    result, chip = client.call("get_device_chip_info_v2", 3, 0, "chip")
    assert (result, chip["type"], chip["name"]) == (OK, "Ascend", "910B3")
    result, chip = client.call("get_device_chip_info", 3, 0, "chip")
    assert (result, chip["name"], chip["npu_name"]) == (OK, "910B3", "")
    assert client.call("get_product_type", 3, 0, "text 65", 65) == (OK, "Atlas 800I A2")
    assert client.call("get_device_power_info", 3, 0, "int") == (OK, 1028)
    assert client.call("get_device_board_info", 3, 0, "uint 4")[1][0] == 0x33
    pcie = client.call("get_device_pcie_info_v2", 3, 0, "uint 16")[1]
    assert (pcie[0], pcie[2], pcie[5]) == (0x19E5, 0xD802, 0xC4)
    assert client.call("get_driver_version", "text 64", 64) == (OK, "25.5.1")
    assert client.call("get_device_type", 3, 1, "uint") == (OK, 1)
    assert client.call("get_device_health", 8, 0, "uint")[0] == NOT_EXIST


def test_a3_has_two_dies_a_card_and_power_by_the_first(host: Host) -> None:
    host.double.start("Ascend910")
    client = host.client()
    assert client.call("get_card_list", "int", "int 64", 64)[1] == 8
    assert chip_count(client, [0, 7]) == [2, 2]
    assert logic_ids(client, [(0, 1), (7, 0), (7, 1)]) == [1, 14, 15]
    assert client.call("get_device_chip_info_v2", 0, 1, "chip")[1]["name"] == "Ascend910"
    assert client.call("get_device_power_info", 0, 0, "int") == (OK, 2113)
    assert client.call("get_device_power_info", 0, 1, "int")[0] == NOT_SUPPORTED
    assert client.call("get_device_phyid_from_logicid", 15, "uint") == (OK, 15)
    assert client.call("get_device_logicid_from_phyid", 16, "uint")[0] == NOT_EXIST


def test_duo_has_gaps_in_its_ids_a_controller_and_no_hbm(host: Host) -> None:
    host.double.start("310P3")
    client = host.client()
    result, count, cards = client.call("get_card_list", "int", "int 64", 64)
    assert (result, cards[:count]) == (OK, [1, 2, 4, 5])
    assert client.call("get_device_num_in_card", 3, "int")[0] == NOT_EXIST
    assert client.call("get_device_id_in_card", 4, "int", "int", "int") == (OK, 2, 2, -1)
    assert logic_ids(client, [(1, 0), (1, 1), (4, 0), (5, 1)]) == [0, 1, 4, 7]
    kinds = [client.call("get_device_type", 4, device, "uint") for device in range(3)]
    assert kinds == [(OK, 0), (OK, 0), (OK, 1)]
    assert client.call("get_device_logic_id", "int", 4, 2)[0] == NOT_SUPPORTED
    assert client.call("get_device_hbm_info", 4, 0, "hbm")[0] == NOT_SUPPORTED
    memory = client.call("get_device_memory_info_v3", 4, 0, "memory")[1]
    assert (memory["size"], memory["available"]) == (44280, 44280 - 1414)
    assert client.call("get_device_power_info", 4, 0, "int")[0] == NOT_SUPPORTED
    assert client.call("get_device_power_info", 4, 2, "int") == (OK, 721)


def test_the_number_of_cards_and_one_that_is_absent(host: Host) -> None:
    host.double.start(cards=3)
    client = host.client()
    host.double.remove_card(1)
    result, count, cards = client.call("get_card_list", "int", "int 64", 64)
    assert (result, cards[:count]) == (OK, [0, 2])
    assert health(client, 1)[0] == NOT_EXIST
    assert logic_ids(client, [(2, 0)]) == [2]
    host.double.remove_card(1, at_boot=True)
    assert logic_ids(client, [(0, 0), (2, 0)]) == [0, 1]
    assert client.call("get_device_phyid_from_logicid", 1, "uint") == (OK, 2)
    assert client.call("get_device_logicid_from_phyid", 2, "uint") == (OK, 1)
    host.double.return_card(1)
    assert health(client, 1) == (OK, 0)


def test_readings(host: Host) -> None:
    client, double = host.client(), host.double
    double.set_value(3, 0, "temperature", 71)
    double.set_value(3, 0, "hbm-temperature", 83)
    double.set_value(3, 0, "power", 3104)
    double.set_value(3, 0, "utilization 2", 97)
    assert client.call("get_device_temperature", 3, 0, "int") == (OK, 71)
    assert client.call("get_device_temperature", 2, 0, "int") == (OK, 45)
    assert client.call("get_device_power_info", 3, 0, "int") == (OK, 3104)
    assert client.call("get_device_utilization_rate", 3, 0, 2, "uint") == (OK, 97)
    assert client.call("get_device_utilization_rate", 3, 0, 13, "uint") == (OK, 0)
    assert client.call("get_device_utilization_rate", 3, 0, 8, "uint")[0] == NOT_SUPPORTED
    hbm = client.call("get_device_hbm_info", 3, 0, "hbm")[1]
    assert (hbm["size"], hbm["used"], hbm["temp"]) == (65536, 3445, 83)
    assert client.call("get_hbm_info", 3, 0, "hbm")[1]["size"] == 65536 * 1024
    assert client.call("get_device_memory_info_v3", 3, 0, "memory")[1]["size"] == 0
    double.set_option("driver-health", "2")
    assert client.call("get_driver_health", "uint") == (OK, 2)


def test_processes_use_memory(host: Host) -> None:
    client = host.client()
    assert client.call("get_device_resource_info", 3, 0, "process 32", "int")[2] == 0
    host.double.set_processes(3, 0, {4711: 56630, 4712: 12})
    result, processes, count = client.call("get_device_resource_info", 3, 0, "process 32", "int")
    assert (result, count) == (OK, 2)
    assert processes[:2] == [{"pid": 4711, "used": 56630 << 20}, {"pid": 4712, "used": 12 << 20}]
    assert client.call("get_device_hbm_info", 3, 0, "hbm")[1]["used"] == 3445 + 56642
    host.double.set_processes(3, 0, {})
    assert client.call("get_device_resource_info", 3, 0, "process 32", "int")[2] == 0


def test_memory_that_a_process_left(host: Host) -> None:
    client = host.client()
    host.double.set_processes(3, 0, {4711: 56630, 4712: 12})
    host.double.end_process(3, 0, 4711)
    assert client.call("get_device_resource_info", 3, 0, "process 32", "int")[2] == 1
    assert client.call("get_device_hbm_info", 3, 0, "hbm")[1]["used"] == 3445 + 56642
    host.double.end_process(3, 0, 4712)
    assert client.call("get_device_resource_info", 3, 0, "process 32", "int")[::2] == (OK, 0)
    assert client.call("get_device_hbm_info", 3, 0, "hbm")[1]["used"] == 3445 + 56642
    assert client.call("get_device_hbm_info", 2, 0, "hbm")[1]["used"] == 3445
    host.double.leave_memory(3, 0, 0)
    assert client.call("get_device_hbm_info", 3, 0, "hbm")[1]["used"] == 3445


def test_memory_that_is_left_on_a_duo_is_ddr(host: Host) -> None:
    host.double.start("310P3")
    client = host.client()
    before = client.call("get_device_memory_info_v3", 1, 1, "memory")[1]["available"]
    host.double.leave_memory(1, 1, 20_000)
    after = client.call("get_device_memory_info_v3", 1, 1, "memory")[1]["available"]
    assert before - after == 20_000


@pytest.mark.parametrize("numbers", [7, 9])
def test_ecc_fills_as_many_numbers_as_its_layout_has(
    host: Host, tmp_path: Path, numbers: int
) -> None:
    client = host.client(build(tmp_path, ecc_layout=numbers))
    host.double.set_value(3, 0, "ecc", "1 2 3 4 5 6 7 8")
    result, found = client.call("get_device_ecc_info", 3, 0, 2, "uint 9")
    assert (result, found) == (OK, [1, 1, 2, 3, 4, 5, 6, 7, 8][:numbers] + [0] * (9 - numbers))
    assert client.call("get_device_ecc_info", 3, 0, 0, "uint 9")[0] == NOT_SUPPORTED
    host.double.start("310P3")
    assert client.call("get_device_ecc_info", 1, 0, 0, "uint 9")[0] == OK
    assert client.call("get_device_ecc_info", 1, 0, 2, "uint 9")[0] == NOT_SUPPORTED


def test_health_is_that_of_the_worst_code_or_as_said(host: Host) -> None:
    client, double = host.client(), host.double
    assert health(client, 3) == (OK, 0)
    double.raise_fault(3, 0, HBM_ROWS, HINT)
    assert health(client, 3) == (OK, 0)
    double.raise_fault(3, 0, HBM_ECC, MAJOR)
    assert (health(client, 3), health(client, 2)) == ((OK, 2), (OK, 0))
    assert codes(client, 3) == [HBM_ROWS, HBM_ECC]
    assert client.call("get_device_errorcode_v2", 3, 0, "int", "uint 1", 1)[1] == 1
    double.clear_fault(3, 0, HBM_ECC)
    assert (health(client, 3), codes(client, 3)) == ((OK, 0), [HBM_ROWS])
    double.set_health(3, 0, 3)
    assert health(client, 3) == (OK, 3)
    double.set_health(3, 0, None)
    assert health(client, 3) == (OK, 0)


def test_the_text_of_a_code(host: Host) -> None:
    client = host.client()
    text = "node type=HBM, sensor type=ECC, event state=" + 20 * "multi-bit error "
    host.double.raise_fault(3, 0, HBM_ECC, MAJOR, text)
    host.double.set_option(f"text {AICORE}", "AI core, multi-bit ECC")
    ask = "get_device_errorcode_string"
    assert client.call(ask, 3, 0, int(HBM_ECC, 16), "text 256", 256) == (OK, text[:255])
    assert client.call(ask, 3, 0, int(HBM_ECC, 16), "text 48", 48) == (OK, text[:47])
    assert client.call(ask, 3, 0, int(HBM_ECC, 16), "text 47", 47)[0] == INVALID
    assert client.call(ask, 3, 0, int(AICORE, 16), "text 256", 256) == (
        OK,
        "AI core, multi-bit ECC",
    )
    assert client.call(ask, 3, 0, int(HBM_ROWS, 16), "text 256", 256)[0] == NOT_SUPPORTED


def test_a_dropped_chip(host: Host) -> None:
    client = host.client()
    host.double.drop(3, 0)
    assert health(client, 3)[0] == NOT_READY
    assert client.call("get_device_temperature", 3, 0, "int")[0] == NOT_READY
    assert logic_ids(client, [(3, 0)]) == [3]
    assert health(client, 2) == (OK, 0)
    host.double.undrop(3, 0)
    assert health(client, 3) == (OK, 0)


def test_a_chip_that_has_not_started(host: Host) -> None:
    client = host.client()
    host.double.set_value(3, 0, "boot", 2)
    assert (boot(client, 3), health(client, 3)) == (2, (OK, NOT_STARTED))
    assert client.call("get_device_temperature", 3, 0, "int")[0] == NOT_READY


@pytest.mark.parametrize(("passed_s", "status"), [(1, 0), (1100, 1), (2900, 2), (3001, 16)])
def test_a_chip_boots_through_the_states(host: Host, passed_s: int, status: int) -> None:
    client = host.client()
    host.double.set_value(3, 0, "booting", f"{time.monotonic_ns() - passed_s * 10**9} 3000")
    assert boot(client, 3) == status
    assert health(client, 3) == (OK, 0 if status == 16 else NOT_STARTED)
