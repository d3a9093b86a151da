# SPDX-License-Identifier: MulanPSL-2.0
"""Who has a chip's device node open: real processes, real nodes, the real /proc."""

import os
from pathlib import Path

import pytest

from agent.npud.open_nodes import find_openers, who_has_open
from tests.unit.npud.nodes import OPENABLE, UNUSED_MINORS, make_node, opener

SOMEBODY_ELSE = -1
FAR = 4001  # a chip that no host has, nor a lab that runs beside this test


@pytest.fixture
def dev(tmp_path: Path) -> Path:
    """Chip 1 has a number of its own."""
    folder = tmp_path / "dev"
    folder.mkdir()
    for number in range(4):
        make_node(folder, number, OPENABLE if number == 1 else UNUSED_MINORS + number)
    return folder


def ask(dev: Path, *logic_ids: int, npud: int = SOMEBODY_ELSE) -> str:
    return who_has_open(str(dev), frozenset(logic_ids), npud)


def test_nobody(dev: Path) -> None:
    assert ask(dev, 0, 1, 2, 3) == ""


def test_a_process_that_has_it_open(dev: Path) -> None:
    with opener(dev / "davinci1") as pid:
        assert ask(dev, 0, 1) == f"NPU 1 is open in process {pid} (sleep)"
        assert ask(dev, 0, 2, 3) == ""
    assert ask(dev, 1) == ""


def test_it_is_known_by_its_number(dev: Path, tmp_path: Path) -> None:
    """A container may call it davinci3, or have the old node of one that was made anew."""
    other = tmp_path / "container"
    other.mkdir()
    with opener(make_node(other, 1, OPENABLE, name="davinci3")) as pid:
        assert ask(dev, 3) == ""
        assert ask(dev, 1) == f"NPU 1 is open in process {pid} (sleep)"
        (other / "davinci3").unlink()
        assert ask(dev, 1) == f"NPU 1 is open in process {pid} (sleep)"


def test_by_its_name_where_the_node_is_gone(dev: Path) -> None:
    with opener(make_node(dev, FAR, OPENABLE)) as pid:
        make_node(dev, 1, UNUSED_MINORS + 1)
        (dev / f"davinci{FAR}").unlink()
        assert ask(dev, FAR) == f"NPU {FAR} is open in process {pid} (sleep)"
        make_node(dev, FAR, UNUSED_MINORS + 9)  # it is another device now
        assert ask(dev, FAR) == ""


def test_by_its_name_where_nodes_share_a_number(dev: Path) -> None:
    make_node(dev, 2, OPENABLE)
    with opener(dev / "davinci2") as pid:
        assert ask(dev, 1) == ""
        assert ask(dev, 1, 2) == f"NPU 2 is open in process {pid} (sleep)"


def test_a_file_of_that_name_is_no_node(dev: Path, tmp_path: Path) -> None:
    (tmp_path / "davinci9").touch()
    with opener(tmp_path / "davinci9"):
        assert ask(dev, 9) == ""


def test_npud_and_its_children_do_not_count(dev: Path) -> None:
    """The driver's library may have nodes open in them."""
    with opener(dev / "davinci1", of_npud=True) as pid:
        assert ask(dev, 1) == f"NPU 1 is open in process {pid} (sleep)"
        assert ask(dev, 1, npud=os.getpid()) == ""
        assert ask(dev, 1, npud=pid) == ""


def test_it_does_not_take_for_ever(dev: Path) -> None:
    told = who_has_open(str(dev), frozenset({1}), SOMEBODY_ELSE, limit_s=0.0)
    assert told == "it cannot be told within 0 s who has the NPU open"
    assert find_openers(str(dev), SOMEBODY_ELSE, limit_s=0.0) is None


def test_all_at_once(dev: Path) -> None:
    with opener(dev / "davinci1") as pid:
        found = find_openers(str(dev), SOMEBODY_ELSE)
        assert found is not None
        assert found.keys() & {0, 1, 2, 3} == {1}
        assert found[1] == f"NPU 1 is open in process {pid} (sleep)"
