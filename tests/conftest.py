# SPDX-License-Identifier: MulanPSL-2.0
"""For all tests: how golden files are written anew."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write tests/golden anew from what is rendered now; look at the difference afterwards",
    )
