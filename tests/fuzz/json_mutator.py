# SPDX-License-Identifier: MulanPSL-2.0
"""Changes JSON so that it stays JSON: a decoder in C gives no hints of how far one has come."""

import json
import random

DEEP = "@deep@"
NESTED = "[" * 1200 + "]" * 1200
ODD: tuple[object, ...] = (
    *(None, True, False, 0, -1, 1, 4097, 2**31, 2**53, 2**63, -(2**63) - 1, 2**64, 1e308, 0.5),
    *("", "x", "\0", "\ud800", "é\u202e\n", "a" * 300, "../x", "-x", "sha256:" + "0" * 64),
    *([], {}, [[]], {"": None}, DEEP),
)
Place = tuple[dict[str, object] | list[object], str | int]


def mutate_json(data: bytes, longest: int, seed: int) -> bytes | None:
    """One of its values, or keys, is another one; None for what is no JSON. Lines are apart."""
    dice = random.Random(seed)  # noqa: S311 - it has to be repeatable
    lines = data.split(b"\n")
    at = dice.randrange(len(lines))
    try:
        value = json.loads(lines[at])
    except (ValueError, RecursionError):
        return None
    places = list(_places(value))
    if not places:
        return None
    holder, key = dice.choice(places)
    other, name = dice.choice(places)
    match dice.randrange(6), holder:
        case 0, dict():
            holder.pop(str(key))
        case 0, list():
            holder.pop(int(key))
        case 1, dict():
            holder[dice.choice(("", "x", "type", str(name)))] = _copy(_get(other, name))
        case 2, _:
            _set(holder, key, _copy(_get(other, name)))
        case 3, list():
            holder.extend([_copy(holder[int(key)])] * dice.choice((1, 2, 70)))
        case _:
            _set(holder, key, dice.choice(ODD))
    lines[at] = json.dumps(value).replace(f'"{DEEP}"', NESTED).encode()
    changed = b"\n".join(lines)
    return changed if len(changed) <= longest else None


def _places(value: object) -> list[Place]:
    found: list[Place] = []
    waiting = [value]
    while waiting:
        match waiting.pop():
            case dict() as table:
                found += [(table, key) for key in table]
                waiting += table.values()
            case list() as items:
                found += [(items, at) for at in range(len(items))]
                waiting += items
            case _:
                pass
    return found


def _get(holder: dict[str, object] | list[object], key: str | int) -> object:
    return holder[str(key)] if isinstance(holder, dict) else holder[int(key)]


def _set(holder: dict[str, object] | list[object], key: str | int, value: object) -> None:
    if isinstance(holder, dict):
        holder[str(key)] = value
    else:
        holder[int(key)] = value


def _copy(value: object) -> object:
    try:
        return json.loads(json.dumps(value))
    except RecursionError:
        return None
