# SPDX-License-Identifier: MulanPSL-2.0
"""docs/sandbox.md has a row for each restriction of the units, and names tests that there are."""

import re
from pathlib import Path

from tests.lab import sandbox_probe, sandbox_table

PAGE = Path(__file__).parents[2] / "docs/sandbox.md"


def restrictions() -> set[str]:
    sandboxes = [sandbox_table.read_sandbox(unit) for unit in sandbox_table.units()]
    return {name for sandbox in sandboxes for name in sandbox.restrictions}


def test_each_is_explained() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(rows) == restrictions()


def test_each_is_tried_in_the_lab() -> None:
    """One that the probe does not know would be passed over."""
    assert restrictions() - set(sandbox_probe.PROBES) == set()
