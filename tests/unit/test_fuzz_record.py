# SPDX-License-Identifier: MulanPSL-2.0
"""docs/fuzzing.md adds up what libFuzzer prints."""

from pathlib import Path

from tests.fuzz.record import PAGE, Run, read_page, read_run, record, render
from tests.fuzz.targets import TARGETS

FURTHER = """INFO: seed corpus: files: 311 min: 1b max: 149b total: 14339b rss: 84Mb
#312	INITED cov: 432 ft: 1204 corp: 148/6208b exec/s: 0 rss: 84Mb
#500	NEW    cov: 432 ft: 1220 corp: 149/6221b lim: 170 exec/s: 2835 rss: 85Mb L: 88/149
#1000	NEW    cov: 440 ft: 1230 corp: 149/6221b lim: 170 exec/s: 2835 rss: 85Mb L: 88/149
#4000	DONE   cov: 440 ft: 1230 corp: 149/6221b lim: 170 exec/s: 2835 rss: 85Mb
stat::number_of_executed_units: 4000
"""
NO_FURTHER = """#312	INITED cov: 77 ft: 1204 corp: 148/6208b exec/s: 0 rss: 84Mb
#4000	DONE   cov: 77 ft: 1230 corp: 149/6221b lim: 170 exec/s: 2835 rss: 85Mb
stat::number_of_executed_units: 1234567
"""
BROKEN_OFF = """#312	INITED cov: 77 ft: 1204 corp: 148/6208b exec/s: 0 rss: 84Mb
"""


def test_a_run_tells_when_it_last_went_further() -> None:
    further = read_run("settings", 2.0, FURTHER.splitlines())
    assert further == Run("settings", 2.0, 4000, 440, 0.5)
    no_further = read_run("event", 3.5, NO_FURTHER.splitlines())
    assert no_further == Run("event", 3.5, 1234567, 77, None)
    assert read_run("log", 1.0, BROKEN_OFF.splitlines()) is None


def test_runs_add_up(tmp_path: Path) -> None:
    page = tmp_path / "fuzzing.md"
    runs = (("settings", 2.0, FURTHER), ("event", 3.5, NO_FURTHER), ("settings", 2.0, FURTHER))
    for target, minutes, log in runs:
        run = read_run(target, minutes, log.splitlines())
        assert run is not None
        record(run, page)
    text = page.read_text(encoding="utf-8")
    assert "| settings | 4.0 | 8,000 | 440 | 2.0 | 0.5 |\n" in text
    assert "| event | 3.5 | 1,234,567 | 77 | 3.5 | - |\n" in text


def test_the_page_is_what_its_rows_say() -> None:
    text = PAGE.read_text(encoding="utf-8")
    totals = read_page(text)
    assert render(totals) == text
    assert set(totals) <= set(TARGETS)
