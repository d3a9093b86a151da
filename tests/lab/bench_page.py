# SPDX-License-Identifier: MulanPSL-2.0
"""docs/performance.md: each table stays until it is measured anew, with its day and machine."""

import re
from dataclasses import dataclass, field

from .bench_table import Table
from .rootfs import Flavour

HEAD = """# Performance

Measured by `make bench`, which writes this page. The hosts are the lab's
([README](../tests/lab/README.md)): real systemd, Podman and containers; NPUs and engine are
doubles, and the engine loads for 2.0 s. Not measured: openEuler, Kunpeng, a real engine.
"""
HOST = re.compile(r"# On the (\w+) host$", re.MULTILINE)


@dataclass
class Page:
    """`tables`: host -> title -> all that stands there."""

    tables: dict[str, dict[str, str]] = field(
        default_factory=lambda: {flavour.value: {} for flavour in Flavour}
    )

    def put(self, flavour: Flavour, table: Table, measured: str) -> None:
        """`measured`: when and on what."""
        self.tables[flavour.value][table.title] = f"{table.markdown}\n{measured}\n"

    def render(self) -> str:
        parts = [HEAD]
        for flavour, tables in self.tables.items():
            if tables:
                parts += [f"# On the {flavour} host\n", *tables.values()]
        return "\n".join(parts)


def read_page(text: str) -> Page:
    """What `render` has made; of anything else, nothing."""
    page = Page()
    flavour = ""
    for part in re.split(r"^(?=##? )", text, flags=re.MULTILINE):
        if found := HOST.match(part):
            flavour = found[1]
        elif part.startswith("## ") and flavour in page.tables:
            title = part.split("\n", 1)[0].removeprefix("## ")
            page.tables[flavour][title] = part.rstrip("\n") + "\n"
    return page
