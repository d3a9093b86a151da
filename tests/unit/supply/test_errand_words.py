# SPDX-License-Identifier: MulanPSL-2.0
"""Of several reasons the one that somebody has to mend is told first, and decides."""

from pathlib import Path

import msgspec
import pytest

from agent.errors import Code, Failure
from agent.supplies import ModelOrder, Order, Progress, Purpose, Report
from agent.supply.__main__ import main
from agent.supply.errand import carry_out, why_not

from .hubs import Bringing

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


@pytest.mark.parametrize("purpose", [Purpose.BRING, Purpose.REFRESH])
def test_what_nobody_has_thought_of_is_reported(
    bringing: Bringing, capsys: pytest.CaptureFixture[str], purpose: Purpose
) -> None:
    """The agent is told, the journal has the rest."""

    def tell(_: Progress) -> None:
        raise LookupError("s3cret")

    order = Order("8b", None, ModelOrder(str(bringing.link), (bringing.source(),)), purpose=purpose)
    failure = carry_out(order, tell).failure
    assert failure == Failure(
        Code.INTERNAL,
        "cannot bring what 8b lacks: internal error: LookupError",
        "journalctl -b -u deepseek-supply@8b.service",
    )
    assert "in tell" in capsys.readouterr().err


def test_its_report_reaches_the_agent(tmp_path: Path) -> None:
    """A name that no file can have: the standard library says so by a ValueError."""
    order = Order("8b", None, ModelOrder("/models/8\0b", ()))
    (tmp_path / "8b.order.json").write_bytes(msgspec.json.encode(order))
    assert main(["fetch", "8b", "--folder", str(tmp_path)]) == 0
    report = msgspec.json.decode((tmp_path / "8b.report.json").read_bytes(), type=Report)
    assert report.failure is not None
    assert report.failure.code is Code.INTERNAL
