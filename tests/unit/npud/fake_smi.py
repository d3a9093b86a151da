# SPDX-License-Identifier: MulanPSL-2.0
"""Small npu-smi scripts for npud's tests: each is written as a file, with what it is to do."""

import os
from pathlib import Path

FIXTURES = Path(__file__).parent / "fixtures"


def write_script(path: Path, body: str) -> Path:
    """Replaces the file as a whole, so that nobody ever runs half of it."""
    new = path.with_suffix(".new")
    new.write_text(f"#!/bin/sh\n{body}\n")
    new.chmod(0o755)
    os.replace(new, path)
    return path


def answering(layout: str = "910b") -> str:
    return (
        f'if [ "$2" = -m ]; then cat "{FIXTURES}/{layout}_map.txt"; '
        f'else cat "{FIXTURES}/{layout}_info.txt"; fi'
    )


def saying(words: str, status: int = 0) -> str:
    return f"echo '{words}'; exit {status}"


HANGING = "sleep 100"
