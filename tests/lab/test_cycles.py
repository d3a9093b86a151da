# SPDX-License-Identifier: MulanPSL-2.0
"""A few of the starts and stops in cycles.py; `python -m tests.lab.cycles` does 200."""

import pytest

from . import cycles
from .host import LabHost

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

CYCLES = 8


def test_nothing_grows_with_starts_and_stops(host: LabHost) -> None:
    samples = cycles.run_cycles(host, CYCLES)
    assert not cycles.list_growth(samples), cycles.show(samples)
