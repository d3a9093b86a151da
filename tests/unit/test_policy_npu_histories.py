# SPDX-License-Identifier: MulanPSL-2.0
"""Any history of faults: what may never be asked for is checked at every step (`npu_history`)."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.npu_history import KINDS, Step, World, build_step

HISTORIES = 1000
STEPS = 25
SHARE = 100  # histories in one test


def live(seed: int) -> World:
    """Replayable: the seed is all of it."""
    chance = random.Random(seed)  # noqa: S311 - for tests
    world = World(seed)
    for _ in range(STEPS):
        world.take(build_step(chance))
    if seed % 2:
        world.check_release()
    world.check_end()
    return world


@pytest.mark.timeout(60)
@pytest.mark.parametrize("share", range(HISTORIES // SHARE))
def test_a_thousand_histories(share: int) -> None:
    asked: Counter[str] = Counter()
    for seed in range(share * SHARE, (share + 1) * SHARE):
        try:
            asked += live(seed).asked
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
    # They do come by what they are about.
    for kind in ("StopInstance", "ResetNpus", "SetAside", "Release", "SuspectHost", "TrustHost"):
        assert asked[kind] >= 10, asked


def test_a_history_can_be_replayed() -> None:
    assert live(7).host.fleet == live(7).host.fleet


steps = st.builds(
    Step,
    st.sampled_from(KINDS),
    st.integers(0, 15),
    st.integers(0, 999),
    st.sampled_from([0.1, 20.0, 60.0, 300.0, 86_400.0]),
)


@given(st.integers(0, 63), st.lists(steps, max_size=30))
@settings(deadline=None, max_examples=100)
def test_no_history_breaks_a_rule(number: int, history: list[Step]) -> None:
    world = World(number)
    for step in history:
        world.take(step)
    world.check_end()
