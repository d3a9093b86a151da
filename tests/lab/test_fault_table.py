# SPDX-License-Identifier: MulanPSL-2.0
"""A sample of the fault table (`fault_table.py`), and of kills at awaits (`awaits.py`)."""

import pytest

from . import awaits, product
from .fault_scene import Fault
from .fault_table import FAULTS, run_fault
from .host import LabHost
from .kill_host import prepare

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

SAMPLE = (
    "run full, engine dies",
    "state removed",
    "agent short of descriptors",
    "10,000 forged unit changes",
)
AWAITS = 3


@pytest.mark.parametrize(
    "fault", [one for one in FAULTS if one.name in SAMPLE], ids=lambda fault: fault.name
)
def test_what_must_hold(host: LabHost, fault: Fault) -> None:
    prepare(host)
    assert product.start(host, "enable").returncode == 0
    row = run_fault(host, fault)
    assert not row.problem, row


def test_killed_at_an_await(host: LabHost) -> None:
    awaits.install(host)
    points = [point for point in awaits.record(host) if "action/start.py" in point]
    assert len(points) > AWAITS
    for point in points[:: len(points) // AWAITS]:
        result = awaits.run_case(host, point)
        assert not result.problems, result
