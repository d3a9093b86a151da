# SPDX-License-Identifier: MulanPSL-2.0
"""Of several reasons the one that somebody has to mend is told first, and decides."""

import pytest

from agent.errors import Code, Failure
from agent.supply.errand import why_not

DOWN = Failure(Code.SOURCE_UNREACHABLE, "cannot fetch the model: no answer", "look at the network")
GONE = Failure(Code.SOURCE_NOT_FOUND, "cannot fetch the image: there is none", "correct its name")
NOWHERE = Failure(Code.MODEL_MISSING, "cannot fetch m: no source is configured", "name one")
DAMAGED = Failure(Code.BUNDLE_DAMAGED, "cannot use the bundle: x.000 is damaged", "copy it anew")


@pytest.mark.parametrize(
    ("failures", "bundles", "code", "hint", "messages"),
    [
        ([DOWN], [], DOWN.code, DOWN.hint, [DOWN]),
        ([DOWN, GONE], [], GONE.code, GONE.hint, [GONE, DOWN]),
        ([DOWN], [DAMAGED], DOWN.code, DOWN.hint, [DOWN, DAMAGED]),
        ([NOWHERE], [DAMAGED], DAMAGED.code, DAMAGED.hint, [DAMAGED]),
        ([NOWHERE, GONE], [DAMAGED], DAMAGED.code, DAMAGED.hint, [DAMAGED, GONE]),
    ],
)
def test_why_not(
    failures: list[Failure], bundles: list[Failure], code: Code, hint: str, messages: list[Failure]
) -> None:
    told = why_not(failures, bundles)
    assert (told.code, told.hint) == (code, hint)
    assert told.message == "; ".join(one.message for one in messages)
