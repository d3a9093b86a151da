# SPDX-License-Identifier: MulanPSL-2.0
"""When the time of a certificate is over. Standard library only, in which `ssl` decodes those of
connections and of authorities alone. In: PEM. Out: a time; never an exception.
"""

import binascii
import re
from datetime import UTC, datetime

EXPIRES_SOON_S = 7 * 86_400.0  # from then on it is told

_CERTIFICATE = re.compile(r"-----BEGIN [A-Z0-9 ]*CERTIFICATE-----(.*?)-----END ", re.DOTALL)
# Tags of DER (X.690) that lead to it (RFC 5280, 4.1).
_SEQUENCE, _VERSION, _UTC_TIME, _TIME = 0x30, 0xA0, 0x17, 0x18
_LONG = 0x80  # the length has so many bytes of its own
_CENTURY_YEARS = 50  # from here on a year of two digits is of the 20th century (4.1.2.5.1)


def expires_at(pem: str) -> float | None:
    """Seconds since the epoch. Of the first one, which is the server's own where others of its
    chain follow. None when that cannot be read."""
    found = _CERTIFICATE.search(pem)
    if found is None:
        return None
    try:
        return _not_after(binascii.a2b_base64(found.group(1)))
    except (ValueError, IndexError):
        return None


def _not_after(der: bytes) -> float:
    certificate = _enter(der, 0)
    at = _enter(der, certificate)
    if der[at] == _VERSION:
        at = _skip(der, at)
    for _ in ("serial number", "algorithm", "issuer"):
        at = _skip(der, at)
    at = _skip(der, _enter(der, at))  # notBefore
    start, end = _bounds(der, at)
    return _read_time(der[at], der[start:end].decode("ascii"))


def _read_time(tag: int, text: str) -> float:
    digits = 2 if tag == _UTC_TIME else 4
    if tag not in (_UTC_TIME, _TIME) or re.fullmatch(rf"\d{{{digits + 10}}}Z", text) is None:
        raise ValueError(text)
    year, rest = int(text[:digits]), text[digits:-1]
    if digits == 2:
        year += 1900 if year >= _CENTURY_YEARS else 2000
    month, day, hour, minute, second = (int(rest[at : at + 2]) for at in range(0, 10, 2))
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()


def _enter(der: bytes, at: int) -> int:
    if der[at] != _SEQUENCE:
        raise ValueError(at)
    return _bounds(der, at)[0]


def _skip(der: bytes, at: int) -> int:
    return _bounds(der, at)[1]


def _bounds(der: bytes, at: int) -> tuple[int, int]:
    """Where the content begins, and ends."""
    start, length = at + 2, der[at + 1]
    if length & _LONG:
        start += length - _LONG
        length = int.from_bytes(der[at + 2 : start], "big")
    if start + length > len(der):
        raise ValueError(at)
    return start, start + length
