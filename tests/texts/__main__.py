# SPDX-License-Identifier: MulanPSL-2.0
"""`make texts`: writes what is not as it should be."""

import sys
from pathlib import Path

from . import completion, manual, picture

TREE = Path(__file__).resolve().parents[2]


def main() -> int:
    for name, text in {**manual.pages(TREE), **completion.scripts(), **picture.pictures()}.items():
        path = TREE / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
