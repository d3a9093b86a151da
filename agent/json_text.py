# SPDX-License-Identifier: MulanPSL-2.0
"""JSON that comes from outside, for programs that go without msgspec (`agent.decoding`). Pure."""

import json


def load_json(text: bytes | str) -> object:
    """Raises ValueError for all that is wrong with it. `json` (3.11) lets one more through: of what
    is nested deeper than the interpreter's stack."""
    try:
        value: object = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    return value
