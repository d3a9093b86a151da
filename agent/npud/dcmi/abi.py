# SPDX-License-Identifier: MulanPSL-2.0
"""libdcmi's binary interface, as far as it is used: structs, numbers, names of functions.

From facts: ascend 2 (the numbers there are lines of dcmi_interface_api.h). Where two versions of
the header disagree about a size, the buffer here is larger than both: libdcmi writes into it.
"""

from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_char,
    c_char_p,
    c_int,
    c_ubyte,
    c_uint,
    c_ulong,
    c_ulonglong,
    c_ushort,
    c_void_p,
)

PLACES = ("/usr/local/dcmi/libdcmi.so", "/usr/lib64/libdcmi.so")

MAX_CARDS = 64
MAX_CODES = 128  # of dcmi_get_device_errorcode_v2
MAX_PROCESSES = 32  # of dcmi_get_device_resource_info
TEXT_BYTES = 256
ALL = -1  # card and device of a subscription

OK = 0
NOT_PERMITTED = -8002
NOT_LOADED = -8005
DROPPED = -8012
OCCUPIED = -8020
NOT_SUPPORTED = -8255
MISSING = -99998  # not of libdcmi: the symbol is not there

CODE_NAMES = {
    -8001: "INVALID_PARAMETER",
    -8002: "OPER_NOT_PERMITTED",
    -8003: "MEM_OPERATE_FAIL",
    -8004: "SECURE_FUN_FAIL",
    -8005: "INNER_ERR",
    -8006: "TIME_OUT",
    -8007: "INVALID_DEVICE_ID",
    -8008: "DEVICE_NOT_EXIST",
    -8009: "IOCTL_FAIL",
    -8010: "SEND_MSG_FAIL",
    -8011: "RECV_MSG_FAIL",
    -8012: "NOT_REDAY",
    -8013: "NOT_SUPPORT_IN_CONTAINER",
    -8014: "FILE_OPERATE_FAIL",
    -8015: "RESET_FAIL",
    -8016: "ABORT_OPERATE",
    -8017: "IS_UPGRADING",
    -8020: "RESOURCE_OCCUPIED",
    -8022: "PARTITION_NOT_RIGHT",
    -8023: "CONFIG_INFO_NOT_EXIST",
    -8255: "NOT_SUPPORT",
    MISSING: "not in this libdcmi",
}

UNIT_NPU = 0  # of dcmi_get_device_type
ECC_DDR, ECC_HBM = 0, 2
RATE_AICORE = 2
DMS_FAULT_EVENT = 0
RESET_INBAND = 1
BOOTED = 16


class ChipInfo(Structure):  # 74, 81: the second version has npu_name behind the first
    _fields_ = (
        ("chip_type", c_char * 32),
        ("chip_name", c_char * 32),
        ("chip_ver", c_char * 32),
        ("aicore_cnt", c_uint),
        ("npu_name", c_char * 32),
        ("spare", c_ubyte * 64),
    )


class PcieInfo(Structure):  # 99
    _fields_ = (
        ("venderid", c_uint),
        ("subvenderid", c_uint),
        ("deviceid", c_uint),
        ("subdeviceid", c_uint),
        ("domain", c_int),
        ("bdf_busid", c_uint),
        ("bdf_deviceid", c_uint),
        ("bdf_funcid", c_uint),
        ("reserve", c_ubyte * 32),
        ("spare", c_ubyte * 64),
    )


class BoardInfo(Structure):  # 119
    _fields_ = (
        ("board_id", c_uint),
        ("pcb_id", c_uint),
        ("bom_id", c_uint),
        ("slot_id", c_uint),
        ("spare", c_ubyte * 64),
    )


class EccInfo(Structure):  # 175: seven numbers, or nine
    _fields_ = (
        ("enable_flag", c_int),
        ("single_bit_error_cnt", c_uint),
        ("double_bit_error_cnt", c_uint),
        ("total_single_bit_error_cnt", c_uint),
        ("total_double_bit_error_cnt", c_uint),
        ("single_bit_isolated_pages_cnt", c_uint),
        ("double_bit_isolated_pages_cnt", c_uint),
        ("spare", c_ubyte * 128),
    )


class HbmInfo(Structure):  # 185
    _fields_ = (
        ("memory_size", c_ulonglong),  # MB
        ("freq", c_uint),
        ("memory_usage", c_ulonglong),  # MB
        ("temp", c_int),
        ("bandwidth_percent", c_uint),
        ("spare", c_ubyte * 64),
    )


class MemoryInfo(Structure):  # 199
    _fields_ = (
        ("memory_size", c_ulonglong),  # MB
        ("memory_available", c_ulonglong),  # MB
        ("freq", c_uint),
        ("hugepagesize", c_ulong),
        ("hugepages_total", c_ulong),
        ("hugepages_free", c_ulong),
        ("utilization", c_uint),
        ("reserve", c_ubyte * 60),
        ("spare", c_ubyte * 64),
    )


class ProcessMemory(Structure):  # 290
    _fields_ = (("proc_id", c_int), ("proc_mem_usage", c_ulong))  # bytes


class EventFilter(Structure):  # 1029; all zero: every event
    _fields_ = (
        ("filter_flag", c_ulonglong),
        ("event_id", c_uint),
        ("severity", c_ubyte),
        ("node_type", c_ubyte),
        ("resv", c_ubyte * 32),
    )


class FaultEvent(Structure):  # 1037
    _fields_ = (
        ("event_id", c_uint),
        ("deviceid", c_ushort),
        ("node_type", c_ubyte),
        ("node_id", c_ubyte),
        ("sub_node_type", c_ubyte),
        ("sub_node_id", c_ubyte),
        ("severity", c_ubyte),
        ("assertion", c_ubyte),
        ("event_serial_num", c_int),
        ("notify_serial_num", c_int),
        ("alarm_raised_time", c_ulonglong),  # ms since the epoch
        ("event_name", c_char * 256),
        ("additional_info", c_char * 32),
        ("resv", c_ubyte * 32),
    )


class Event(Structure):  # 1066: the union has this one member
    _fields_ = (("type", c_int), ("dms_event", FaultEvent))


Callback = CFUNCTYPE(None, POINTER(Event))

_INT = POINTER(c_int)
_UINT = POINTER(c_uint)

# Without "dcmi_". Where the header says enum or a pointer to one, an int is what is passed.
# c_void_p stands for every struct whose buffer is larger than the header's.
SIGNATURES: dict[str, tuple[object, ...]] = {
    "init": (),  # 2001
    "get_driver_version": (c_char_p, c_uint),  # 2005
    "get_card_list": (_INT, _INT, c_int),  # 2007
    "get_card_num_list": (_INT, _INT, c_int),  # 3613
    "get_device_num_in_card": (c_int, _INT),  # 2009
    "get_device_id_in_card": (c_int, _INT, _INT, _INT),  # 2011
    "get_device_type": (c_int, c_int, _INT),  # 2013
    "get_device_chip_info": (c_int, c_int, c_void_p),  # 2015
    "get_device_chip_info_v2": (c_int, c_int, c_void_p),  # 2017
    "get_device_board_info": (c_int, c_int, c_void_p),
    "get_device_pcie_info_v2": (c_int, c_int, c_void_p),
    "get_device_power_info": (c_int, c_int, _INT),  # 2027
    "get_device_health": (c_int, c_int, _UINT),  # 2041
    "get_device_errorcode_v2": (c_int, c_int, _INT, _UINT, c_uint),  # 2043
    "get_device_errorcode_string": (c_int, c_int, c_uint, c_char_p, c_int),  # 2046
    "get_device_boot_status": (c_int, c_int, _INT),  # 2058
    "set_device_reset": (c_int, c_int, c_int),  # 2064
    "get_device_temperature": (c_int, c_int, _INT),  # 2076
    "get_device_ecc_info": (c_int, c_int, c_int, c_void_p),  # 2082
    "get_device_hbm_info": (c_int, c_int, c_void_p),  # 2090
    "get_device_memory_info_v3": (c_int, c_int, c_void_p),  # 2094
    "get_device_utilization_rate": (c_int, c_int, c_int, _UINT),  # 2097
    "get_device_logic_id": (_INT, c_int, c_int),  # 2155: the answer comes first
    "subscribe_fault_event": (c_int, c_int, EventFilter, Callback),  # 2213
    "get_device_resource_info": (c_int, c_int, POINTER(ProcessMemory), _INT),  # 2216
    "get_device_phyid_from_logicid": (c_uint, _UINT),  # 2225
}


def name_of_code(code: int) -> str:
    """ "-8010 (SEND_MSG_FAIL)"."""
    return f"{code} ({CODE_NAMES[code]})" if code in CODE_NAMES else str(code)
