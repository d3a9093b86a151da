# SPDX-License-Identifier: MulanPSL-2.0
"""What libdcmi tells of each product, and what is left when it tells less."""

import os
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from agent.model import (
    DriverState,
    FaultSeverity,
    Inventory,
    NpuHealth,
    NpuProcess,
    NpuReadings,
    ProductLine,
    ResetOutcome,
    product_line,
)
from agent.npud.dcmi import abi
from agent.npud.dcmi.numbers import UNTOLD, without_doubles
from agent.npud.dcmi.reader import bus_id_of
from tests.unit.npud.dcmi_driver import Reading

# Symbol -> what is not told without it; "": something else tells it as well.
OPTIONAL = {
    "dcmi_get_card_list": "",
    "dcmi_get_device_id_in_card": "",
    "dcmi_get_device_type": "",
    "dcmi_get_device_chip_info_v2": "",
    "dcmi_get_device_board_info": "board_id",
    "dcmi_get_device_pcie_info_v2": "bus_id",
    "dcmi_get_driver_version": "driver_version",
    "dcmi_get_device_resource_info": "processes processes_told",
    "dcmi_get_device_hbm_info": "memory_mib memory_used_mib memory_percent hbm_temperature_c",
    "dcmi_get_device_power_info": "power_w",
    "dcmi_get_device_boot_status": "boot_status",
    "dcmi_get_device_temperature": "temperature_c",
    "dcmi_get_device_ecc_info": "ecc_single ecc_double isolated_pages",
    "dcmi_get_device_utilization_rate": "utilization_percent",
    "dcmi_get_device_errorcode_string": "text",
    "dcmi_get_device_errorcode_v2": "faults text",
    "dcmi_get_device_phyid_from_logicid": "node_told",
}


@pytest.fixture
def reading(tmp_path: Path) -> Iterator[Reading]:
    it = Reading(tmp_path)
    yield it
    it.close()


def test_910b(reading: Reading) -> None:
    seen = reading.start()
    assert (seen.source, seen.board_id, seen.detail) == ("dcmi", 0x33, "")
    assert seen.driver_version
    assert [(npu.logic_id, npu.card_id, npu.chip_id) for npu in seen.npus] == [
        (n, n, 0) for n in range(8)
    ]
    assert {(npu.product, npu.health, npu.memory_mib, npu.reason) for npu in seen.npus} == {
        ("910B3", NpuHealth.OK, 65536, "")
    }
    assert all(npu.faults == () for npu in seen.npus)
    assert [npu.bus_id for npu in seen.npus] == [f"0000:{0xC1 + n:02X}:00.0" for n in range(8)]


def test_a3_has_two_chips_a_card(reading: Reading) -> None:
    seen = reading.start("Ascend910")
    assert [(npu.logic_id, npu.card_id, npu.chip_id) for npu in seen.npus] == [
        (n, n // 2, n % 2) for n in range(16)
    ]
    assert {product_line(npu.product) for npu in seen.npus} == {ProductLine.A3}
    assert seen.board_id == 0xB0


def test_duo_has_cards_with_gaps_and_no_hbm(reading: Reading) -> None:
    reading.double.start("310P3")
    reading.double.set_value(4, 1, "ecc", "3 1 9 2 4 5")
    seen = reading.read()
    assert [(npu.card_id, npu.chip_id) for npu in seen.npus] == [
        (card, chip) for card in (1, 2, 4, 5) for chip in (0, 1)
    ]
    assert {npu.product for npu in seen.npus} == {"310P3"}
    assert seen.npus[0].memory_mib == 44280
    assert seen.npus[0].memory_used_mib == 1414
    assert seen.npus[0].readings.hbm_temperature_c is None
    found = seen.npus[5].readings
    assert (found.ecc_single, found.ecc_double, found.isolated_pages) == (3, 1, 9)


def test_a_chip_is_named_by_its_node(reading: Reading) -> None:
    """Card 2 did not come up at boot: the driver's logic ids go on without it, the nodes do not."""
    reading.double.start()
    reading.double.remove_card(2, at_boot=True)
    reading.double.raise_fault(5, 0, "80E01801")
    reading.double.set_processes(6, 0, {os.getpid(): 5})
    seen = reading.read()
    present = [0, 1, 3, 4, 5, 6, 7]
    assert [(npu.logic_id, npu.card_id) for npu in seen.npus] == [(n, n) for n in present]
    assert all(npu.node_told for npu in seen.npus)
    assert [npu.logic_id for npu in seen.npus if npu.health is not NpuHealth.OK] == [5]
    assert [npu.logic_id for npu in seen.npus if npu.processes] == [6]
    reading.double.raise_fault(7, 0, "80E18005")  # by an event, which names the logic id
    reading.run(lambda: bool(reading.npu(7).faults))
    assert [npu.logic_id for npu in reading.last.npus if npu.faults] == [5, 7]


def test_a_number_that_two_chips_claim_is_of_neither() -> None:
    """But a node that is told comes before one that is not."""
    a, b, c = (0, 0, 0, 0), (1, 0, 1, 2), (2, 0, 2, UNTOLD)
    assert without_doubles([a, b, c]) == (a, b)
    assert without_doubles([a, b, (2, 0, 2, 2)]) == (a,)
    assert without_doubles([a, b, (2, 0, 1, 3)]) == (a,)
    assert without_doubles([a, b, (3, 0, 3, UNTOLD)]) == (a, b, (3, 0, 3, UNTOLD))


@pytest.mark.parametrize("layout", [7, 9])
def test_readings(reading: Reading, layout: int) -> None:
    reading.make(ecc_layout=layout)
    reading.double.start()
    me = os.getpid()
    for key, value in {
        "temperature": 71,
        "hbm-temperature": 66,
        "power": 1035,
        "ecc": "1 2 30 40 5 6 70 80",
        "utilization": "2 37",
    }.items():
        reading.double.set_value(2, 0, key, value)
    reading.double.set_value(2, 0, "used", 32768)
    reading.double.set_processes(2, 0, {me: 1000, 4_000_000: 5})
    npu = reading.read().npus[2]
    name = Path(f"/proc/{me}/comm").read_text(encoding="ascii").strip()
    assert npu.processes == (NpuProcess(me, name, 1000), NpuProcess(4_000_000, "", 5))
    assert (npu.memory_used_mib, npu.memory_mib) == (32768, 65536)
    assert npu.readings == NpuReadings(
        temperature_c=71,
        power_w=103.5,
        utilization_percent=37,
        memory_percent=50,
        hbm_temperature_c=66,
        ecc_single=1,
        ecc_double=2,
        isolated_pages=11,
        boot_status=16,
    )


def test_a_list_of_processes_that_cannot_be_is_not_told(reading: Reading) -> None:
    """Or nobody would seem to use the chip, and it could be reset."""
    reading.double.start(cards=1)
    reading.double.set_processes(0, 0, {os.getpid(): 1000, 0: 5})
    npu = reading.read().npus[0]
    assert (npu.processes_told, npu.processes) == (False, ())
    why = "the driver does not say what uses chip 0.0"
    assert reading.reset(0) == (ResetOutcome.BUSY, why)


def test_a_chip_with_an_impossible_memory_does_not_blind_npud(reading: Reading) -> None:
    """It was no message of the process that asks, which was ended: no chip was known any more."""
    reading.double.start(cards=2)
    reading.double.set_value(1, 0, "memory", -1)
    seen = reading.read()
    assert seen.driver is DriverState.READY
    assert [(npu.health, npu.memory_mib) for npu in seen.npus] == [
        (NpuHealth.OK, 65536),
        (NpuHealth.OK, 0),
    ]


def test_more_memory_used_than_there_is_is_not_told(reading: Reading) -> None:
    """Or it would seem to be full, and left so by an engine."""
    reading.double.start(cards=1)
    reading.double.set_value(0, 0, "used", 4_294_967_295)
    npu = reading.read().npus[0]
    assert (npu.memory_mib, npu.memory_used_mib) == (65536, 0)
    assert npu.readings.memory_percent is None
    assert not npu.has_memory_left()


@pytest.mark.parametrize("health", range(4))
def test_health(reading: Reading, health: int) -> None:
    reading.double.start(cards=2)
    reading.double.set_health(1, 0, health)
    seen = reading.read()
    assert [npu.health.value for npu in seen.npus] == [
        "ok",
        ("ok", "warning", "alarm", "critical")[health],
    ]


@pytest.mark.parametrize(("health", "why"), [(0xFFFFFFFF, "absent or not"), (4, "health 4")])
def test_health_that_is_none(reading: Reading, health: int, why: str) -> None:
    reading.double.start(cards=1)
    reading.double.set_health(0, 0, health)
    npu = reading.read().npus[0]
    assert npu.health is NpuHealth.UNKNOWN
    assert why in npu.reason


def told(seen: Inventory) -> dict[str, object]:
    """Every value that says something, of the inventory and of its first chip."""
    npu = seen.npus[0]
    values = {**asdict(seen), **asdict(npu), **asdict(npu.readings)}
    values["text"] = "".join(fault.text for fault in npu.faults)
    for nested in ("npus", "readings", "read_at"):
        del values[nested]
    values["faults"] = [fault.code for fault in npu.faults]
    empty: tuple[object, ...] = (None, "", 0, (), [])
    return {name: value for name, value in values.items() if value not in empty}


@pytest.mark.parametrize("symbol", OPTIONAL)
def test_a_missing_symbol_is_a_missing_feature(reading: Reading, symbol: str) -> None:
    reading.double.start("Ascend910", cards=2)
    reading.double.raise_fault(0, 0, "80E01801", text="words")
    reading.double.set_processes(0, 0, {os.getpid(): 5})
    reading.double.set_value(0, 0, "ecc", "1 2 3 4 5 6")
    reading.double.set_value(0, 0, "utilization", "2 37")
    whole = told(reading.read())
    reading.make(missing=[symbol])
    seen = reading.read()
    assert [npu.logic_id for npu in seen.npus] == [0, 1, 2, 3]
    assert [npu.health.value for npu in seen.npus] == ["critical", "ok", "ok", "ok"]
    left = {name: value for name, value in whole.items() if name not in OPTIONAL[symbol].split()}
    assert told(seen) == left


def test_nothing_but_the_least(reading: Reading) -> None:
    keep = {"dcmi_get_card_list", "dcmi_get_device_id_in_card"}
    reading.make(missing=OPTIONAL.keys() - keep)
    npu = reading.start(cards=1).npus[0]
    assert (npu.health, npu.product, npu.memory_mib) == (NpuHealth.OK, "910B3", 0)
    assert npu.readings == NpuReadings()


def test_no_health_is_unknown(reading: Reading) -> None:
    reading.make(missing=["dcmi_get_device_health"])
    npu = reading.start(cards=1).npus[0]
    assert npu.health is NpuHealth.UNKNOWN
    assert "not in this libdcmi" in npu.reason


def test_without_the_list_of_codes_faults_come_by_events(reading: Reading) -> None:
    reading.make(missing=["dcmi_get_device_errorcode_v2"])
    reading.start(cards=1)
    reading.double.raise_fault(0, 0, "80E01801")
    reading.run(lambda: bool(reading.npu(0).faults))
    reading.read()
    assert [fault.code for fault in reading.npu(0).faults] == ["80E01801"]


def test_codes_that_were_there_before(reading: Reading) -> None:
    """No event tells them: found by the first look, without a severity."""
    reading.double.start()
    text = "node type=HBM, sensor type=Memory, event state=multi bit " + "x" * 150
    reading.double.raise_fault(3, 0, "80E01801", severity=2, text=text)
    reading.double.raise_fault(3, 0, "80E18402", severity=3, text="b")
    before = time.time()
    npu = reading.read().npus[3]
    assert npu.health is NpuHealth.CRITICAL
    first, second = npu.faults
    assert (first.code, first.severity) == ("80E01801", FaultSeverity.UNKNOWN)
    assert first.text == text
    assert abs(first.raised_at - before) < 10
    assert (second.code, second.text, second.one_off) == ("80E18402", "b", False)
    assert reading.read().npus[3].faults == npu.faults  # raised_at included


def test_a_card_that_drops(reading: Reading) -> None:
    reading.start()
    reading.double.set_option("log", "calls")
    reading.double.drop(5, 0)
    seen = reading.read()
    npu = seen.npus[5]
    assert (seen.driver, npu.health) == (DriverState.READY, NpuHealth.UNKNOWN)
    assert npu.reason == "card dropped (-8012)"
    assert [(f.code, f.severity) for f in npu.faults] == [("40F84E00", FaultSeverity.CRITICAL)]
    assert npu.product == "910B3"  # known from before
    asked = [call.function for call in reading.double.calls() if call.chip == "5.0"]
    assert asked[-1] == "get_device_health"  # and nothing after it, which could block
    reading.double.undrop(5, 0)
    npu = reading.read().npus[5]
    assert (npu.health, npu.faults, npu.reason) == (NpuHealth.OK, (), "")


def test_a_card_that_drops_and_comes_back_where_no_codes_are_told(reading: Reading) -> None:
    """An old driver has no get_device_errorcode_v2; for ever dropped, it would be reset and set
    aside although it is well."""
    reading.make(missing=["dcmi_get_device_errorcode_v2"])
    reading.start()
    reading.double.drop(5, 0)
    assert [fault.code for fault in reading.read().npus[5].faults] == ["40F84E00"]
    reading.double.undrop(5, 0)
    npu = reading.read().npus[5]
    assert (npu.health, npu.faults, npu.reason) == (NpuHealth.OK, (), "")


def test_a_card_that_is_not_listed_any_more_is_not_forgotten(reading: Reading) -> None:
    reading.start()
    reading.double.remove_card(2)
    npu = reading.read().npus[2]
    assert (npu.logic_id, npu.health) == (2, NpuHealth.UNKNOWN)
    assert npu.reason == "the driver does not list it any more"


def test_a_health_that_cannot_be_read_is_unknown_with_the_code(reading: Reading) -> None:
    reading.start(cards=2)
    reading.double.fail("get_device_health", -8010, card=1)
    first, second = reading.read().npus
    assert (first.health, second.health) == (NpuHealth.OK, NpuHealth.UNKNOWN)
    assert second.reason == "get_device_health: -8010 (SEND_MSG_FAIL)"


def test_a_place_on_the_bus_that_was_no_place_is_asked_for_again(reading: Reading) -> None:
    """A driver that has just come up may say 0xFFFFFFFF once; the worker lives for months."""
    reading.double.start(cards=1)
    reading.double.set_value(0, 0, "bus", 0xFFFFFFFF)
    assert reading.read().npus[0].bus_id == ""
    reading.double.set_value(0, 0, "bus", 0x82)
    assert reading.read().npus[0].bus_id == "0000:82:00.0"
    reading.double.set_value(0, 0, "bus", 0x83)
    assert reading.read().npus[0].bus_id == "0000:82:00.0"  # it is where it is


@pytest.mark.parametrize(
    ("place", "bus_id"),
    [
        ((0, 0xC1, 0, 0), "0000:C1:00.0"),
        ((1, 1, 0x1F, 7), "0001:01:1F.7"),
        ((-1, 1, 0, 0), ""),  # no such place on a PCI bus
        ((0, 256, 0, 0), ""),
        ((0, 1, 32, 0), ""),
        ((0, 1, 0, 8), ""),
    ],
)
def test_a_place_on_the_bus(place: tuple[int, int, int, int], bus_id: str) -> None:
    domain, bus, device, function = place
    info = abi.PcieInfo(domain=domain, bdf_busid=bus, bdf_deviceid=device, bdf_funcid=function)
    assert bus_id_of(info) == bus_id
