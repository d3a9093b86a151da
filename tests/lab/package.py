# SPDX-License-Identifier: MulanPSL-2.0
"""`make rpm`: the package for Python 3.11 (what ships) and 3.13 (the modern lab), in a folder.
With `aarch64` that for aarch64 and Python 3.11 in their place."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from . import aarch64, product
from .arm_root import ARCH
from .machine import prepare_machine
from .process import LabError
from .rootfs import Flavour

FLAVOURS = (Flavour.LEGACY, Flavour.MODERN)


def find_packages(names: list[str]) -> Iterator[tuple[str, list[Path]]]:
    if names == [ARCH]:
        source = aarch64.source_package()
        yield ARCH, [*aarch64.packages(source), source]
    else:
        yield from ((flavour.value, product.packages(flavour)) for flavour in FLAVOURS)


def main() -> int:
    target = Path(sys.argv[1])
    try:
        prepare_machine()
        for name, rpms in find_packages(sys.argv[2:]):
            folder = target / name
            folder.mkdir(parents=True, exist_ok=True)
            for rpm in rpms:
                print(shutil.copy(rpm, folder))
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
