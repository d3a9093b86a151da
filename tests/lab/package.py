# SPDX-License-Identifier: MulanPSL-2.0
"""`make rpm`: the package for Python 3.11 (what ships) and 3.13 (the modern lab), in a folder."""

import shutil
import sys
from pathlib import Path

from . import product
from .machine import prepare_machine
from .process import LabError
from .rootfs import Flavour


def main() -> int:
    target = Path(sys.argv[1])
    try:
        prepare_machine()
        for flavour in (Flavour.LEGACY, Flavour.MODERN):
            folder = target / flavour.value
            folder.mkdir(parents=True, exist_ok=True)
            for rpm in product.packages(flavour):
                print(shutil.copy(rpm, folder))
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
