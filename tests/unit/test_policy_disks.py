# SPDX-License-Identifier: MulanPSL-2.0
"""When a disk is too full, and when it is not any more."""

from hypothesis import given
from hypothesis import strategies as st

from agent.disks import GIB, DiskFacts, Role
from agent.policy.disks import FORGOTTEN, Disk, judge

KEEP = 20 * GIB


def seen(
    free_gib: float, role: Role = Role.MODELS, device: int = 1, size_gib: int = 900
) -> DiskFacts:
    return DiskFacts(role, f"/{role}", device, int(free_gib * GIB), size_gib * GIB)


def look(*free_gib: float) -> list[bool]:
    """Whether it is low, look by look."""
    disks: tuple[Disk, ...] = ()
    told = []
    for one in free_gib:
        disks = judge(disks, [seen(one)], KEEP)
        told.append(disks[0].is_low)
    return told


def test_low_begins_at_the_mark_and_ends_clearly_above_it() -> None:
    assert look(30, 20, 19.9, 20.1, 21.9, 22, 20.1, 19) == [
        *(False, False, True, True, True, False, False, True)
    ]


def test_a_disk_of_the_agents_own_files_has_a_mark_of_its_own() -> None:
    def mark(role: Role, size_gib: int) -> float:
        (disk,) = judge((), [seen(5, role, size_gib=size_gib)], KEEP)
        return disk.mark_bytes / GIB

    assert mark(Role.STATE, 10) == 1
    assert mark(Role.JOURNAL, 100) == 5
    assert mark(Role.IMAGES, 100) == 20


def test_places_on_one_file_system_are_one_disk_with_the_highest_mark() -> None:
    facts = [seen(30, Role.STATE, size_gib=1000), seen(30, Role.MODELS, size_gib=1000)]
    (disk,) = judge((), facts, KEEP)
    assert (disk.place, disk.mark_bytes, disk.is_low) == ("/state", 50 * GIB, True)
    assert [one.device for one in judge((), [seen(1), seen(1, Role.IMAGES, 2)], KEEP)] == [1, 2]


def test_nothing_is_kept_free_where_nobody_wants_it() -> None:
    assert not judge((), [seen(0)], 0)[0].is_low


def test_a_disk_that_does_not_answer_stays_as_it_was_for_a_while() -> None:
    disks = judge((), [seen(1), seen(100, Role.IMAGES, 2)], KEEP)
    for _ in range(FORGOTTEN):
        disks = judge(disks, [seen(100, Role.IMAGES, 2)], KEEP)
        assert {disk.place: disk.is_low for disk in disks} == {"/models": True, "/images": False}
    disks = judge(disks, [seen(100, Role.IMAGES, 2)], KEEP)
    assert [disk.place for disk in disks] == ["/images"]


def test_another_disk_in_its_place_takes_its_place() -> None:
    disks = judge(judge((), [seen(1)], KEEP), [seen(100, device=7)], KEEP)
    assert [(disk.device, disk.is_low) for disk in disks] == [(7, False)]


@given(st.lists(st.floats(0, 900), min_size=1, max_size=20))
def test_with_what_is_wanted_it_is_not_low(free_gib: list[float]) -> None:
    disks: tuple[Disk, ...] = ()
    for one in free_gib:
        disks = judge(disks, [seen(one)], KEEP)
    enough = disks[0].wanted.free_bytes / GIB
    assert not judge(disks, [seen(enough + 0.001)], KEEP)[0].is_low
