# SPDX-License-Identifier: MulanPSL-2.0
"""What is fuzzed: a name, and a function that takes bytes and raises when something is wrong."""

import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
CORPUS = TREE / "tests/fuzz/corpus"
WORD = re.compile(r"[A-Za-z_]{2,30}\b")


@dataclass(frozen=True, slots=True)
class Target:
    """`check` ends quietly for what is refused as it is documented; anything that it raises is a
    find, and so is an input that takes seconds."""

    name: str
    check: Callable[[bytes], None]
    longest: int = 4096  # bytes of an input
    is_json: bool = False  # in lines
    words: frozenset[str] = frozenset()  # of a language that chance alone would not find

    @property
    def corpus(self) -> Path:
        return CORPUS / self.name


@cache
def folder() -> Path:
    """Files that a check writes, for as long as the process lives; in memory where that is had."""
    shm = Path("/dev/shm")
    kept = tempfile.TemporaryDirectory(
        prefix="deepseek-fuzz-", dir=shm if shm.is_dir() else None, ignore_cleanup_errors=True
    )
    _KEPT.append(kept)
    return Path(kept.name)


_KEPT: list[tempfile.TemporaryDirectory[str]] = []


def words_of(*files: str) -> frozenset[str]:
    """Names and plain values, of files of this tree."""
    texts = ((TREE / file).read_text(encoding="utf-8") for file in files)
    return frozenset(word for text in texts for word in WORD.findall(text))


def text_of(data: bytes) -> str:
    """As a file or a socket is read by us; lone surrogates can come by JSON only."""
    return data.decode(errors="replace")
