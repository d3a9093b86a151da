# SPDX-License-Identifier: MulanPSL-2.0
"""`make texts`: writes what is not as it should be."""

import sys
from pathlib import Path

from . import completion, configuration, manual, picture

TREE = Path(__file__).resolve().parents[2]


def main() -> int:
    pages = {**manual.pages(TREE), **configuration.pages(TREE)}
    made = {**pages, **completion.scripts(), **picture.pictures()}
    for name, text in made.items():
        path = TREE / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
