# SPDX-License-Identifier: MulanPSL-2.0
"""A new revision beside the one in use, and switching between them: real files, a hub's double."""

import os
from pathlib import Path

import pytest

from agent.errors import AgentError, Code
from agent.host.machine import LocalMachine
from agent.supplies import ModelOrder, Order, Purpose, Report
from agent.supply.errand import carry_out
from agent.supply.model import bring_model, folder_of, use_revision
from agent.supply.place import list_revisions
from tests.fakes.hub import HubDouble
from tests.unit.supply.hubs import QUICK, REPO, Bringing, make_repo

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def two(tmp_path: Path) -> tuple[Bringing, str, str]:
    """The revision in use, and the name of a newer one that was fetched beside it."""
    folder = tmp_path / "hub"
    folder.mkdir()
    make_repo(folder)
    with HubDouble(folder) as hub:
        bringing = Bringing(hub, folder / REPO, tmp_path / "models")
        old = bringing.bring().revision
        make_repo(folder, seed=2)
        order = ModelOrder(str(bringing.link), (bringing.source(),))
        newer = bring_model(order, 2, 0, bringing.told.append, switch=False, patience=QUICK)
    return bringing, old, folder_of(str(bringing.link), newer)


def revision(bringing: Bringing) -> str:
    return LocalMachine().model(str(bringing.link)).revision


def test_what_is_in_use_stays_in_use(two: tuple[Bringing, str, str]) -> None:
    bringing, old, new = two
    assert new not in ("", old)
    assert revision(bringing) == old
    assert {one.name for one in list_revisions(str(bringing.link))} == {old, new}


def switch(bringing: Bringing, name: str) -> Report:
    order = ModelOrder(str(bringing.link), ())
    return carry_out(
        Order("8b", None, order, purpose=Purpose.SWITCH, revision=name), bringing.told.append
    )


def test_there_and_back(two: tuple[Bringing, str, str]) -> None:
    bringing, old, new = two
    for name in (new, new, old):
        assert switch(bringing, name).failure is None
        assert revision(bringing) == name


@pytest.mark.parametrize("name", ["r9", "", "..", "../small", "."])
def test_only_to_what_is_there(two: tuple[Bringing, str, str], name: str) -> None:
    bringing, old, _ = two
    failure = switch(bringing, name).failure
    assert failure is not None
    assert failure.code is Code.MODEL_MISSING
    assert revision(bringing) == old


def test_not_in_the_place_of_an_operators(two: tuple[Bringing, str, str]) -> None:
    bringing, _, new = two
    bringing.link.unlink()
    bringing.link.mkdir()
    with pytest.raises(AgentError) as raised:
        use_revision(str(bringing.link), new)
    assert raised.value.failure.code is Code.MODEL_INVALID
    assert not os.listdir(bringing.link)
    assert revision(bringing) == ""
