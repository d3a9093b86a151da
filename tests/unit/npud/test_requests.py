# SPDX-License-Identifier: MulanPSL-2.0
"""What a client may ask for, and what is not understood."""

import json

import pytest

from agent.model import ResetOutcome
from agent.npud.inventory import reset_message
from agent.npud.requests import Refresh, Request, Reset, parse_request


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        ({"type": "refresh"}, Refresh()),
        ({"type": "reset", "logic_id": 3}, Reset(3, (3,))),
        ({"type": "reset", "logic_id": 3, "ring": [2, 3], "codes": []}, Reset(3, (2, 3))),
        ({"type": "reset", "logic_id": 3, "ring": [7, 2, 2]}, Reset(3, (2, 3, 7))),
        (
            {"type": "reset", "logic_id": 0, "ring": [0], "codes": ["80fa4e00", "40F84E00"]},
            Reset(0, (0,), ("80FA4E00", "40F84E00")),
        ),
    ],
)
def test_understood(line: object, request_: Request) -> None:
    assert parse_request(json.dumps(line).encode()) == request_


RESET = {"type": "reset", "logic_id": 3}


@pytest.mark.parametrize(
    "line",
    [
        {},
        [],
        {"type": "reset"},
        {"type": "reset", "logic_id": -1},
        {"type": "reset", "logic_id": True},
        {"type": "reset", "logic_id": "3"},
        {"type": "reset", "logic_id": 99999},
        {**RESET, "ring": 2},
        {**RESET, "ring": None},
        {**RESET, "ring": [2, "3"]},  # in part is not enough
        {**RESET, "ring": [2, -3]},
        {**RESET, "ring": list(range(100))},
        {**RESET, "codes": "80FA4E00"},
        {**RESET, "codes": ["80FA4E00", "80FA4E0"]},
        {**RESET, "codes": ["80FA4E00\n"]},
        {**RESET, "codes": [0x80FA4E00]},
    ],
)
def test_not_understood(line: object) -> None:
    assert parse_request(json.dumps(line).encode()) is None


@pytest.mark.parametrize("outcome", ResetOutcome)
def test_the_answer(outcome: ResetOutcome) -> None:
    assert json.loads(reset_message(3, outcome, "words")) == {
        "schema": 1,
        "type": "reset",
        "logic_id": 3,
        "outcome": outcome.value,
        "detail": "words",
    }
