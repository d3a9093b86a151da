# SPDX-License-Identifier: MulanPSL-2.0
"""What fuzzing has found interesting (tests/fuzz/corpus), once through the same functions."""

import pytest

from tests.fuzz.target import CORPUS, Target
from tests.fuzz.targets import TARGETS

LIMIT_BYTES = 300 * 1024


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_what_is_kept_passes(target: Target) -> None:
    files = sorted(target.corpus.iterdir())
    assert files
    for file in files:
        target.check(file.read_bytes())


def test_the_corpus_is_small() -> None:
    files = [file for file in CORPUS.rglob("*") if file.is_file()]
    assert {file.parent.name for file in files} == set(TARGETS)
    assert sum(file.stat().st_size for file in files) < LIMIT_BYTES
