# SPDX-License-Identifier: MulanPSL-2.0
"""A double of libdcmi: C with the real ABI, driven through a file while it runs. See README.md."""

import re
import subprocess
from collections.abc import Collection
from pathlib import Path

SOURCES = Path(__file__).parent
HEADER = SOURCES / "dcmi.h"


def symbols() -> tuple[str, ...]:
    """The functions that the header declares."""
    declared = re.findall(r"^int (dcmi_\w+)\(", HEADER.read_text(encoding="utf-8"), re.MULTILINE)
    return tuple(declared)


def build(folder: Path, missing: Collection[str] = (), ecc_layout: int = 7) -> Path:
    """`folder`/libdcmi.so, which exports all but `missing`; `ecc_layout` is 7 or 9 numbers.

    Warnings are errors. Raises RuntimeError with the compiler's words.
    """
    unknown = set(missing) - set(symbols())
    if unknown or ecc_layout not in (7, 9):
        raise ValueError(f"no such symbols or layout: {sorted(unknown)}, {ecc_layout}")
    library = folder / "libdcmi.so"
    exported = folder / "libdcmi.map"
    shown = "".join(f"{name}; " for name in symbols() if name not in missing)
    exported.write_text(f"{{ global: {shown}local: *; }};\n", encoding="ascii")
    run_compiler(
        *("-shared", "-fPIC", "-O1", "-pthread", f"-DDCMI_ECC_NUMBERS={ecc_layout}"),
        *(f"-Wl,--version-script={exported}", "-Wl,-soname,libdcmi.so", "-o", str(library)),
        *(str(source) for source in sorted(SOURCES.glob("*.c"))),
    )
    return library


def run_compiler(*arguments: str) -> None:
    """Compile C as the double is compiled: gnu11, and a warning is an error."""
    command = ["cc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")
