# SPDX-License-Identifier: MulanPSL-2.0
"""How long a start may take."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.policy.startup import LEAST_S, LONGEST_S, StartWatch, budget_s

SECONDS = st.floats(0, 20_000)


@pytest.mark.parametrize(
    ("weights_mib", "last_s", "chosen_s", "budget"),
    [
        (0, None, 0, 600),  # nobody could look at its size
        (15_000, None, 0, 1200),  # 8b, the first time
        (1_000_000, None, 0, 7200),
        (15_000, 30, 0, 180),  # loaded from the page cache
        (15_000, 100, 0, 300),
        (15_000, 1000, 0, 1500),  # it was slower than the first budget, and moved
        (15_000, 7000, 0, 7200),
        (15_000, 100, 45, 45),  # the operator's word
        (15_000, 100, 10_000, 10_000),
    ],
)
def test_the_budget(weights_mib: int, last_s: float | None, chosen_s: float, budget: float) -> None:
    assert budget_s(weights_mib, last_s, chosen_s) == budget


def test_nothing_seen_the_budget_alone_counts() -> None:
    assert StartWatch(1000, 600, 1000).ends_at == 1600


def test_what_moves_goes_on() -> None:
    assert StartWatch(1000, 600, 1100).ends_at == 1600
    assert StartWatch(1000, 600, 1599).ends_at == 1719
    assert StartWatch(1000, 600, 5000).ends_at == 5120


def test_but_not_for_ever() -> None:
    assert StartWatch(1000, 600, 8150).ends_at == 8200
    assert StartWatch(1000, 10_000, 10_990).ends_at == 11_110 - 110  # the operator's own budget


def test_a_short_budget_has_short_patience() -> None:
    assert StartWatch(1000, 8, 1007).ends_at == 1015


@given(SECONDS, SECONDS, SECONDS)
def test_never_before_the_budget_nor_much_after_two_hours(
    began_at: float, budget: float, moved_s: float
) -> None:
    ends_at = StartWatch(began_at, budget, began_at + moved_s).ends_at
    assert ends_at >= began_at + budget
    assert ends_at <= began_at + max(LONGEST_S, budget)


@given(st.integers(0, 10_000_000), st.floats(0, LONGEST_S))
def test_a_start_like_the_last_one_is_in_its_budget(weights_mib: int, last_s: float) -> None:
    assert LEAST_S <= budget_s(weights_mib, last_s, 0) <= LONGEST_S
    assert last_s <= budget_s(weights_mib, last_s, 0)
