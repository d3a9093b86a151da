# SPDX-License-Identifier: MulanPSL-2.0
"""Which lines of an engine's journal are evidence."""

import os
from pathlib import Path

import pytest

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


def journal_of(lines: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What stands in the section, when journalctl says `lines`."""
    (folder / "journal").write_text("".join(f"{ENGINE}{line}\n" for line in lines))
    for name, does in (("journalctl", f"cat {folder}/journal"), ("systemctl", ":")):
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
