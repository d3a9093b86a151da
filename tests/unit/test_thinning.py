# SPDX-License-Identifier: MulanPSL-2.0
"""What comes and goes all the time is told some times, and again after a while."""

from agent.control.thinning import KEPT, TOLD, WITHIN_S, Thinning, Word


def test_some_are_told_then_it_is_said_so_then_silence() -> None:
    thinning = Thinning()
    words = [thinning.ask("flap", 1000.0 + at) for at in range(TOLD + 3)]
    assert words == [Word.TELL] * (TOLD - 1) + [Word.LAST] + [Word.SILENCE] * 3


def test_another_thing_counts_for_itself() -> None:
    thinning = Thinning()
    for at in range(TOLD):
        thinning.ask("flap", float(at))
    assert thinning.ask("other", 10.0) is Word.TELL


def test_it_is_told_again_after_a_while() -> None:
    thinning = Thinning()
    for _ in range(TOLD):
        thinning.ask("flap", 0.0)
    assert thinning.ask("flap", WITHIN_S - 1) is Word.SILENCE
    assert thinning.ask("flap", WITHIN_S) is Word.TELL


def test_a_year_of_things_does_not_fill_the_memory() -> None:
    thinning = Thinning()
    for number in range(3 * KEPT):
        assert thinning.ask(number, 0.0) is Word.TELL
    assert len(thinning._told) == KEPT
