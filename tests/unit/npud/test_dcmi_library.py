# SPDX-License-Identifier: MulanPSL-2.0
"""Loading libdcmi where the loader does not find what it is linked to."""

import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.npud.dcmi import abi
from agent.npud.dcmi.calls import CallNote
from agent.npud.dcmi.library import CannotLoad, Library
from tests.fakes.dcmi import run_compiler


def linked(folder: Path) -> tuple[Path, Path]:
    """A libdcmi.so that wants libhal.so, which wants libsec.so; both are in a folder of their own.

    Names that no library of this machine has: the loader would take what is loaded already.
    """
    driver = folder / "driver"
    driver.mkdir()
    names = {name: f"lib{name}_of_{os.getpid()}_{folder.name}.so" for name in ("sec", "hal")}
    sources = {
        driver / names["sec"]: "int sec(void) { return 7; }",
        driver / names["hal"]: "int sec(void); int hal(void) { return sec(); }",
        folder / "libdcmi.so": "int hal(void); int dcmi_init(void) { return hal(); }",
    }
    needed: list[str] = []
    for library, text in sources.items():
        source = folder / "source.c"
        source.write_text(text, encoding="ascii")
        place = (f"-L{driver}", f"-Wl,-rpath-link,{driver}", *needed)
        soname = f"-Wl,-soname,{library.name}"  # by which the loader knows what it has
        run_compiler("-shared", "-fPIC", soname, "-o", str(library), str(source), *place)
        needed = [f"-l:{library.name}"]
    return folder / "libdcmi.so", driver


def test_what_is_missed_is_found_where_the_driver_keeps_it(tmp_path: Path) -> None:
    path, driver = linked(tmp_path)
    with pytest.raises(CannotLoad, match=re.escape("cannot open shared object file")):
        Library(str(path), CallNote(), folders=())
    library = Library(str(path), CallNote(), folders=(str(tmp_path / "none"), str(driver)))
    assert library.call("init") == 7
    assert library.call("get_device_health", 0, 0, None) == abi.MISSING


def test_the_note_names_the_call_that_is_under_way(tmp_path: Path) -> None:
    source = tmp_path / "source.c"
    source.write_text("#include <unistd.h>\nint dcmi_init(void) { return (int)sleep(60); }\n")
    run_compiler("-shared", "-fPIC", "-o", str(tmp_path / "libdcmi.so"), str(source))
    note = CallNote()
    assert note.under_way() is None
    before = time.monotonic()
    pid = os.fork()
    if pid == 0:
        Library(str(tmp_path / "libdcmi.so"), note).call("init")
        os._exit(0)
    try:
        end = time.monotonic() + 5
        while note.under_way() is None:
            assert time.monotonic() < end
        call = note.under_way()
        assert call is not None
        assert (call.name, call.card, call.chip) == ("init", -1, -1)
        assert before <= call.started_at <= time.monotonic()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_sizes_are_those_of_the_header(tmp_path: Path) -> None:
    """Where libdcmi writes, ours is as large or larger; where it reads or tells, exactly alike."""
    header = Path(__file__).parents[2] / "fakes" / "dcmi"
    program = tmp_path / "sizes"
    source = tmp_path / "sizes.c"
    exact = {
        "event": abi.Event,
        "event_filter": abi.EventFilter,
        "dms_fault_event": abi.FaultEvent,
        "proc_mem_info": abi.ProcessMemory,
    }
    larger = {
        "chip_info": abi.ChipInfo,
        "chip_info_v2": abi.ChipInfo,
        "board_info": abi.BoardInfo,
        "pcie_info_all": abi.PcieInfo,
        "ecc_info": abi.EccInfo,
        "hbm_info": abi.HbmInfo,
        "get_memory_info_stru": abi.MemoryInfo,
    }
    prints = "".join(
        f'printf("{name} %zu\\n", sizeof(struct dcmi_{name}));' for name in {**exact, **larger}
    )
    source.write_text(f'#include <stdio.h>\n#include "dcmi.h"\nint main(void) {{ {prints} }}\n')
    run_compiler(f"-I{header}", "-DDCMI_ECC_NUMBERS=9", "-o", str(program), str(source))
    told = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    sizes = {name: int(size) for name, size in (line.split() for line in told.splitlines())}

    for name, struct in exact.items():
        assert ctypes.sizeof(struct) == sizes[name], name
    for name, struct in larger.items():
        assert ctypes.sizeof(struct) >= sizes[name], name
    assert sys.byteorder == "little"
