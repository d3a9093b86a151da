# SPDX-License-Identifier: MulanPSL-2.0
"""Another time of day for one process: see clock.c."""

from pathlib import Path

from tests.fakes.dcmi import run_compiler

SOURCE = Path(__file__).with_name("clock.c")
# Names the file that says by how many seconds.
VARIABLE = "LAB_CLOCK"


def build(folder: Path) -> Path:
    """`folder`/clock.so, for LD_PRELOAD."""
    library = folder / "clock.so"
    run_compiler("-shared", "-fPIC", "-O2", "-o", str(library), str(SOURCE))
    return library
