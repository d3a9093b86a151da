# SPDX-License-Identifier: MulanPSL-2.0
"""Which lines of an engine's journal are evidence."""

import os
from pathlib import Path

import pytest

from agent.evidence import engine_log, gather
from agent.evidence.children import Children
from agent.evidence.files import Notes
from agent.evidence.gather import JOURNAL_LINES, Gathering
from tests.own_children import OwnChildren

ENGINE = "2026-11-29T23:37:00.123456+0000 edge1 deepseek-vllm-8b[77]: "
HEALTH = '(APIServer pid=1) INFO:     10.88.0.1:4711 - "GET /health HTTP/1.1" 200 OK'
METRICS = 'INFO:     10.88.0.1:4711 - "GET /metrics HTTP/1.1" 200 OK'
CANARY = "INFO 11-29 23:37:00 [logger.py:40] Received request cmpl-deepseek-agent-canary-7-0: x"
WORDS = (
    "ERROR 11-29 23:36:00 [core.py:1] the device does not answer",
    'INFO:     10.88.0.1:4711 - "GET /health HTTP/1.1" 503 Service Unavailable',
    'INFO:     10.88.0.1:4711 - "POST /v1/completions HTTP/1.1" 200 OK',
    "ERROR 11-29 23:36:00 [serving.py:1] cmpl-deepseek-agent-canary-6-0 failed",
)


# Latest first when it is asked so, and only as many as are asked for.
JOURNALCTL = """for one; do case "$one" in
    --reverse) turned=yes ;;
    --lines=*) most=${one#--lines=} ;;
esac; done
if [ "$turned" ]; then tac JOURNAL | head -n "$most"; else tail -n "$most" JOURNAL; fi"""


def journal_of(
    lines: list[str],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    slow: str = "",
) -> list[str]:
    """What stands in the section, when the journal has `lines`; `slow`: a filter in its way."""
    (folder / "journal").write_text("".join(f"{ENGINE}{line}\n" for line in lines))
    journalctl = JOURNALCTL.replace("JOURNAL", f"{folder}/journal")
    if slow:
        journalctl = f"{{ {journalctl}\n}} | {{ {slow}; }}"
    for name, does in (("journalctl", journalctl), ("systemctl", ":")):
        (folder / name).write_text(f"#!/bin/sh\n{does}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    children = Children()
    own = OwnChildren()
    gathering = Gathering("nobody", Notes(container_id="none"), children, lambda: None)
    gathering.run()
    children.end()
    own.collect()
    (text,) = (one.text for one in gathering.sections if one.title == "journal of the engine")
    return text.replace(ENGINE, "").splitlines()


def test_what_the_agent_asked_for_pushes_nothing_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = [HEALTH, METRICS, CANARY] * 400
    assert journal_of([*WORDS, *own], tmp_path, monkeypatch) == [
        *WORDS,
        "(1200 lines about requests for /health, /metrics and a token are left out)",
    ]


def test_the_latest_lines_of_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = [f"INFO {number}" for number in range(1000)]
    found = journal_of([*said, HEALTH], tmp_path, monkeypatch)
    assert found[:-1] == said[-JOURNAL_LINES:]
    assert found[-1].startswith("(1 lines about")


def test_a_slow_journal_loses_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [f"INFO {number}" for number in range(1000)]
    monkeypatch.setattr(gather, "JOURNAL_S", 3.0)
    slow = "head -n 40; exec sleep 60"
    found = journal_of([*said, HEALTH, *WORDS], tmp_path, monkeypatch, slow)
    assert found == [*said[-35:], *WORDS, "(no more within 3 s)"]


def test_nothing_is_read_once_there_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [f"INFO {number}" for number in range(1000)]
    monkeypatch.setattr(gather, "JOURNAL_S", 6.0)
    slow = f"head -n {JOURNAL_LINES + 1}; exec sleep 60"
    found = journal_of([*said, HEALTH], tmp_path, monkeypatch, slow)
    assert found[:-1] == said[-JOURNAL_LINES:]
    assert found[-1].startswith("(1 lines about")


def test_lines_of_one_entry_stay_in_their_order() -> None:
    told = "3 c\n    c2\n    c3\n2 b\n1 a\n    a2\n(7 lines)\n\n(no more within 1 s)"
    turned = "1 a\n    a2\n2 b\n3 c\n    c2\n    c3\n(7 lines)\n(no more within 1 s)\n"
    assert engine_log.turn_round(told) == turned
    assert engine_log.turn_round("(nothing more)") == "(nothing more)\n"
    assert engine_log.turn_round("") == ""


def test_of_a_long_journal_the_latest_lines_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who reads keeps the end of what is too long, and that would be the oldest here."""
    said = [f"INFO {number:03} {'x' * 20_000}" for number in range(150)]
    found = journal_of([*said, HEALTH], tmp_path, monkeypatch)
    assert found[-1].startswith("(1 lines about")
    assert 40 < len(found[:-1]) < 60
    assert found[:-1] == said[-len(found[:-1]) :]
