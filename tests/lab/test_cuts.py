# SPDX-License-Identifier: MulanPSL-2.0
"""A sample of the power cuts in cuts.py, one of each kind; `python -m tests.lab.cuts` has all."""

import pytest

from . import cuts, product
from .host import LabHost
from .moments import RENAMING, START, STOP, WRITE_OF_STATE, Moment

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]


@pytest.mark.parametrize(
    "moment", [START, STOP, RENAMING, WRITE_OF_STATE], ids=lambda moment: moment.name
)
def test_after_a_power_cut_it_serves_again_and_all_files_are_whole(
    host: LabHost, moment: Moment
) -> None:
    cuts.serve(host)
    outcome = cuts.cut(host, moment)
    assert not outcome.faults, product.describe(host)
    assert outcome.served_s is not None, outcome.seen
