# SPDX-License-Identifier: MulanPSL-2.0
"""What a client may ask for: one JSON line comes in, a request goes out. Pure.

{"type": "refresh"}                 read now; the inventory follows, also when nothing changed
{"type": "reset", "logic_id": 3}    reset a chip that nothing uses; a message says how it went
"""

import json
from dataclasses import dataclass

from agent.model import MAX_LOGIC_ID

MAX_REQUEST_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Refresh:
    pass


@dataclass(frozen=True, slots=True)
class Reset:
    logic_id: int


Request = Refresh | Reset


def parse_request(line: bytes) -> Request | None:
    """None: nothing that is understood."""
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return None
    match told:
        case {"type": "refresh"}:
            return Refresh()
        case {"type": "reset", "logic_id": int(logic_id)}:
            return Reset(logic_id) if _is_logic_id(logic_id) else None
        case _:
            return None


def _is_logic_id(number: int) -> bool:
    return type(number) is int and 0 <= number <= MAX_LOGIC_ID
