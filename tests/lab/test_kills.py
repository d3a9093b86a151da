# SPDX-License-Identifier: MulanPSL-2.0
"""A sample of the kill matrix (`kills.py`): every victim, every phase, in a minute or two."""

import pytest

from .host import LabHost
from .kill_case import Case, run_case
from .kill_host import Phase, prepare

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

SAMPLE = (
    Case(("agentd",), Phase.START, 420),
    Case(("agentd",), Phase.STEADY, 0),
    Case(("agentd", "attach"), Phase.STOP, 0),
    Case(("attach",), Phase.START, 20),
    Case(("attach",), Phase.STOP, 0),
    Case(("npud",), Phase.START, 100),
    Case(("agentd", "npud"), Phase.STEADY, 500),
    Case(("attach", "conmon"), Phase.STEADY, 100),
    Case(("conmon",), Phase.STOP, 40),
    Case(("conmon", "engine"), Phase.START, 1600),
    Case(("engine",), Phase.STEADY, 100),
    Case(("npud", "engine"), Phase.STOP, 4),
)


@pytest.fixture(scope="module")
def ready(host: LabHost) -> LabHost:
    prepare(host)
    return host


@pytest.mark.parametrize("case", SAMPLE, ids=lambda case: case.name)
def test_what_was_wished_holds(ready: LabHost, case: Case) -> None:
    result = run_case(ready, case)
    assert not result.problems, f"{result}\n{'; '.join(result.problems)}\n{result.journal}"
