# SPDX-License-Identifier: MulanPSL-2.0
"""The driver side of the double: methods come in, the state file goes out, whole at each change.

Standard library only and no import of ours, so that a host of the lab can run it as it is.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

DEFAULT_PATH = Path("/run/dcmi-double/state")
DRIVER_GONE = -8005
OCCUPIED = -8020
NOT_SUPPORTED = -8255
HINT, MINOR, MAJOR, CRITICAL = range(4)

Lines = list[str]


@dataclass(frozen=True, slots=True)
class Call:
    """A line of the log: a call has ended (of dcmi_init, subscribe and reset; of all if wished)."""

    at: float  # seconds since the epoch
    pid: int
    function: str  # without "dcmi_"
    chip: str  # "3.0", "-" when it is about none
    result: int
    busy: int | None  # processes on the chips that a reset was about to take


class DcmiDouble:
    """Cards and chips are numbered as the driver numbers them; `chip` is mostly 0."""

    def __init__(self, path: Path = DEFAULT_PATH) -> None:
        self.path = path

    # --- the host ----------------------------------------------------------------------------

    def start(self, product: str = "910B3", cards: int | None = None) -> None:
        """A driver without faults; all that was said before is forgotten."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        count = [] if cards is None else [f"cards {cards}"]
        self._change(lambda _lines: [f"product {product}", *count])

    def set_init(self, result: int) -> None:
        """What dcmi_init returns; with DRIVER_GONE, all other calls return it, too."""
        self._set("init", f"{result}")

    def driver_absent(self) -> None:
        self.set_init(DRIVER_GONE)

    def driver_back(self) -> None:
        self._drop("init")

    def set_option(self, key: str, value: str) -> None:
        """hccs on, events off, boot-time 0.5, board 0x60, driver 24.1.0, log calls, ..."""
        self._set(key, value)

    def remove_card(self, card: int, *, at_boot: bool = False) -> None:
        """It is not in the list. Without it at boot the logic ids of those behind it are others."""
        self._set(f"absent {card}", "boot" if at_boot else "")

    def return_card(self, card: int) -> None:
        self._drop(f"absent {card}")

    # --- faults ------------------------------------------------------------------------------

    def set_health(self, card: int, chip: int, health: int | None) -> None:
        """Whatever the codes say; None: by the codes again."""
        if health is None:
            self._drop(f"chip {card}.{chip} health")
        else:
            self._set(f"chip {card}.{chip} health", f"{health}")

    def raise_fault(
        self,
        card: int,
        chip: int,
        code: str,
        severity: int = CRITICAL,
        text: str = "node type=SoC, sensor type=Check Sensor, event state=check fail",
        curable: bool = True,
    ) -> None:
        """`curable`: gone after a reset that works."""
        kind = "curable" if curable else "lasting"
        self._set(f"chip {card}.{chip} code {code}", f"{severity} {kind} {text}")

    def raise_faults(self, cards: Iterable[int], code: str, severity: int, text: str) -> None:
        """On chip 0 of all of them at the same moment."""
        keys = [f"chip {card}.0 code {code}" for card in cards]

        def add(lines: Lines) -> Lines:
            kept = [line for line in lines if not line.startswith(tuple(keys))]
            return [*kept, *(f"{key} {severity} curable {text}" for key in keys)]

        self._change(add)

    def clear_fault(self, card: int, chip: int, code: str) -> None:
        self._drop(f"chip {card}.{chip} code {code}")

    def one_off(
        self, card: int, chip: int, code: str, severity: int = MINOR, text: str = "one-off"
    ) -> None:
        def add(lines: Lines) -> Lines:
            serials = (int(line.split()[1]) for line in lines if line.startswith("event "))
            serial = max(serials, default=0) + 1
            return [*lines, f"event {serial} {card}.{chip} {code} {severity} lasting {text}"]

        self._change(add)

    def drop(self, card: int, chip: int, curable: bool = True) -> None:
        """-8012 from every call that asks the chip itself."""
        self._set(f"chip {card}.{chip} dropped", "curable" if curable else "")

    def undrop(self, card: int, chip: int) -> None:
        self._drop(f"chip {card}.{chip} dropped")

    # --- calls -------------------------------------------------------------------------------

    def hang(self, function: str, card: int | None = None, chip: int = 0) -> None:
        """The call does not come back before `release`; "*": every call (of that chip)."""
        self._set(f"{_place(card, chip)}hang {function}", "")

    def release(self, function: str, card: int | None = None, chip: int = 0) -> None:
        self._drop(f"{_place(card, chip)}hang {function}")

    def crash(self, function: str, card: int | None = None, chip: int = 0) -> None:
        """The call ends the process that makes it."""
        self._set(f"{_place(card, chip)}crash {function}", "")

    def uncrash(self, function: str, card: int | None = None, chip: int = 0) -> None:
        self._drop(f"{_place(card, chip)}crash {function}")

    def fail(self, function: str, result: int, card: int | None = None, chip: int = 0) -> None:
        self._set(f"{_place(card, chip)}return {function}", f"{result}")

    def unfail(self, function: str, card: int | None = None, chip: int = 0) -> None:
        self._drop(f"{_place(card, chip)}return {function}")

    # --- a chip ------------------------------------------------------------------------------

    def set_value(self, card: int, chip: int, key: str, value: object) -> None:
        """temperature 71, hbm-temperature, power (0.1 W), used (MB), utilization 2, ecc, boot,
        bus."""
        self._set(f"chip {card}.{chip} {key}", f"{value}")

    def set_processes(self, card: int, chip: int, processes: dict[int, int]) -> None:
        """Process id to MB."""
        prefix = f"chip {card}.{chip} process"
        added = [f"{prefix} {pid} {mb}" for pid, mb in processes.items()]
        self._change(lambda lines: [*_without(lines, prefix), *added])

    def leave_memory(self, card: int, chip: int, mb: int) -> None:
        """In use, and by no process; a reset that works gives it back. 0: it is given back now."""
        key = f"chip {card}.{chip} left"
        if mb:
            self._set(key, f"{mb}")
        else:
            self._drop(key)

    def end_process(self, card: int, chip: int, pid: int) -> None:
        """It is not listed any more, and its memory stays in use."""
        prefix = f"chip {card}.{chip}"

        def turn(lines: Lines) -> Lines:
            fields = [line.split() for line in lines if line.startswith(f"{prefix} process {pid} ")]
            left = [line.split() for line in lines if line.startswith(f"{prefix} left ")]
            mb = sum(int(words[-1]) for words in (*fields, *left))
            kept = _without(_without(lines, f"{prefix} process {pid}"), f"{prefix} left")
            return [*kept, f"{prefix} left {mb}"]

        self._change(turn)

    def set_reset(self, card: int, chip: int, outcome: str, seconds: float = 0) -> None:
        """works, keeps (the codes), fails (-8015), stuck (boot status 2); after `seconds`."""
        self._set(f"reset {card}.{chip}", f"{outcome} {seconds}")

    # --- what the library was asked ----------------------------------------------------------

    def calls(self, function: str = "") -> tuple[Call, ...]:
        try:
            text = Path(f"{self.path}.log").read_text(encoding="ascii")
        except FileNotFoundError:
            return ()
        calls = (_parse_call(line) for line in text.splitlines())
        return tuple(call for call in calls if function in ("", call.function))

    def lines(self) -> Lines:
        try:
            return self.path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []

    # --- the file ----------------------------------------------------------------------------

    def _set(self, key: str, value: str) -> None:
        line = f"{key} {value}".rstrip()
        self._change(lambda lines: [*_without(lines, key), line])

    def _drop(self, key: str) -> None:
        self._change(lambda lines: _without(lines, key))

    def _change(self, change: Callable[[Lines], Lines]) -> None:
        """The library changes the file, too, at a reset: one at a time."""
        with self._locked():
            lines = change(self.lines())
            partial = Path(f"{self.path}.{os.getpid()}")
            partial.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            now = time.time_ns()  # the kernel's own is the same for some milliseconds
            os.utime(partial, ns=(now, now))
            partial.replace(self.path)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with open(f"{self.path}.lock", "a", encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _place(card: int | None, chip: int) -> str:
    return "" if card is None else f"chip {card}.{chip} "


def _without(lines: Lines, key: str) -> Lines:
    return [line for line in lines if line != key and not line.startswith(f"{key} ")]


def _parse_call(line: str) -> Call:
    at, pid, function, chip, result, *more = line.split()
    busy = int(more[0].removeprefix("busy=")) if more else None
    return Call(int(at) / 1e6, int(pid), function, chip, int(result), busy)
