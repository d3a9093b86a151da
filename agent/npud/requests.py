# SPDX-License-Identifier: MulanPSL-2.0
"""What a client may ask for: one JSON line comes in, a request goes out. Pure.

{"type": "refresh"}
    read now; the inventory follows, also when nothing changed
{"type": "reset", "logic_id": 3, "ring": [2, 3], "codes": ["80FA4E00"]}
    reset a chip that nothing uses; a message says how it went. `ring`: what the reset takes with
    it. `codes`: the faults that it is for, one of which has to be there still; none: not looked at
"""

import re
from dataclasses import dataclass

from agent.json_text import load_json
from agent.model import MAX_LOGIC_ID

MAX_REQUEST_BYTES = 4096
MAX_RING = 64
MAX_CODES = 128
_CODE = re.compile(r"[0-9A-Fa-f]{8}")


@dataclass(frozen=True, slots=True)
class Refresh:
    pass


@dataclass(frozen=True, slots=True)
class Reset:
    logic_id: int
    ring: tuple[int, ...]  # with `logic_id` in it, sorted
    codes: tuple[str, ...] = ()  # eight hex digits, upper case


Request = Refresh | Reset


def parse_request(line: bytes) -> Request | None:
    """None: nothing that is understood."""
    try:
        told = load_json(line)
    except ValueError:
        return None
    match told:
        case {"type": "refresh"}:
            return Refresh()
        case {"type": "reset", "logic_id": logic_id, **more}:
            return _reset(logic_id, more.get("ring", []), more.get("codes", []))
        case _:
            return None


def _reset(logic_id: object, ring: object, codes: object) -> Reset | None:
    if not isinstance(ring, list) or not isinstance(codes, list):
        return None
    ids = [number for number in (logic_id, *ring) if _is_logic_id(number)]
    words = [code.upper() for code in codes if isinstance(code, str) and _CODE.fullmatch(code)]
    # A ring that is understood in part would be a reset of more than was looked at.
    if len(ids) != len(ring) + 1 or len(words) != len(codes):
        return None
    if len(ids) > MAX_RING or len(words) > MAX_CODES:
        return None
    return Reset(ids[0], tuple(sorted(set(ids))), tuple(words))


def _is_logic_id(number: object) -> bool:
    return type(number) is int and 0 <= number <= MAX_LOGIC_ID
