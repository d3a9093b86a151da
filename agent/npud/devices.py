# SPDX-License-Identifier: MulanPSL-2.0
"""Which device nodes the driver has made: reads the names in /dev and stats them.

A node is never opened: opening a davinci device occupies it (facts: ascend 1.6).
"""

import os
import stat
from collections.abc import Callable, Collection
from dataclasses import dataclass

from agent.model import MAX_LOGIC_ID

MANAGERS = ("davinci_manager", "devmm_svm", "hisi_hdc")  # a container needs all three
CHIP = "davinci"

IsDevice = Callable[[os.stat_result], bool]


@dataclass(frozen=True, slots=True)
class Devices:
    """The nodes that exist; `folder` is /dev, or a test's stand-in."""

    folder: str
    chips: frozenset[int] = frozenset()
    managers: tuple[str, ...] = ()  # in the order of MANAGERS

    @property
    def any(self) -> bool:
        return bool(self.chips or self.managers)

    def path(self, name: str) -> str:
        return f"{self.folder}/{name}"


def is_character_device(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode)


def logic_id_of(name: str) -> int | None:
    """N of davinciN; None for any other name (davinci_manager, davinci07)."""
    number = name.removeprefix(CHIP)
    if number == name or not (number.isascii() and number.isdecimal()) or len(number) > 4:
        return None
    return int(number) if str(int(number)) == number and int(number) <= MAX_LOGIC_ID else None


def is_of_driver(name: str) -> bool:
    return name in MANAGERS or logic_id_of(name) is not None


def who_is_not_told(nodes: Collection[int], told: Collection[int]) -> str:
    """ "" when the driver tells of all nodes: else one may be on any card, also on the brother that
    is reset with a card of an A3."""
    others = sorted(set(nodes) - set(told))
    return f"the driver does not say on which card NPU {others[0]} is" if others else ""


def read_devices(folder: str, is_device: IsDevice = is_character_device) -> Devices:
    """What is there now; a folder that cannot be read has no devices."""
    try:
        names = [name for name in os.listdir(folder) if is_of_driver(name)]
    except OSError:
        names = []
    present = {name for name in names if _is_there(f"{folder}/{name}", is_device)}
    chips = (logic_id_of(name) for name in present)
    return Devices(
        folder=folder,
        chips=frozenset(logic_id for logic_id in chips if logic_id is not None),
        managers=tuple(name for name in MANAGERS if name in present),
    )


def read_names(folder: str) -> Devices:
    """By their names alone, where nothing depends on what they are."""
    return read_devices(folder, lambda _status: True)


def _is_there(path: str, is_device: IsDevice) -> bool:
    try:
        return is_device(os.stat(path))
    except OSError:
        return False
