# SPDX-License-Identifier: MulanPSL-2.0
"""What rpmlint says of packages and the spec, beyond what rpm/deepseek-agent.rpmlintrc explains."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from .machine import install
from .process import run_command

RPM = Path(__file__).resolve().parents[2] / "rpm"
SETTINGS = RPM / "rpmlint.toml"
EXPLAINED = RPM / "deepseek-agent.rpmlintrc"
SPEC = RPM / "deepseek-agent.spec"


def rpmlint(packages: Sequence[Path]) -> list[str]:
    """One line for each message, errors and warnings alike; also for a filter without a message."""
    if shutil.which("rpmlint") is None:
        install(["rpmlint"])
    options = ["--strict", f"--config={SETTINGS}", f"--rpmlintrc={EXPLAINED}"]
    command = ["rpmlint", *options, *map(str, packages), str(SPEC)]
    done = run_command(command, check=False, timeout_s=300)
    lines = [line for line in done.stdout.splitlines() if ": E: " in line or ": W: " in line]
    return lines if lines or done.returncode == 0 else [done.stdout + done.stderr]
