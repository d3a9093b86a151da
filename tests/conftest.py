# SPDX-License-Identifier: MulanPSL-2.0
"""For all tests: golden files, no stopwatch on examples, and a report for each failure."""

from collections.abc import Generator

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
    parser.addoption(
        "--days",
        type=int,
        default=1,
        help="so many days of random trouble in simulated time",
    )
    parser.addoption(
        "--api-examples",
        type=int,
        default=10,
        help="so many requests of each kind for each operation of the socket API",
    )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Python 3.11.2 miscounts, now and then, how deep it is in a syntax tree (python/cpython
    106905); pytest reads one to show where a test failed, and the whole run ended there, without
    the name of the test.
    """
    try:
        return (yield)
    except SystemError:
        return pytest.TestReport.from_item_and_call(item, call)
