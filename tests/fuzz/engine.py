# SPDX-License-Identifier: MulanPSL-2.0
"""What an engine says: /metrics, its log. Users' words may be in both."""

from agent.drain import parse_metrics
from agent.health.diagnosis import diagnose
from agent.health.metrics import pick_counters, read_work, to_compare, without_buckets
from agent.health.startup import advance
from agent.host.driver_files import parse_board
from agent.model import StartProgress, Step
from tests.fuzz.target import Target, text_of, words_of


def check_metrics(data: bytes) -> None:
    short = without_buckets(data)
    assert len(short) <= len(data)
    work = read_work(data)
    if work is not None:
        compared = to_compare(work)
        assert compared.tokens == compared.tokens, "NaN"
    assert len(pick_counters(short)) <= 2**17
    left = parse_metrics(text_of(data))
    assert left is None or left == int(left)


def check_log(data: bytes) -> None:
    lines = text_of(data).splitlines()
    progress = StartProgress(Step.ENGINE)
    for line in lines:
        progress = advance(progress, line)
        assert progress.percent is None or 0 <= progress.percent <= 100
    for served in (True, False):
        failure = diagnose("8b", lines, served)
        if failure is not None:
            assert failure.message.isprintable(), failure
            assert len(failure.message) < 4000
    board = parse_board(0, text_of(data))
    assert len(board.version) <= 80


TARGETS = (
    Target("metrics", check_metrics, words=words_of("agent/health/metrics.py")),
    Target("log", check_log, words=words_of("agent/health/signs.py", "agent/health/startup.py")),
)
