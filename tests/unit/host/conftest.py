# SPDX-License-Identifier: MulanPSL-2.0
"""Fixtures that hold for every test of this folder."""

from collections.abc import Iterator

import pytest

from tests.fakes.bus import PrivateBus, private_bus
from tests.scenario.settled import settled


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    with settled():
        yield


@pytest.fixture
def bus(_nothing_left: None) -> Iterator[PrivateBus]:
    with private_bus() as one:
        yield one
