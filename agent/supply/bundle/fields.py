# SPDX-License-Identifier: MulanPSL-2.0
"""Reads values out of JSON that may be anything. Pure.

In: what `json.loads` made of it. Out: values of the wanted type; ValueError names the field.
"""

import re
from dataclasses import dataclass

TEXT_LIMIT = 1024
SIZE_LIMIT = 2**53  # of a file; JSON of others keeps no larger whole number
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Fields:
    """An object of JSON, and where it stands."""

    values: dict[str, object]
    where: str = ""

    def text(self, key: str) -> str:
        """Printable, without lone surrogates, of a bounded length; it may be empty."""
        value = self.values.get(key)
        if not isinstance(value, str) or len(value) > TEXT_LIMIT:
            raise ValueError(f"{self.where}{key} is no text of at most {TEXT_LIMIT} characters")
        if not value.isprintable():  # nor are lone surrogates
            raise ValueError(f"{self.where}{key} has characters that cannot be printed")
        return value

    def whole(self, key: str) -> int:
        value = self.values.get(key)
        if type(value) is not int or not 0 <= value <= SIZE_LIMIT:  # a bool is an int too
            raise ValueError(f"{self.where}{key} is no whole number from 0 to 2^53")
        return value

    def sha256(self, key: str) -> str:
        value = self.values.get(key)
        if not isinstance(value, str) or not _HEX.fullmatch(value):
            raise ValueError(f"{self.where}{key} is no sha256 in 64 hex digits")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Of a list that may be null."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, list):
            raise ValueError(f"{self.where}{key} is no list")
        return tuple(item for item in value or () if isinstance(item, str))

    def part(self, key: str) -> "Fields":
        return as_fields(self.values.get(key), f"{self.where}{key}")

    def optional(self, key: str) -> "Fields | None":
        return None if self.values.get(key) is None else self.part(key)

    def rows(self, key: str) -> tuple["Fields", ...]:
        value = self.values.get(key)
        if not isinstance(value, list):
            raise ValueError(f"{self.where}{key} is no list")
        return tuple(
            as_fields(row, f"{self.where}{key}[{index}]") for index, row in enumerate(value)
        )


def as_fields(value: object, where: str) -> Fields:
    if not isinstance(value, dict):
        raise ValueError(f"{where or 'the content'} is no object")
    return Fields({str(key): item for key, item in value.items()}, f"{where}." if where else "")
