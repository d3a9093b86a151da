# SPDX-License-Identifier: MulanPSL-2.0
"""JSON that comes from outside, as a value of a type. Pure."""

from typing import TypeVar

import msgspec

Kind = TypeVar("Kind")


def decode_json(raw: bytes | str | msgspec.Raw, kind: type[Kind]) -> Kind:
    """Raises DecodeError, which is a ValueError, for all that is wrong with it. msgspec (0.22) lets
    two more through: of what is nested deeper than its stack, and of text that is no UTF-8."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except RecursionError as error:
        raise msgspec.DecodeError("it is nested too deep") from error
    except UnicodeError as error:
        raise msgspec.DecodeError(str(error)) from error
