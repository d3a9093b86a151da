# SPDX-License-Identifier: MulanPSL-2.0
"""The double of libdcmi against the interface as the project's Ascend facts (2) have it.

The tables here were written from the facts, not from the double's header; a C program that holds
one against the other must compile.
"""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fakes.dcmi import HEADER, build, run_compiler, symbols

U8, U16, U32, U64 = "unsigned char", "unsigned short", "unsigned int", "unsigned long long"
ULONG = "unsigned long"


@dataclass(frozen=True)
class Struct:
    size: int  # on a 64 bit Linux, x86-64 and aarch64 alike
    fields: tuple[tuple[str, str, int], ...]  # type, name (with [length]), offset


COUNTS = ("single_bit_error_cnt", "double_bit_error_cnt")
ECC = (
    *COUNTS,
    *(f"total_{name}" for name in COUNTS),
    "single_bit_isolated_pages_cnt",
    "double_bit_isolated_pages_cnt",
    "single_bit_next_isolated_pages_cnt",
    "double_bit_next_isolated_pages_cnt",
)
CHIP = (
    (U8, "chip_type[32]", 0),
    (U8, "chip_name[32]", 32),
    (U8, "chip_ver[32]", 64),
    (U32, "aicore_cnt", 96),
)
HBM = (
    (U64, "memory_size", 0),
    (U32, "freq", 8),
    (U64, "memory_usage", 16),
    ("int", "temp", 24),
    (U32, "bandwith_util_rate", 28),
)
STRUCTS = {
    "dcmi_chip_info": Struct(100, CHIP),
    "dcmi_chip_info_v2": Struct(132, (*CHIP, (U8, "npu_name[32]", 100))),
    "dcmi_board_info": Struct(
        16, ((U32, "board_id", 0), (U32, "pcb_id", 4), (U32, "bom_id", 8), (U32, "slot_id", 12))
    ),
    "dcmi_pcie_info_all": Struct(
        64,
        (
            (U32, "venderid", 0),
            (U32, "subvenderid", 4),
            (U32, "deviceid", 8),
            (U32, "subdeviceid", 12),
            ("int", "domain", 16),
            (U32, "bdf_busid", 20),
            (U32, "bdf_deviceid", 24),
            (U32, "bdf_funcid", 28),
            (U8, "reserve[32]", 32),
        ),
    ),
    "dcmi_hbm_info": Struct(32, HBM),
    "dsmi_hbm_info_stru": Struct(32, HBM),
    "dcmi_get_memory_info_stru": Struct(
        112,
        (
            (U64, "memory_size", 0),
            (U64, "memory_available", 8),
            (U32, "freq", 16),
            (ULONG, "hugepagesize", 24),
            (ULONG, "hugepages_total", 32),
            (ULONG, "hugepages_free", 40),
            (U32, "utiliza", 48),
            (U8, "reserve[60]", 52),
        ),
    ),
    "dcmi_proc_mem_info": Struct(16, (("int", "proc_id", 0), (ULONG, "proc_mem_usage", 8))),
    "dcmi_event_filter": Struct(
        48,
        (
            (U64, "filter_flag", 0),
            (U32, "event_id", 8),
            (U8, "severity", 12),
            (U8, "node_type", 13),
            (U8, "resv[32]", 14),
        ),
    ),
    "dcmi_dms_fault_event": Struct(
        352,
        (
            (U32, "event_id", 0),
            (U16, "deviceid", 4),
            (U8, "node_type", 6),
            (U8, "node_id", 7),
            (U8, "sub_node_type", 8),
            (U8, "sub_node_id", 9),
            (U8, "severity", 10),
            (U8, "assertion", 11),
            ("int", "event_serial_num", 12),
            ("int", "notify_serial_num", 16),
            (U64, "alarm_raised_time", 24),
            ("char", "event_name[256]", 32),
            ("char", "additional_info[32]", 288),
            (U8, "os_id", 320),  # here the 32 reserved bytes begin
            (U16, "node_type_ex", 322),
            (U16, "sub_node_type_ex", 324),
        ),
    ),
    "dcmi_event": Struct(
        360,
        (("enum dcmi_event_type", "type", 0), ("struct dcmi_dms_fault_event", "event_t", 8)),
    ),
}

VALUES = {
    "DCMI_OK": 0,
    "DCMI_ERR_CODE_INVALID_PARAMETER": -8001,
    "DCMI_ERR_CODE_OPER_NOT_PERMITTED": -8002,
    "DCMI_ERR_CODE_MEM_OPERATE_FAIL": -8003,
    "DCMI_ERR_CODE_SECURE_FUN_FAIL": -8004,
    "DCMI_ERR_CODE_INNER_ERR": -8005,
    "DCMI_ERR_CODE_TIME_OUT": -8006,
    "DCMI_ERR_CODE_INVALID_DEVICE_ID": -8007,
    "DCMI_ERR_CODE_DEVICE_NOT_EXIST": -8008,
    "DCMI_ERR_CODE_IOCTL_FAIL": -8009,
    "DCMI_ERR_CODE_SEND_MSG_FAIL": -8010,
    "DCMI_ERR_CODE_RECV_MSG_FAIL": -8011,
    "DCMI_ERR_CODE_NOT_REDAY": -8012,
    "DCMI_ERR_CODE_NOT_SUPPORT_IN_CONTAINER": -8013,
    "DCMI_ERR_CODE_FILE_OPERATE_FAIL": -8014,
    "DCMI_ERR_CODE_RESET_FAIL": -8015,
    "DCMI_ERR_CODE_ABORT_OPERATE": -8016,
    "DCMI_ERR_CODE_IS_UPGRADING": -8017,
    "DCMI_ERR_CODE_RESOURCE_OCCUPIED": -8020,
    "DCMI_ERR_CODE_PARTITION_NOT_RIGHT": -8022,
    "DCMI_ERR_CODE_CONFIG_INFO_NOT_EXIST": -8023,
    "DCMI_ERR_CODE_NOT_SUPPORT": -8255,
    "NPU_TYPE": 0,
    "MCU_TYPE": 1,
    "CPU_TYPE": 2,
    "INVALID_TYPE": 0xFF,
    "OUTBAND_CHANNEL": 0,
    "INBAND_CHANNEL": 1,
    "DCMI_BOOT_STATUS_UNINIT": 0,
    "DCMI_BOOT_STATUS_BIOS": 1,
    "DCMI_BOOT_STATUS_OS": 2,
    "DCMI_BOOT_STATUS_FINISH": 3,
    "DCMI_SYSTEM_START_FINISH": 16,
    "DCMI_DEVICE_TYPE_DDR": 0,
    "DCMI_DEVICE_TYPE_SRAM": 1,
    "DCMI_DEVICE_TYPE_HBM": 2,
    "DCMI_DEVICE_TYPE_NPU": 3,
    "DCMI_DEVICE_TYPE_NONE": 0xFF,
    "DCMI_DMS_FAULT_EVENT": 0,
    "DCMI_EVENT_FILTER_FLAG_EVENT_ID": 1 << 0,
    "DCMI_EVENT_FILTER_FLAG_SERVERITY": 1 << 1,
    "DCMI_EVENT_FILTER_FLAG_NODE_TYPE": 1 << 2,
}

FUNCTIONS = {
    "dcmi_init": "void",
    "dcmi_get_dcmi_version": "char *, unsigned int",
    "dcmi_get_driver_version": "char *, unsigned int",
    "dcmi_get_card_list": "int *, int *, int",
    "dcmi_get_card_num_list": "int *, int *, int",
    "dcmi_get_device_num_in_card": "int, int *",
    "dcmi_get_device_id_in_card": "int, int *, int *, int *",
    "dcmi_get_device_type": "int, int, enum dcmi_unit_type *",
    "dcmi_get_device_chip_info": "int, int, struct dcmi_chip_info *",
    "dcmi_get_device_chip_info_v2": "int, int, struct dcmi_chip_info_v2 *",
    "dcmi_get_device_board_info": "int, int, struct dcmi_board_info *",
    "dcmi_get_device_pcie_info_v2": "int, int, struct dcmi_pcie_info_all *",
    "dcmi_get_device_power_info": "int, int, int *",
    "dcmi_get_device_health": "int, int, unsigned int *",
    "dcmi_get_device_errorcode_v2": "int, int, int *, unsigned int *, unsigned int",
    "dcmi_get_device_errorcode_string": "int, int, unsigned int, unsigned char *, int",
    "dcmi_get_device_boot_status": "int, int, enum dcmi_boot_status *",
    "dcmi_set_device_reset": "int, int, enum dcmi_reset_channel",
    "dcmi_get_device_temperature": "int, int, int *",
    "dcmi_get_device_ecc_info": "int, int, enum dcmi_device_type, struct dcmi_ecc_info *",
    "dcmi_get_device_hbm_info": "int, int, struct dcmi_hbm_info *",
    "dcmi_get_hbm_info": "int, int, struct dsmi_hbm_info_stru *",
    "dcmi_get_device_memory_info_v3": "int, int, struct dcmi_get_memory_info_stru *",
    "dcmi_get_device_utilization_rate": "int, int, int, unsigned int *",
    "dcmi_get_device_logic_id": "int *, int, int",
    "dcmi_get_product_type": "int, int, char *, int",
    "dcmi_subscribe_fault_event": (
        "int, int, struct dcmi_event_filter, void (*)(struct dcmi_event *)"
    ),
    "dcmi_get_device_resource_info": "int, int, struct dcmi_proc_mem_info *, int *",
    "dcmi_get_device_phyid_from_logicid": "unsigned int, unsigned int *",
    "dcmi_get_device_logicid_from_phyid": "unsigned int, unsigned int *",
    "dcmi_get_driver_health": "unsigned int *",
}


def ecc_struct(numbers: int) -> Struct:
    counts = ((U32, name, 4 * n + 4) for n, name in enumerate(ECC[: numbers - 1]))
    return Struct(4 * numbers, (("int", "enable_flag", 0), *counts))


def write_program(structs: dict[str, Struct], values: dict[str, int]) -> str:
    lines = ["#include <stddef.h>", f'#include "{HEADER}"']
    lines += [f'_Static_assert({name} == {value}, "{name}");' for name, value in values.items()]
    for name, struct in structs.items():
        lines.append(f'_Static_assert(sizeof(struct {name}) == {struct.size}, "{name}");')
        for kind, field, offset in struct.fields:
            member, bracket, length = field.partition("[")
            at, here = f"offsetof(struct {name}, {member})", f"((struct {name} *)0)->{member}"
            lines.append(f'_Static_assert({at} == {offset}, "{name}.{member} is elsewhere");')
            lines.append(
                f"_Static_assert(sizeof({here}) == sizeof({kind}{bracket}{length}), "
                f'"{name}.{member} has another size");'
            )
            if bracket or kind.startswith(("enum", "struct")):
                continue
            lines.append(
                f"_Static_assert(_Generic({here}, {kind}: 1, default: 0), "
                f'"{name}.{member} has another type");'
            )
    for name, parameters in FUNCTIONS.items():
        lines.append(f"int (*const check_{name})({parameters}) = {name};")
    return "\n".join(lines) + "\n"


def compile_check(folder: Path, structs: dict[str, Struct], numbers: int) -> None:
    source = folder / "check.c"
    source.write_text(write_program(structs, VALUES), encoding="ascii")
    run_compiler("-c", f"-DDCMI_ECC_NUMBERS={numbers}", "-o", f"{folder}/check.o", str(source))


@pytest.mark.parametrize("numbers", [7, 9])
def test_the_header_says_what_the_facts_say(tmp_path: Path, numbers: int) -> None:
    compile_check(tmp_path, STRUCTS | {"dcmi_ecc_info": ecc_struct(numbers)}, numbers)


@pytest.mark.parametrize(
    ("name", "wrong", "complaint"),
    [
        ("dcmi_ecc_info", ecc_struct(9), "dcmi_ecc_info"),
        ("dcmi_proc_mem_info", Struct(16, ((U32, "proc_id", 0),)), "proc_id has another type"),
        ("dcmi_event", Struct(360, (("int", "event_t", 4),)), "event_t is elsewhere"),
    ],
)
def test_the_check_notices_a_difference(
    tmp_path: Path, name: str, wrong: Struct, complaint: str
) -> None:
    with pytest.raises(RuntimeError, match=complaint):
        compile_check(tmp_path, {name: wrong}, 7)


def exported(library: Path) -> set[str]:
    command = ["nm", "-D", "--defined-only", "--format=posix", str(library)]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {line.split()[0] for line in listing.splitlines()}


def test_each_function_is_exported_and_nothing_else(tmp_path: Path) -> None:
    assert exported(build(tmp_path)) == set(FUNCTIONS) == set(symbols())


def test_symbols_can_be_missing(tmp_path: Path) -> None:
    missing = {"dcmi_subscribe_fault_event", "dcmi_get_device_chip_info_v2"}
    assert exported(build(tmp_path, missing)) == set(FUNCTIONS) - missing
    with pytest.raises(ValueError, match="dcmi_get_nothing"):
        build(tmp_path, {"dcmi_get_nothing"})


def test_the_library_needs_nothing_but_the_c_library(tmp_path: Path) -> None:
    """It is copied into hosts that have no more."""
    command = ["readelf", "-d", str(build(tmp_path))]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    needed = {line.split("[")[1].rstrip("]") for line in listing.splitlines() if "(NEEDED)" in line}
    assert needed <= {"libc.so.6", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}
