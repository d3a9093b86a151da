# SPDX-License-Identifier: MulanPSL-2.0
"""Asks libdcmi: a chip comes in, plain values go out. Each optional reading may be missing.

Health and codes are asked for first: they are what is waited for. A chip that has dropped off
(-8012) is asked for nothing more, since calls on it can block (facts: ascend 2). A number that
cannot be is not told: npud would take it, or, where link.py does not carry it, end the process.
"""

import ctypes
import time
from ctypes import byref

from agent.model import MAX_LOGIC_ID, NpuProcess, NpuReadings
from agent.npud.dcmi import abi
from agent.npud.dcmi.library import Library
from agent.npud.dcmi.link import clean
from agent.npud.dcmi.messages import (
    ChipKey,
    Details,
    Listed,
    State,
)
from agent.npud.dcmi.numbers import UNTOLD, without_doubles

MAX_CHIPS_IN_CARD = 16
MAX_CHIPS = 256  # what one message carries
MAX_TEXTS = 512
MIB = 1024 * 1024
MAX_MEMORY_MIB = 4 * 1024 * 1024  # of a chip, and far above any
MAX_PID = 4 * 1024 * 1024  # Linux: PID_MAX_LIMIT
ALL_ONES = 0xFFFFFFFF  # "no value" of a count


class DriverRefused(Exception):
    """The list of cards is not told."""

    def __init__(self, call: str, code: int) -> None:
        super().__init__(call, code)
        self.call = call
        self.code = code


class Reader:
    def __init__(self, library: Library) -> None:
        self._library = library
        self._products: dict[ChipKey, str] = {}
        self._boards: dict[ChipKey, int] = {}
        self._bus_ids: dict[ChipKey, str] = {}
        self._texts: dict[int, str] = {}  # of error codes

    # --- which chips there are -------------------------------------------------------------------

    def list_chips(self, leave_out: tuple[ChipKey, ...]) -> Listed:
        """Raises DriverRefused."""
        chips = [
            (card, chip, logic_id, self._node_of(card, chip, logic_id))
            for card in self._cards()
            if (card, -1) not in leave_out
            for chip in self._chips(card)
            if (card, chip) not in leave_out
            for logic_id in self._logic_ids(card, chip)
        ]
        return Listed(without_doubles(chips)[:MAX_CHIPS], self._driver_version())

    def lists(self, key: ChipKey) -> bool:
        """Whether this process can ask it: dcmi_init leaves out, for good, each card that does not
        answer then."""
        try:
            return key[0] in self._cards()
        except DriverRefused:
            return True

    def _cards(self) -> list[int]:
        count = ctypes.c_int(0)
        cards = (ctypes.c_int * abi.MAX_CARDS)()
        names = ("get_card_list", "get_card_num_list")
        name = next((name for name in names if self._library.has(name)), names[0])
        code = self._library.call(name, byref(count), cards, abi.MAX_CARDS)
        if code != abi.OK:
            raise DriverRefused(f"dcmi_{name}", code)
        numbers = cards[: max(0, min(count.value, abi.MAX_CARDS))]
        return [card for card in dict.fromkeys(numbers) if card >= 0]

    def _chips(self, card: int) -> range:
        count, mcu, cpu = ctypes.c_int(0), ctypes.c_int(-1), ctypes.c_int(-1)
        name = "get_device_id_in_card"
        code = self._library.call(name, card, byref(count), byref(mcu), byref(cpu), card=card)
        if code == abi.MISSING:
            name = "get_device_num_in_card"
            code = self._library.call(name, card, byref(count), card=card)
        # What is behind the NPUs of a card (MCU, CPU) is told by its own id, or by its type.
        others = [number for number in (mcu.value, cpu.value) if number >= 0]
        end = min([count.value, MAX_CHIPS_IN_CARD, *others])
        return range(end if code == abi.OK else 0)

    def _logic_ids(self, card: int, chip: int) -> list[int]:
        """One, or none for what is no NPU."""
        kind, logic_id = ctypes.c_int(0xFF), ctypes.c_int(-1)
        code = self._on("get_device_type", card, chip, byref(kind))
        if code == abi.OK and kind.value != abi.UNIT_NPU:
            return []
        code = self._library.call(
            "get_device_logic_id", byref(logic_id), card, chip, card=card, chip=chip
        )
        told = code == abi.OK and 0 <= logic_id.value <= MAX_LOGIC_ID
        return [logic_id.value] if told else []

    def _node_of(self, card: int, chip: int, logic_id: int) -> int:
        node = ctypes.c_uint(ALL_ONES)
        name = "get_device_phyid_from_logicid"
        code = self._library.call(name, logic_id, byref(node), card=card, chip=chip)
        return node.value if code == abi.OK and node.value <= MAX_LOGIC_ID else UNTOLD

    def _driver_version(self) -> str:
        buffer = ctypes.create_string_buffer(abi.TEXT_BYTES)
        code = self._library.call("get_driver_version", buffer, abi.TEXT_BYTES)
        return clean(buffer.value) if code == abi.OK else ""

    # --- one chip --------------------------------------------------------------------------------

    def read_state(self, key: ChipKey) -> State:
        health = ctypes.c_uint(0xFFFFFFFF)
        code = self._on("get_device_health", *key, byref(health))
        if code == abi.DROPPED:
            return State(key, None, code, None, time.monotonic())
        asked_at = time.monotonic()
        faults = self._faults(key)
        return State(key, health.value if code == abi.OK else None, code, faults, asked_at)

    def tells_codes(self) -> bool:
        return self._library.has("get_device_errorcode_v2")

    def _faults(self, key: ChipKey) -> tuple[tuple[int, str], ...] | None:
        count = ctypes.c_int(0)
        codes = (ctypes.c_uint * abi.MAX_CODES)()
        told = self._on("get_device_errorcode_v2", *key, byref(count), codes, abi.MAX_CODES)
        if told != abi.OK:
            return None
        number = max(0, min(count.value, abi.MAX_CODES))
        return tuple((code, self._text_of(key, code)) for code in dict.fromkeys(codes[:number]))

    def _text_of(self, key: ChipKey, code: int) -> str:
        known = self._texts.get(code)
        if known is not None:
            return known
        buffer = ctypes.create_string_buffer(abi.TEXT_BYTES)
        told = self._on("get_device_errorcode_string", *key, code, buffer, abi.TEXT_BYTES)
        text = clean(buffer.value) if told == abi.OK else ""
        if text and len(self._texts) < MAX_TEXTS:
            self._texts[code] = text
        return text

    def read_details(self, key: ChipKey) -> Details:
        temperature = self._int("get_device_temperature", key)
        power = self._int("get_device_power_info", key)
        size, used, hbm_temperature = self.read_memory(key)
        ecc = self._ecc(key)
        boot_status = self.read_boot_status(key)
        return Details(
            chip=key,
            product=self._product(key),
            memory_mib=size,
            memory_used_mib=used or 0,
            bus_id=self._bus_id(key),
            board_id=self._board_id(key),
            processes=self.read_processes(key),
            readings=NpuReadings(
                temperature_c=_plausible(temperature, -100, 300),
                power_w=power / 10 if power is not None and 0 <= power < 100_000 else None,
                utilization_percent=self._aicore_percent(key),
                memory_percent=used * 100 // size if size and used is not None else None,
                hbm_temperature_c=_plausible(hbm_temperature, -100, 300),
                ecc_single=_count(ecc.single_bit_error_cnt) if ecc else None,
                ecc_double=_count(ecc.double_bit_error_cnt) if ecc else None,
                isolated_pages=_isolated(ecc) if ecc else None,
                boot_status=_plausible(boot_status, 0, 0xFF),
            ),
        )

    def read_boot_status(self, key: ChipKey) -> int | None:
        return self._int("get_device_boot_status", key)

    def read_processes(self, key: ChipKey) -> tuple[NpuProcess, ...] | None:
        """None: not told, or not so that it can be. Nobody resets a chip then."""
        # More room than libdcmi is said to fill: this count is nobody's to check.
        rows = (abi.ProcessMemory * (abi.MAX_PROCESSES * 4))()
        count = ctypes.c_int(0)
        code = self._on("get_device_resource_info", *key, rows, byref(count))
        if code != abi.OK or not 0 <= count.value <= len(rows):
            return None
        told = rows[: count.value]
        if not all(map(_can_be, told)):
            return None
        return tuple(
            NpuProcess(row.proc_id, _name_of(row.proc_id), row.proc_mem_usage // MIB)
            for row in told
        )

    def reset(self, key: ChipKey) -> int:
        return self._on("set_device_reset", *key, abi.RESET_INBAND)

    def _product(self, key: ChipKey) -> str:
        if key not in self._products:
            product = self._ask_product(key)
            if not product:
                return ""
            self._products[key] = product
        return self._products[key]

    def _ask_product(self, key: ChipKey) -> str:
        info = abi.ChipInfo()
        if self._on("get_device_chip_info_v2", *key, byref(info)) == abi.OK:
            name = clean(info.npu_name) or clean(info.chip_name)
        elif self._on("get_device_chip_info", *key, byref(info)) == abi.OK:
            name = clean(info.chip_name)
        else:
            name = ""
        return name.removeprefix("Ascend ").strip()

    def _bus_id(self, key: ChipKey) -> str:
        """As npu-smi writes it. What is none is asked for again."""
        if not self._bus_ids.get(key):
            info = abi.PcieInfo()
            if self._on("get_device_pcie_info_v2", *key, byref(info)) != abi.OK:
                return ""
            self._bus_ids[key] = bus_id_of(info)
        return self._bus_ids[key]

    def _board_id(self, key: ChipKey) -> int | None:
        if key not in self._boards:
            info = abi.BoardInfo()
            if self._on("get_device_board_info", *key, byref(info)) != abi.OK:
                return None
            self._boards[key] = info.board_id
        return self._boards[key]

    def read_memory(self, key: ChipKey) -> tuple[int, int | None, int | None]:
        """Size (0: not told) and use in MiB, and the HBM's temperature; a 310P has no HBM."""
        hbm = abi.HbmInfo()
        told = self._on("get_device_hbm_info", *key, byref(hbm)) == abi.OK
        if told and 0 < hbm.memory_size <= MAX_MEMORY_MIB:
            return hbm.memory_size, _plausible(hbm.memory_usage, 0, hbm.memory_size), hbm.temp
        ddr = abi.MemoryInfo()
        told = self._on("get_device_memory_info_v3", *key, byref(ddr)) == abi.OK
        if told and ddr.memory_size <= MAX_MEMORY_MIB:
            used = ddr.memory_size - ddr.memory_available
            return ddr.memory_size, _plausible(used, 0, ddr.memory_size), None
        return 0, None, None

    def _ecc(self, key: ChipKey) -> abi.EccInfo | None:
        for kind in (abi.ECC_HBM, abi.ECC_DDR):
            info = abi.EccInfo()
            if self._on("get_device_ecc_info", *key, kind, byref(info)) == abi.OK:
                return info if info.enable_flag else None
        return None

    def _aicore_percent(self, key: ChipKey) -> int | None:
        rate = ctypes.c_uint(0)
        code = self._on("get_device_utilization_rate", *key, abi.RATE_AICORE, byref(rate))
        return _plausible(rate.value, 0, 100) if code == abi.OK else None

    def _int(self, name: str, key: ChipKey) -> int | None:
        value = ctypes.c_int(0)
        return value.value if self._on(name, *key, byref(value)) == abi.OK else None

    def _on(self, name: str, card: int, chip: int, *arguments: object) -> int:
        return self._library.call(name, card, chip, *arguments, card=card, chip=chip)


def bus_id_of(info: abi.PcieInfo) -> str:
    domain, bus = info.domain, info.bdf_busid
    device, function = info.bdf_deviceid, info.bdf_funcid
    if not 0 <= domain <= 0xFFFF or bus > 0xFF or device > 0x1F or function > 7:
        return ""  # no such place on a PCI bus
    return f"{domain:04X}:{bus:02X}:{device:02X}.{function:X}"


def _isolated(ecc: abi.EccInfo) -> int | None:
    single = _count(ecc.single_bit_isolated_pages_cnt)
    double = _count(ecc.double_bit_isolated_pages_cnt)
    return None if single is None or double is None else single + double


def _count(value: int) -> int | None:
    return None if value == ALL_ONES else value


def _can_be(row: abi.ProcessMemory) -> bool:
    return bool(0 < row.proc_id <= MAX_PID and row.proc_mem_usage // MIB <= MAX_MEMORY_MIB)


def _plausible(value: int | None, least: int, most: int) -> int | None:
    """Drivers have large numbers for "no value"."""
    return value if value is not None and least <= value <= most else None


def _name_of(pid: int) -> str:
    """libdcmi tells numbers only; npud is in the host's PID namespace."""
    try:
        with open(f"/proc/{pid}/comm", "rb") as file:
            return clean(file.read(64))
    except OSError:
        return ""
