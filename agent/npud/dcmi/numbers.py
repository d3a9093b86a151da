# SPDX-License-Identifier: MulanPSL-2.0
"""The two numbers of a chip: libdcmi's own, and N of its /dev/davinciN. Pure.

The driver names a node by the place of the chip, its logic ids count the chips that came up: they
are the same until one does not (uda_access.c: uda_create_cdev; facts: ascend 2).
"""

from collections import Counter

Numbered = tuple[int, int, int, int]  # card, chip, logic id, N of /dev/davinciN or UNTOLD
UNTOLD = -1


def number_of(logic_id: int, node: int) -> int:
    """What npud calls a chip: N of its /dev/davinciN, or what has to do for it."""
    return logic_id if node == UNTOLD else node


def without_doubles(chips: list[Numbered]) -> tuple[Numbered, ...]:
    """A number that two chips claim is of neither: health of the one is not that of the other. But
    a node that is told comes before one that is not."""
    logic_ids = Counter(logic_id for _card, _chip, logic_id, _node in chips)
    nodes = Counter(node for _card, _chip, _logic_id, node in chips)
    return tuple(
        one
        for one in chips
        if logic_ids[one[2]] == 1 and nodes[number_of(*one[2:])] == int(one[3] != UNTOLD)
    )
