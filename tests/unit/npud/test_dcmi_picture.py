# SPDX-License-Identifier: MulanPSL-2.0
"""What is known of the chips, when their numbers move and when nonsense comes."""

from dataclasses import replace

import pytest

from agent.model import NpuHealth, NpuReadings
from agent.npud.dcmi.abi import DROPPED
from agent.npud.dcmi.faults import MAX_CHIPS, RAISED
from agent.npud.dcmi.messages import Details, FaultTold, Listed, State
from agent.npud.dcmi.numbers import UNTOLD
from agent.npud.dcmi.picture import Picture

CODE = 0x80E01801


def listed(*chips: tuple[int, int, int]) -> Listed:
    """Card, chip, logic id of chips whose nodes are not told."""
    return Listed(tuple((*chip, UNTOLD) for chip in chips), "25.5.1")


def build_picture(*chips: tuple[int, int, int]) -> Picture:
    picture = Picture(lambda _key: "")
    picture.take_list(listed(*chips))
    return picture


def event(logic_id: int, code: int = CODE) -> FaultTold:
    return FaultTold(code, logic_id, 2, RAISED, 0, "", 1.0)


def test_a_number_belongs_to_the_chip_that_has_it_now() -> None:
    """A card was taken out, and those behind it moved up."""
    picture = build_picture((0, 0, 0), (3, 0, 1), (4, 0, 2))
    picture.take_state(State((3, 0), 3, 0, ((CODE, "a"),), 10.0), 100.0)
    picture.take_state(State((4, 0), 0, 0, (), 10.0), 100.0)
    picture.take_list(listed((0, 0, 0), (4, 0, 1)))
    assert picture.key_of(1) == (4, 0)
    assert [(npu.logic_id, npu.card_id) for npu in picture.npus()] == [(0, 0), (1, 4)]
    assert picture.npus()[1].faults == ()
    assert picture.npus()[1].health is NpuHealth.UNKNOWN
    assert picture.on_card(3) == ()


def test_numbers_that_change_places() -> None:
    picture = build_picture((1, 0, 0), (2, 0, 1))
    picture.take_list(listed((1, 0, 1), (2, 0, 0)))
    assert [(npu.logic_id, npu.card_id) for npu in picture.npus()] == [(0, 2), (1, 1)]


def test_a_node_that_is_not_told_once_more_is_still_its_own() -> None:
    picture = build_picture()
    picture.take_list(Listed(((0, 0, 0, 0), (2, 0, 1, 2)), ""))
    picture.take_list(Listed(((0, 0, 0, 0), (2, 0, 1, UNTOLD)), ""))
    assert [(npu.logic_id, npu.node_told) for npu in picture.npus()] == [(0, True), (2, True)]
    picture.take_list(Listed(((0, 0, 0, 0), (2, 0, 1, 3)), ""))
    assert (picture.find_number(2), picture.find_number(3)) == (None, (2, 0))
    assert picture.key_of(1) == (2, 0)


def test_a_node_belongs_to_the_chip_that_has_it_now() -> None:
    picture = build_picture()
    picture.take_list(Listed(((1, 0, 0, 1), (2, 0, 1, 2)), ""))
    picture.take_list(Listed(((2, 0, 0, 2), (3, 0, 1, 1)), ""))
    assert [(npu.logic_id, npu.card_id) for npu in picture.npus()] == [(1, 3), (2, 2)]


def test_a_chip_that_is_gone_is_kept_while_nobody_has_its_number() -> None:
    picture = build_picture((0, 0, 0), (1, 0, 1))
    picture.take_list(listed((0, 0, 0)))
    assert [npu.reason for npu in picture.npus()] == [
        "not read yet",
        "the driver does not list it any more",
    ]


def test_events_of_chips_that_do_not_exist_are_kept_for_a_few_only() -> None:
    picture = build_picture((0, 0, 0))
    for logic_id in range(1, 65536):
        picture.take_event(event(logic_id), 1.0, 100.0)
    assert len(picture._faults._kept) <= MAX_CHIPS
    picture.take_event(event(0), 1.0, 100.0)
    assert [fault.code for fault in picture.npus()[0].faults] == ["80E01801"]


def test_the_same_state_again_is_no_news() -> None:
    """Eight chips are looked at every 5 s, and most have nothing to tell for months."""
    picture = build_picture((0, 0, 0))
    assert picture.take_state(State((0, 0), 0, 0, (), 10.0), 100.0)
    assert not picture.take_state(State((0, 0), 0, 0, (), 15.0), 105.0)
    assert picture.take_state(State((0, 0), 1, 0, (), 20.0), 110.0)
    assert picture.take_state(State((0, 0), 1, 0, ((CODE, "a"),), 25.0), 115.0)


def test_an_event_that_the_same_state_proves_wrong_is_news() -> None:
    picture = build_picture((0, 0, 0))
    picture.take_state(State((0, 0), 0, 0, (), 1.0), 100.0)
    picture.take_event(event(0), 1.0, 100.0)
    assert picture.take_state(State((0, 0), 0, 0, (), 10.0), 110.0)
    assert picture.npus()[0].faults == ()


def test_readings_alone_are_no_news() -> None:
    def details(temperature_c: int, used_mib: int) -> Details:
        readings = NpuReadings(temperature_c=temperature_c)
        return Details((0, 0), "910B4", 65536, used_mib, "", None, (), readings)

    picture = build_picture((0, 0, 0))
    picture.take_state(State((0, 0), 0, 0, (), 10.0), 100.0)
    assert picture.take_details(details(40, 1000))
    assert not picture.take_details(details(41, 1000))
    assert picture.npus()[0].readings.temperature_c == 41
    assert picture.take_details(details(41, 2000))
    assert not picture.take_details(replace(details(41, 2000), chip=(7, 0)))


@pytest.mark.parametrize("other", ["dropped", "left out", "not listed"])
def test_deaf_is_judged_by_the_chips_that_are_asked(other: str) -> None:
    """The driver was loaded anew behind the worker's back while chip 2 was not asked: its state is
    that of before, and kept a worker that no chip answered any more."""
    left_out: set[tuple[int, int]] = set()
    picture = Picture(lambda key: "probe hangs" if key in left_out else "")
    chips = ((0, 0, 0), (1, 0, 1), (2, 0, 2))
    picture.take_list(listed(*chips))
    picture.take_state(State((2, 0), 0, 0, (), 1.0), 100.0)
    match other:
        case "dropped":
            picture.take_state(State((2, 0), None, DROPPED, None, 2.0), 100.0)
        case "left out":
            left_out.add((2, 0))
        case _:
            picture.take_list(listed(*chips[:2]))
    assert not picture.is_deaf()  # nothing is known of the others yet
    picture.take_state(State((0, 0), None, -8005, None, 10.0), 110.0)
    picture.take_state(State((1, 0), 0, 0, (), 10.0), 110.0)
    assert not picture.is_deaf()
    picture.take_state(State((1, 0), None, -8005, None, 15.0), 115.0)
    assert picture.is_deaf()


def test_chips_that_have_dropped_are_not_deaf() -> None:
    picture = build_picture((0, 0, 0))
    picture.take_state(State((0, 0), None, DROPPED, None, 2.0), 100.0)
    assert not picture.is_deaf()
