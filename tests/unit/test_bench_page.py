# SPDX-License-Identifier: MulanPSL-2.0
"""docs/performance.md keeps what is not measured anew."""

from tests.lab.bench_page import Page, read_page
from tests.lab.bench_table import Table
from tests.lab.rootfs import Flavour

IDLE = Table("Idle", "Nobody asks.", ("", "MiB"), (("agentd", "30"),))
START = Table("Start", "By hand.", ("", "s"), (("ours", "2.8"),))


def test_it_is_read_as_it_was_written() -> None:
    page = Page()
    page.put(Flavour.MODERN, IDLE, "Monday.")
    page.put(Flavour.LEGACY, START, "Tuesday.")
    assert read_page(page.render()) == page
    assert read_page("") == Page()


def test_a_table_is_replaced_and_the_others_stay() -> None:
    page = Page()
    page.put(Flavour.MODERN, IDLE, "Monday.")
    page.put(Flavour.MODERN, START, "Monday.")
    page.put(Flavour.LEGACY, IDLE, "Monday.")
    again = read_page(page.render())
    again.put(Flavour.MODERN, Table("Idle", "", ("", "MiB"), (("agentd", "29"),)), "Friday.")
    text = again.render()
    assert text.count("## Idle") == 2
    assert text.count("| agentd | 30 |") == text.count("| agentd | 29 |") == 1
    assert text.index("Friday.") < text.index("## Start") < text.index("On the legacy host")
