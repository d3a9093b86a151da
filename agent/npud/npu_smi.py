# SPDX-License-Identifier: MulanPSL-2.0
"""What npu-smi prints, understood: text in, values out. Pure, and never raises.

The layout differs between drivers and chips (facts: ascend 1.2, 1.3), so columns are found by the
words of the header. A line that does not fit is skipped: a chip that is missing in the result is
UNKNOWN to whoever joins the two tables, and nothing here makes a chip healthy that did not say so.

The Ascend 950 numbers its chips otherwise (no `Chip Logic ID`); it is not understood here.
"""

import re
from collections import Counter
from dataclasses import dataclass

from agent.model import NpuHealth, NpuProcess

MAX_TEXT = 256  # of any single text that is taken over
MAX_PROCESSES = 64  # for one chip
MAX_LINE = 1000  # the widest table has some 150; the patterns below need not be fast beyond that

NOT_LOADED = "ret is -8005"
OCCUPIED = "ret is -8020"

_HEALTH = {
    "ok": NpuHealth.OK,
    "warning": NpuHealth.WARNING,
    "alarm": NpuHealth.ALARM,
    "critical": NpuHealth.CRITICAL,
    "unknown": NpuHealth.UNKNOWN,
}
_VERSION = re.compile(r"\bVersion:\s*([^\s|]+)")
# npu-smi tells its own errors on stdout, often with exit status 0 (facts: ascend 1.5).
_REFUSAL = re.compile(
    r"ret is -[0-9]+|no NPU card|Failed to get card number|Failed to query card total info",
    re.IGNORECASE,
)
# "0    / 0", "60156/ 65536" and "NA / NA": only the slash is reliable, not the spaces around it.
_USAGE = re.compile(r"([0-9]+|NA|-)\s*/\s*([0-9]+|NA|-)")
_BUS_ID = re.compile(r"[0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-9A-Fa-f]")

ChipKey = tuple[int, int]  # NPU ID, Chip ID


@dataclass(frozen=True, slots=True)
class ChipName:
    """A row of `npu-smi info -m`: how a chip is addressed."""

    card_id: int
    chip_id: int
    logic_id: int
    product: str
    node: int | None = None  # N of its /dev/davinciN; an A2 has no column for it

    @property
    def number(self) -> int:
        return self.logic_id if self.node is None else self.node


@dataclass(frozen=True, slots=True)
class ChipState:
    """A chip's two rows in the table of `npu-smi info`."""

    product: str
    health: NpuHealth
    bus_id: str
    memory_mib: int
    memory_used_mib: int


@dataclass(frozen=True, slots=True)
class Table:
    """All of `npu-smi info`."""

    version: str
    chips: dict[ChipKey, ChipState]
    processes: dict[ChipKey, tuple[NpuProcess, ...]]
    has_processes: bool = True  # it says which there are, be it none


def parse_refusal(text: str) -> str:
    """The line in which npu-smi says that it cannot work at all; "" when there is none."""
    found = next((line for line in _lines(text) if _REFUSAL.search(line)), "")
    return found.strip(" |\t")[:MAX_TEXT]


def first_words(text: str) -> str:
    """The first line with something in it, for a message about text that nobody understands."""
    return next((line.strip()[:80] for line in _lines(text) if line.strip()), "no output")


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if len(line) <= MAX_LINE]


def parse_mapping(text: str) -> tuple[ChipName, ...]:
    """`npu-smi info -m`: the chips that have a logic id, and those only."""
    chips: dict[int, ChipName] = {}
    header: list[str] = []
    for line in _lines(text):
        cells = _spaced(line, len(header))
        if "NPU ID" in cells and "Chip Logic ID" in cells and "Chip ID" in cells:
            header = cells
        elif header and len(cells) == len(header):
            chip = _chip_name(dict(zip(header, cells, strict=True)))
            if chip is not None:
                chips.setdefault(chip.logic_id, chip)
    owners = Counter(chip.number for chip in chips.values())
    clear = (chip for chip in chips.values() if owners[chip.number] == 1)
    return tuple(sorted(clear, key=lambda chip: chip.number))


def _spaced(line: str, columns: int) -> list[str]:
    """Cells of a line without rulers: `Ascend 910B3` is one, two spaces or a tab part them."""
    cells = re.split(r"\s{2,}|\t", line.strip())
    return cells if len(cells) == columns or not columns else line.split(None, columns - 1)


def _chip_name(row: dict[str, str]) -> ChipName | None:
    card, chip, logic = (_number(row[key]) for key in ("NPU ID", "Chip ID", "Chip Logic ID"))
    product = row.get("Chip Name", "")
    # An MCU has a row but no logic id; -1 marks a card that cannot be used (facts: ascend 1.3).
    if card is None or chip is None or logic is None or product.lower() == "mcu":
        return None
    return ChipName(card, chip, logic, _product(product), _number(row.get("Chip Phy-ID", "")))


def _product(name: str) -> str:
    """`Ascend 910B3` of -m and `910B3` of the table are the same chip; `Ascend910` is a name."""
    return name.removeprefix("Ascend ").strip()[:MAX_TEXT]


def _number(text: str) -> int | None:
    """A count or an id as npu-smi writes it; None for -, NA, -1 and what no machine can have."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None


def parse_table(text: str) -> Table | None:
    """`npu-smi info`; None when its header is nowhere to be seen."""
    reader = _TableReader()
    for line in _lines(text):
        reader.read(line)
    if not reader.understood:
        return None
    version = _VERSION.search(text)
    return Table(
        version=version.group(1)[:MAX_TEXT] if version else "",
        chips=reader.chips,
        processes={key: tuple(rows) for key, rows in reader.processes.items()},
        has_processes=reader.has_processes,
    )


class _Columns:
    """Where a header row has its words: cell number, and position among the words in the cell."""

    def __init__(self, cells: list[str]) -> None:
        self.cells = cells
        self.words = [cell.split() for cell in cells]

    def cell(self, title: str) -> int:
        return self.cells.index(title) if title in self.cells else -1

    def word(self, title: str, row: list[str]) -> str:
        """The value under `title` in a cell that holds several; the last one may have spaces."""
        for titles, cell in zip(self.words, row, strict=True):
            if title in titles:
                values = cell.split(None, len(titles) - 1)
                place = titles.index(title)
                return values[place].strip() if place < len(values) else ""
        return ""

    def usage(self, row: list[str]) -> dict[str, tuple[int, int]]:
        """used and total under every `…-Usage(MB)`; nothing when they cannot be told apart."""
        for titles, cell in zip(self.words, row, strict=True):
            names = [title for title in titles if "-Usage(" in title]
            pairs = _USAGE.findall(cell)
            if names and len(pairs) == len(names):
                counts = [(_number(used) or 0, _number(total) or 0) for used, total in pairs]
                return dict(zip(names, counts, strict=True))
        return {}


class _TableReader:
    """Takes the lines one by one; a chip has an upper row and, right below it, a lower row."""

    def __init__(self) -> None:
        self.chips: dict[ChipKey, ChipState] = {}
        self.processes: dict[ChipKey, list[NpuProcess]] = {}
        self._upper: _Columns | None = None
        self._lower: _Columns | None = None
        self._process: _Columns | None = None
        self._pending: list[str] | None = None  # an upper row that waits for its lower one

    @property
    def understood(self) -> bool:
        return self._upper is not None and self._lower is not None

    @property
    def has_processes(self) -> bool:
        return self._process is not None

    def read(self, line: str) -> None:
        line = line.strip()
        if len(line) < 2 or not (line.startswith("|") and line.endswith("|")):
            self._pending = None  # a ruler, or something foreign: the two rows never cross it
            return
        cells = [cell.strip() for cell in line[1:-1].split("|")]
        if not self._read_header(cells):
            self._read_row(cells)

    def _read_header(self, cells: list[str]) -> bool:
        columns = _Columns(cells)
        first = columns.words[0]
        if "NPU" in first and "Name" in first and columns.cell("Health") >= 0:
            self._upper, self._lower, self._process = columns, None, None
        elif "Chip" in first and columns.cell("Bus-Id") >= 0:
            self._lower = columns
        elif {"NPU", "Chip"} <= set(first) and columns.cell("Process id") >= 0:
            self._process = columns
        else:
            return False
        self._pending = None
        return True

    def _read_row(self, cells: list[str]) -> None:
        if self._process is not None:
            self._read_process(self._process, cells)
        elif self._upper is not None and self._lower is not None:
            self._read_chip(self._upper, self._lower, cells)

    def _read_chip(self, upper: _Columns, lower: _Columns, cells: list[str]) -> None:
        above, self._pending = self._pending, None
        if len(cells) == len(upper.cells) and _is_upper(upper, cells):
            self._pending = cells
        # A lower row alone is a chip whose upper row was silently left out: without its NPU id it
        # cannot be placed, and may never be joined to its neighbor (facts: ascend 1.1).
        elif above is not None and len(cells) == len(lower.cells) and _is_lower(lower, cells):
            self._add_chip(upper, lower, above, cells)

    def _add_chip(self, upper: _Columns, lower: _Columns, above: list[str], row: list[str]) -> None:
        card, chip = _number(upper.word("NPU", above)), _number(lower.word("Chip", row))
        if card is None or chip is None:
            return
        health = _HEALTH.get(above[upper.cell("Health")].lower(), NpuHealth.UNKNOWN)
        if (card, chip) in self.chips:
            health = NpuHealth.UNKNOWN  # told twice: then neither is believed
        used, total = _memory(lower.usage(row))
        bus_id = row[lower.cell("Bus-Id")]
        self.chips[card, chip] = ChipState(
            product=_product(upper.word("Name", above)),
            health=health,
            bus_id=bus_id if _BUS_ID.fullmatch(bus_id) else "",
            memory_mib=total,
            memory_used_mib=used,
        )

    def _read_process(self, columns: _Columns, cells: list[str]) -> None:
        if len(cells) != len(columns.cells):
            return  # "No running processes found in NPU 0"
        card, chip = _number(columns.word("NPU", cells)), _number(columns.word("Chip", cells))
        pid = _number(cells[columns.cell("Process id")])
        if card is None or chip is None or not pid:
            return
        name, memory = columns.cell("Process name"), columns.cell("Process memory(MB)")
        rows = self.processes.setdefault((card, chip), [])
        if len(rows) < MAX_PROCESSES:
            used = _number(cells[memory]) if memory >= 0 else None
            rows.append(NpuProcess(pid, cells[name][:MAX_TEXT] if name >= 0 else "", used or 0))


def _is_upper(upper: _Columns, cells: list[str]) -> bool:
    health = cells[upper.cell("Health")]
    named = any(letter.isalpha() for letter in upper.word("Name", cells))
    return health.lower() in _HEALTH or (named and _BUS_ID.fullmatch(health) is None)


def _is_lower(lower: _Columns, cells: list[str]) -> bool:
    numbers = all(_number(word) is not None or word == "-" for word in cells[0].split())
    return numbers and cells[lower.cell("Bus-Id")].lower() not in _HEALTH


def _memory(usage: dict[str, tuple[int, int]]) -> tuple[int, int]:
    """used, total: the HBM where there is some, else the DDR (310P has no HBM column)."""
    hbm = usage.get("HBM-Usage(MB)", (0, 0))
    return hbm if hbm[1] else usage.get("Memory-Usage(MB)", (0, 0))
