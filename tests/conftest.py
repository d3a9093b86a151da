# SPDX-License-Identifier: MulanPSL-2.0
"""For all tests: how golden files are written anew, and no stopwatch on generated examples."""

import pytest
from hypothesis import settings

# A busy machine is slower than any deadline for one example; pytest's own timeout stands.
settings.register_profile("deepseek", deadline=None)
settings.load_profile("deepseek")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write tests/golden anew from what is rendered now; look at the difference afterwards",
    )
