# SPDX-License-Identifier: MulanPSL-2.0
"""What must not be pruned: whatever an instance runs on, has run on, or is to be tried with."""

from dataclasses import replace

import pytest

from agent.control.fetching import FetchSeen
from agent.control.keeping import build_keep
from agent.control.record import Record
from agent.control.update_seen import UpdateSeen
from agent.disks import KeptModel
from agent.errors import Code, Failure
from agent.model import Phase
from agent.policy.state import InstanceState
from agent.policy.update_state import UpdateState
from agent.supplies import ModelOrder, Order, Supply
from tests.build import build_config, build_profile

PROFILE = build_profile()


def supply(letter: str, directory: str = PROFILE.model) -> Supply:
    return Supply(PROFILE.images.a2, letter * 64, "", directory, f"revision-{letter}", 1.0)


def record(update: UpdateState) -> Record:
    return Record(PROFILE, InstanceState(), 0.0, update=UpdateSeen(update))


def test_who_has_no_profile_may_need_anything() -> None:
    assert build_keep(build_config(PROFILE), None, [], ()).is_complete
    assert not build_keep(build_config(PROFILE), None, [], ("8bb",)).is_complete


def test_all_that_an_update_may_go_to_stays() -> None:
    update = UpdateState(supply("a"), supply("b"), supply("c"))
    keep = build_keep(build_config(PROFILE), None, [record(update)], ())
    assert keep.is_complete
    assert keep.image_ids == ("a" * 64, "b" * 64, "c" * 64)
    revisions = ("revision-a", "revision-b", "revision-c")
    assert keep.models == (KeptModel(PROFILE.model, revisions),)
    assert set(keep.image_references) == {
        *(PROFILE.images.a2, PROFILE.images.a3, PROFILE.images.duo)
    }


def test_a_model_of_an_earlier_profile_stays_too() -> None:
    update = UpdateState(supply("a"), supply("b", "/srv/former"))
    keep = build_keep(build_config(PROFILE), None, [record(update)], ())
    assert KeptModel("/srv/former", ("revision-b",)) in keep.models


def test_what_is_fetched_for_an_update_is_under_way() -> None:
    order = Order("8b", None, ModelOrder("/srv/new", ()))
    keep = build_keep(
        build_config(PROFILE), None, [record(UpdateState(supply("a"), order=order))], ()
    )
    assert keep.fetching == ("/srv/new",)


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("wished", [True, False])
def test_what_a_wished_one_lacks_is_not_known_before_its_plan(phase: Phase, wished: bool) -> None:
    """After a boot it may wait for its NPUs for long, and half of its model lies there."""
    known = replace(record(UpdateState()), state=InstanceState(phase=phase, wished=wished))
    keep = build_keep(build_config(PROFILE), None, [known], ())
    is_open = wished and phase in (Phase.IDLE, Phase.STARTING, Phase.WAITING)
    assert keep.fetching == ((PROFILE.model,) if is_open else ())


def test_what_is_held_for_want_of_room_is_told() -> None:
    """Unless somebody else brings the same."""
    order = Order("8b", None, ModelOrder("/srv/new", ()))
    full = Failure(Code.DISK_TOO_FULL, "cannot fetch the model: needed 1 GiB", "")
    held = InstanceState(phase=Phase.HELD, wished=True, failure=full)
    waits = replace(record(UpdateState()), state=held, fetch=FetchSeen(lacks=order))
    refused = replace(full, code=Code.SOURCE_REFUSED)
    for other in (
        replace(waits, state=replace(held, failure=refused)),
        replace(waits, state=replace(held, phase=Phase.FETCHING)),
        replace(waits, fetch=FetchSeen(lacks=order, order=order)),
    ):
        keep = build_keep(build_config(PROFILE), None, [waits, other], ())
        assert (keep.fetching, keep.without_room) == (("/srv/new",), ())
    keep = build_keep(build_config(PROFILE), None, [waits], ())
    assert (keep.fetching, keep.without_room) == (("/srv/new",), ("/srv/new",))
    unwished = replace(waits, state=replace(held, wished=False))
    assert build_keep(build_config(PROFILE), None, [unwished], ()).without_room == ()


def test_an_operators_own_model_has_no_revision() -> None:
    own = Supply(PROFILE.images.a2, "a" * 64, "", PROFILE.model, "", 1.0)
    keep = build_keep(build_config(PROFILE), None, [record(UpdateState(own))], ())
    assert keep.models == (KeptModel(PROFILE.model),)
