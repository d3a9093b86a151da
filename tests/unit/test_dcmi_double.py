# SPDX-License-Identifier: MulanPSL-2.0
"""The double of libdcmi, called by a program of its own: each line of the state has its effect."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.dcmi import build
from tests.fakes.dcmi.control import CRITICAL, HINT, MAJOR, MINOR, NOT_SUPPORTED, OCCUPIED
from tests.unit.dcmi_host import Client, Host

OK, NOT_PERMITTED, INNER_ERROR, NOT_READY, RESET_FAILED = 0, -8002, -8005, -8012, -8015
INVALID, NOT_EXIST = -8001, -8008
NOT_STARTED = 0xFFFFFFFF
RECOVER, OCCUR, ONE_OFF = 0, 1, 2
EVERYTHING = (-1, -1, 0, 0, 0, 0)
HBM_ECC, HBM_ROWS, AICORE = "80E01801", "80E18402", "80C98008"
INBAND, OUTBAND = 1, 0


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("libdcmi"))


@pytest.fixture
def host(tmp_path: Path, library: Path) -> Iterator[Host]:
    host = Host(tmp_path, library)
    host.double.start()
    yield host
    host.close()


def chip_count(client: Client, cards: list[int]) -> list[int]:
    return [client.call("get_device_num_in_card", card, "int")[1] for card in cards]


def logic_ids(client: Client, places: list[tuple[int, int]]) -> list[int]:
    return [client.call("get_device_logic_id", "int", *place)[1] for place in places]


def health(client: Client, card: int, chip: int = 0) -> tuple[int, int]:
    result, value = client.call("get_device_health", card, chip, "uint")
    return result, value


def codes(client: Client, card: int, chip: int = 0) -> list[str]:
    result, count, found = client.call(
        "get_device_errorcode_v2", card, chip, "int", "uint 128", 128
    )
    assert result == OK
    return [f"{code:08X}" for code in found[:count]]


def boot(client: Client, card: int, chip: int = 0) -> int:
    result, status = client.call("get_device_boot_status", card, chip, "int")
    assert result == OK
    return int(status)


def reset(client: Client, card: int, chip: int = 0, channel: int = INBAND) -> int:
    return int(client.call("set_device_reset", card, chip, channel))


def wait_for_boot(client: Client, card: int, chip: int = 0) -> list[int]:
    """The boot states on the way to 16, each once; a busy machine may hide some."""
    seen = [boot(client, card, chip)]
    deadline = time.monotonic() + 5
    while seen[-1] != 16:
        assert time.monotonic() < deadline, seen
        time.sleep(0.002)
        status = boot(client, card, chip)
        seen += [] if status == seen[-1] else [status]
    return seen


# --- products ------------------------------------------------------------------------------------


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
    host.double.return_card(1)
    assert health(client, 1) == (OK, 0)


# --- readings ------------------------------------------------------------------------------------


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


# --- health --------------------------------------------------------------------------------------


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


# --- the driver ----------------------------------------------------------------------------------


def test_without_a_driver_there_is_none(host: Host) -> None:
    host.double.path.unlink()
    client = host.load()
    assert client.call("init") == INNER_ERROR
    host.double.start()
    assert health(client, 0)[0] == INNER_ERROR  # nobody has called dcmi_init with success
    assert client.call("init") == OK
    assert health(client, 0) == (OK, 0)


def test_the_driver_goes_and_comes_back(host: Host) -> None:
    client = host.client()
    host.double.driver_absent()
    assert (health(client, 0)[0], host.load().call("init")) == (INNER_ERROR, INNER_ERROR)
    host.double.driver_back()
    assert health(client, 0) == (OK, 0)


@pytest.mark.parametrize("refusal", [OCCUPIED, NOT_SUPPORTED])
def test_an_init_that_is_refused(host: Host, refusal: int) -> None:
    client = host.client()
    host.double.set_init(refusal)
    assert host.load().call("init") == refusal
    assert health(client, 0) == (OK, 0)  # who has the driver keeps it


def test_a_function_that_fails_for_one_chip_or_for_all(host: Host) -> None:
    client, double = host.client(), host.double
    double.fail("get_device_health", -8010, 3)
    assert (health(client, 3)[0], health(client, 2)) == (-8010, (OK, 0))
    double.fail("get_device_health", -8009)
    assert health(client, 2)[0] == -8009
    double.unfail("get_device_health")
    double.unfail("get_device_health", 3)
    assert health(client, 3) == (OK, 0)


def test_a_missing_symbol(host: Host, tmp_path: Path) -> None:
    library = build(tmp_path, missing={"dcmi_get_device_chip_info_v2"})
    client = host.client(library)
    assert client.call("get_device_chip_info_v2", 0, 0, "chip") == -99998
    assert client.call("get_device_chip_info", 0, 0, "chip")[0] == OK


@pytest.mark.parametrize("function", ["get_device_health", "*"])
def test_a_call_hangs_until_it_is_released(host: Host, function: str) -> None:
    client, other = host.client(), host.client()
    host.double.hang(function, 3)
    client.send("get_device_health", 3, 0, "uint")
    with pytest.raises(TimeoutError):
        client.answer(0.2)
    assert health(other, 2) == (OK, 0)  # only that chip
    host.double.release(function, 3)
    assert client.answer() == (OK, 0)


def test_init_hangs(host: Host) -> None:
    host.double.hang("init")
    client = host.load()
    client.send("init")
    with pytest.raises(TimeoutError):
        client.answer(0.2)
    host.double.release("init")
    assert client.answer() == OK


# --- events --------------------------------------------------------------------------------------


def subscriber(host: Host, *wanted: int, library: Path | None = None) -> Client:
    client = host.client(library)
    assert client.call("subscribe", *(wanted or EVERYTHING)) == OK
    return client


def summary(event: dict[str, Any]) -> tuple[str, int, int]:
    return f"{event['code']:08X}", event["device"], event["assertion"]


def test_a_fault_occurs_and_recovers(host: Host) -> None:
    host.double.start("Ascend910")
    client = subscriber(host)
    before_ms = time.time() * 1000
    host.double.raise_fault(3, 1, HBM_ECC, MAJOR, "multi-bit ECC error of the HBM")
    event = client.event()
    assert summary(event) == (HBM_ECC, 7, OCCUR)
    assert (event["type"], event["severity"], event["name"]) == (
        0,
        MAJOR,
        "multi-bit ECC error of the HBM",
    )
    assert before_ms - 1 <= event["raised_ms"] <= time.time() * 1000 + 1
    assert event["node_type"] == 112  # what the vendor's example subscribes to
    host.double.clear_fault(3, 1, HBM_ECC)
    again = client.event()
    assert summary(again) == (HBM_ECC, 7, RECOVER)
    assert again["serial"] > event["serial"]


def test_what_was_before_the_subscription_is_not_told(host: Host) -> None:
    host.double.raise_fault(3, 0, HBM_ECC)
    host.double.one_off(3, 0, AICORE)
    client = subscriber(host)
    host.double.raise_fault(4, 0, HBM_ROWS)
    assert summary(client.event()) == (HBM_ROWS, 4, OCCUR)
    host.double.clear_fault(3, 0, HBM_ECC)
    assert summary(client.event()) == (HBM_ECC, 3, RECOVER)


def test_a_one_off_event_is_told_once_and_changes_nothing(host: Host) -> None:
    client = subscriber(host)
    host.double.one_off(3, 0, AICORE, MINOR, "AI core timeout")
    host.double.one_off(3, 0, AICORE, MINOR, "AI core timeout")
    events = [client.event(), client.event()]
    assert [summary(event) for event in events] == [(AICORE, 3, ONE_OFF)] * 2
    assert events[0]["name"] == "AI core timeout"
    assert (codes(client, 3), health(client, 3)) == ([], (OK, 0))
    host.double.raise_fault(3, 0, HBM_ECC)
    assert summary(client.event()) == (HBM_ECC, 3, OCCUR)


def test_a_lost_event_is_seen_only_by_a_query(host: Host) -> None:
    client = subscriber(host)
    host.double.set_option("events", "off")
    host.double.raise_fault(3, 0, HBM_ECC, MAJOR)
    assert codes(client, 3) == [HBM_ECC]
    with pytest.raises(TimeoutError):
        client.event(0.2)
    host.double.set_option("events", "on")
    host.double.raise_fault(4, 0, HBM_ROWS)
    assert summary(client.event()) == (HBM_ROWS, 4, OCCUR)  # the lost one stays lost


@pytest.mark.parametrize(
    "wanted",
    [
        (-1, -1, 1, int(HBM_ROWS, 16), 0, 0),
        (-1, -1, 2, 0, MAJOR, 0),
        (-1, -1, 4, 0, 0, 112),
        (-1, -1, 7, int(HBM_ROWS, 16), CRITICAL, 112),
        (4, 0, 0, 0, 0, 0),
    ],
)
def test_a_subscription_by_code_severity_node_or_chip(host: Host, wanted: tuple[int, ...]) -> None:
    client = subscriber(host, *wanted)
    host.double.raise_fault(3, 0, AICORE, MINOR)
    host.double.raise_fault(4, 0, HBM_ROWS, CRITICAL)
    assert summary(client.event()) == (HBM_ROWS, 4, OCCUR)


def test_a_process_subscribes_once_and_with_a_driver(host: Host) -> None:
    client = subscriber(host)
    assert client.call("subscribe", *EVERYTHING) == -8020
    assert host.load().call("subscribe", *EVERYTHING) == INNER_ERROR
    host.double.fail("subscribe_fault_event", NOT_SUPPORTED)
    assert host.client().call("subscribe", *EVERYTHING) == NOT_SUPPORTED


def test_two_processes_are_told(host: Host) -> None:
    clients = [subscriber(host), subscriber(host)]
    host.double.raise_fault(3, 0, HBM_ECC)
    assert [summary(client.event()) for client in clients] == [(HBM_ECC, 3, OCCUR)] * 2


def test_an_event_comes_while_a_call_hangs(host: Host) -> None:
    client = subscriber(host)
    host.double.hang("get_device_health", 3)
    client.send("get_device_health", 3, 0, "uint")
    host.double.raise_fault(4, 0, HBM_ECC)
    assert summary(client.event()) == (HBM_ECC, 4, OCCUR)
    host.double.release("get_device_health", 3)
    assert client.answer() == (OK, 0)


def test_an_event_is_there_within_20_ms(host: Host) -> None:
    """The median: a busy machine may hold up any single one."""
    client = subscriber(host)
    delays = []
    for _ in range(11):
        host.double.raise_fault(3, 0, HBM_ECC)
        raised_at = time.monotonic()
        client.event()
        delays.append(time.monotonic() - raised_at)
        host.double.clear_fault(3, 0, HBM_ECC)
        client.event()
    assert sorted(delays)[5] <= 0.02


# --- resets --------------------------------------------------------------------------------------


def test_a_reset_that_works(host: Host) -> None:
    client = subscriber(host)
    host.double.set_option("boot-time", "1")
    host.double.raise_fault(3, 0, AICORE)
    host.double.raise_fault(3, 0, HBM_ROWS, MAJOR, curable=False)
    assert [summary(client.event())[2] for _ in range(2)] == [OCCUR, OCCUR]
    assert reset(client, 3) == OK
    assert health(client, 3) == (OK, NOT_STARTED)
    seen = wait_for_boot(client, 3)
    assert seen == sorted(set(seen) & {0, 1, 2, 16})
    assert codes(client, 3) == [HBM_ROWS]
    assert summary(client.event()) == (AICORE, 3, RECOVER)
    assert health(client, 2) == (OK, 0)


def test_a_reset_that_fails_leaves_all_as_it_was(host: Host) -> None:
    client = host.client()
    host.double.raise_fault(3, 0, AICORE)
    host.double.set_reset(3, 0, "fails")
    assert reset(client, 3) == RESET_FAILED
    assert (boot(client, 3), codes(client, 3)) == (16, [AICORE])


def test_a_reset_that_takes_long(host: Host) -> None:
    client, other = host.client(), host.client()
    host.double.set_option("boot-time", "0.1")
    host.double.set_reset(3, 0, "works", 0.4)
    started_at = time.monotonic()
    client.send("set_device_reset", 3, 0, INBAND)
    with pytest.raises(TimeoutError):
        client.answer(0.2)
    assert (boot(other, 3), health(other, 2)) == (0, (OK, 0))
    assert client.answer() == OK
    assert time.monotonic() - started_at >= 0.4
    assert wait_for_boot(client, 3)[-1] == 16


def test_a_reset_after_which_the_fault_is_still_there(host: Host) -> None:
    client = host.client()
    host.double.set_option("boot-time", "0.05")
    host.double.raise_fault(3, 0, AICORE)
    host.double.set_reset(3, 0, "keeps")
    assert reset(client, 3) == OK
    wait_for_boot(client, 3)
    assert codes(client, 3) == [AICORE]


def test_a_reset_after_which_it_does_not_boot(host: Host) -> None:
    client = host.client()
    host.double.set_reset(3, 0, "stuck")
    assert (reset(client, 3), boot(client, 3)) == (OK, 2)
    host.double.set_reset(3, 0, "works")
    assert reset(client, 3) == OK
    assert wait_for_boot(client, 3)[-1] == 16


def test_a_reset_hangs(host: Host) -> None:
    client = host.client()
    host.double.hang("set_device_reset", 3)
    client.send("set_device_reset", 3, 0, INBAND)
    with pytest.raises(TimeoutError):
        client.answer(0.2)
    host.double.release("set_device_reset", 3)
    assert client.answer() == OK


def test_a_reset_of_a_dropped_chip(host: Host) -> None:
    client = host.client()
    host.double.drop(3, 0)
    host.double.drop(4, 0, curable=False)
    assert (reset(client, 3), reset(client, 4)) == (OK, NOT_READY)
    assert wait_for_boot(client, 3)[-1] == 16
    assert health(client, 3) == (OK, 0)


def test_a_busy_chip_is_not_reset_and_the_try_is_on_record(host: Host) -> None:
    client = host.client()
    host.double.raise_fault(3, 0, AICORE)
    host.double.set_processes(3, 0, {4711: 100, 4712: 100})
    assert (reset(client, 3), codes(client, 3)) == (RESET_FAILED, [AICORE])
    (call,) = host.double.calls("set_device_reset")
    assert (call.pid, call.chip, call.result, call.busy) == (client.pid, "3.0", RESET_FAILED, 2)


def test_a_reset_wants_the_in_band_channel(host: Host) -> None:
    client = host.client()
    assert reset(client, 3, channel=OUTBAND) == NOT_SUPPORTED
    assert reset(client, 3, channel=7) == INVALID
    assert boot(client, 3) == 16


def test_only_root_resets(library: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        host = Host(Path(folder), library)
        host.double.start()
        client = host.client()
        client.send("become", 65534)
        assert (health(client, 3), reset(client, 3)) == ((OK, 0), NOT_PERMITTED)
        assert boot(client, 3) == 16
        host.close()


def test_a3_dies_reset_in_pairs(host: Host) -> None:
    host.double.start("Ascend910")
    host.double.set_option("boot-time", "1")
    client = host.client()
    host.double.raise_fault(3, 0, AICORE)
    assert reset(client, 3, 1) == OK
    assert [boot(client, 3, 0) == 16, boot(client, 3, 1) == 16] == [False, False]
    assert (boot(client, 2), boot(client, 4)) == (16, 16)
    assert wait_for_boot(client, 3)[-1] == 16
    assert codes(client, 3) == []
    host.double.set_processes(3, 0, {4711: 100})
    assert reset(client, 3, 1) == RESET_FAILED  # its twin is busy


def test_a_duo_resets_through_chip_0_only(host: Host) -> None:
    host.double.start("310P3")
    host.double.set_option("boot-time", "60")
    client = host.client()
    assert reset(client, 4, 1) == NOT_SUPPORTED
    assert reset(client, 4, 0) == OK
    assert health(client, 4, 1) == (OK, NOT_STARTED)
    assert health(client, 5, 0) == (OK, 0)


def test_with_hccs_all_chips_reset_together(host: Host) -> None:
    host.double.set_option("hccs", "on")
    host.double.set_option("boot-time", "60")
    client = host.client()
    host.double.set_processes(7, 0, {4711: 100})
    assert reset(client, 3) == RESET_FAILED
    host.double.set_processes(7, 0, {})
    assert reset(client, 3) == OK
    assert {health(client, card)[1] for card in range(8)} == {NOT_STARTED}


# --- the file and the log ------------------------------------------------------------------------


def test_the_log_says_who_called(host: Host) -> None:
    clients = [host.client(), host.client()]
    assert [call.pid for call in host.double.calls("init")] == [client.pid for client in clients]
    assert health(clients[0], 3) == (OK, 0)
    assert host.double.calls("get_device_health") == ()
    host.double.set_option("log", "calls")
    assert health(clients[1], 3) == (OK, 0)
    (call,) = host.double.calls("get_device_health")
    assert (call.pid, call.chip, call.result) == (clients[1].pid, "3.0", OK)


def test_the_driver_side_and_a_reset_do_not_undo_each_other(host: Host) -> None:
    client = host.client()
    host.double.set_option("boot-time", "0.001")
    client.send("set_device_reset", 3, 0, INBAND)
    for n in range(40):
        client.send("set_device_reset", 3, 0, INBAND)
        host.double.raise_fault(4, 0, f"80C980{n:02X}", curable=False)
    assert {client.answer() for _ in range(41)} == {OK}
    assert len(codes(client, 4)) == 40


def test_changes_of_one_size_in_one_moment_are_all_seen(host: Host) -> None:
    client = host.client()
    for n in range(50):
        host.double.raise_fault(3, 0, f"80E018{n:02X}", MAJOR)
        assert codes(client, 3) == [f"80E018{n:02X}"]
        host.double.clear_fault(3, 0, f"80E018{n:02X}")
