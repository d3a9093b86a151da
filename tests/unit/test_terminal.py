# SPDX-License-Identifier: MulanPSL-2.0
"""A bar that moves on a terminal, and lines where it cannot."""

import io
from dataclasses import replace

from agent.supplies import Item, Progress, Stage
from agent.terminal import CLEAR_LINE, ProgressLine

HALF = Progress(Item.MODEL, Stage.FETCHING, "hub.example", 50, 100, 10.0)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_one_line_moves() -> None:
    stream = Terminal()
    line = ProgressLine(stream)
    line.show(HALF)
    line.show(replace(HALF, done_bytes=100))
    line.end()
    first, second = stream.getvalue().removesuffix("\n").split(CLEAR_LINE)[1:]
    assert first == (
        "[############............] fetching the model from hub.example: "
        "50 % (50 B of 100 B), 10 B/s, 5 s left"
    )
    assert second.startswith("[" + "#" * 24 + "] ")


def test_another_item_is_another_line() -> None:
    stream = Terminal()
    line = ProgressLine(stream)
    line.show(HALF)
    line.show(replace(HALF, item=Item.IMAGE))
    assert stream.getvalue().count("\n") == 1


def test_elsewhere_there_is_a_line_for_each_tenth() -> None:
    stream = io.StringIO()
    line = ProgressLine(stream)
    for done in range(101):
        line.show(replace(HALF, done_bytes=done))
    line.end()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 11
    assert CLEAR_LINE not in stream.getvalue()
