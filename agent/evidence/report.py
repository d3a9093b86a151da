# SPDX-License-Identifier: MulanPSL-2.0
"""Sections -> the text of an evidence file, no longer than its limit. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

LIMIT_BYTES = 256 * 1024
# For a section's heading and the line that says what was cut.
FRAME_BYTES = 200


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    text: str
    keep_end: bool = False  # what is too long loses its beginning: the latest lines are at the end


def compose(sections: Sequence[Section], limit_bytes: int = LIMIT_BYTES) -> str:
    sizes = [len(section.text.encode()) for section in sections]
    shares = fair_shares(sizes, limit_bytes - FRAME_BYTES * len(sections))
    return "\n".join(
        f"== {section.title} ==\n{_cut(section, share)}\n"
        for section, share in zip(sections, shares, strict=True)
    )


def fair_shares(sizes: Sequence[int], limit: int) -> list[int]:
    """What each may have: the same for all, and what the small ones leave goes to the large."""
    shares = [0] * len(sizes)
    left = max(0, limit)
    for done, index in enumerate(sorted(range(len(sizes)), key=sizes.__getitem__)):
        shares[index] = min(sizes[index], left // (len(sizes) - done))
        left -= shares[index]
    return shares


def _cut(section: Section, share: int) -> str:
    whole = section.text.encode()
    missing = len(whole) - share
    if missing <= 0:
        return section.text.rstrip("\n")
    kept = whole[missing:] if section.keep_end else whole[:share]
    text = kept.decode(errors="ignore").rstrip("\n")
    said = f"[{missing} bytes are cut here, of {len(whole)}]"
    return f"{said}\n{text}" if section.keep_end else f"{text}\n{said}"
