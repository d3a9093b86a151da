# SPDX-License-Identifier: MulanPSL-2.0
"""Pages that are drawn again and again, on a real terminal (a pty): q, Ctrl-C, its size."""

import fcntl
import os
import pty
import re
import signal
import struct
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from agent.model import EngineWork
from agent.screen import CLEAR_PAGE, HOME, SHOW_CURSOR, WRAP
from agent.status.snapshot import npus_answer
from tests.build import build_snapshot, build_view
from tests.unit.conftest import DEADLINE_S, FakeAgent

TREE = Path(__file__).resolve().parents[2]
SNAPSHOT = build_snapshot(replace(build_view(), work=EngineWork(1, 2, 3, 4)))
STATUS = msgspec.json.encode(SNAPSHOT)
NPUS = msgspec.json.encode(npus_answer(SNAPSHOT))
INTERRUPT = b"\x03"
COLUMNS = 80


class Terminal:
    """deepseekctl on a terminal of its own; the test answers it."""

    def __init__(self, agent: FakeAgent, *words: str, rows: int = 50, **environment: str) -> None:
        self._agent = agent
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, COLUMNS, 0, 0))
        self.before = termios.tcgetattr(theirs)
        argv = [sys.executable, "-m", "agent.cli", "--socket", str(agent.path), *words]
        self._process = os.posix_spawn(
            "/usr/bin/setsid",  # --ctty: then Ctrl-C comes as a signal
            ["setsid", "--ctty", "--wait", *argv],
            {**os.environ, "TERM": "xterm", "PYTHONPATH": str(TREE), **environment},
            file_actions=[(os.POSIX_SPAWN_DUP2, theirs, one) for one in (0, 1, 2)],
            setsigdef=[signal.SIGINT],
        )
        self.theirs = theirs

    def answer(self) -> str:
        """The request that was answered."""
        connection = self._agent.accept()
        connection.answer(200, NPUS if "/v1/npus" in connection.request else STATUS)
        return connection.request.split()[1]

    def read_until(self, text: str) -> str:
        """What has come, up to it."""
        seen, until = "", time.monotonic() + DEADLINE_S
        while text not in seen:
            assert time.monotonic() < until, seen
            seen += os.read(self._ours, 65536).decode(errors="replace")
        return seen

    def press(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def wait(self) -> int:
        """The exit status."""
        process, self._process = self._process, 0
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

    def close(self) -> None:
        if self._process:
            with suppress(ProcessLookupError):
                os.kill(self._process, signal.SIGKILL)
            os.waitpid(self._process, 0)
        os.close(self._ours)
        os.close(self.theirs)


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    opened: list[Terminal] = []
    yield opened
    for one in opened:
        one.close()


def test_q_ends_a_watch_and_the_terminal_is_as_before(
    agent_socket: FakeAgent, terminals: list[Terminal]
) -> None:
    terminal = Terminal(agent_socket, "status", "--watch")
    terminals.append(terminal)
    assert terminal.answer() == "/v1/status"
    first = terminal.read_until(WRAP)
    assert first.index(CLEAR_PAGE) < first.index(HOME) < first.index("all well:")
    # Not after it: on a full line that would clear its last character.
    assert re.search(r"\033\[Kdeepseek-agent [^\033]*mode act[^\033]*\n\033", first)
    assert terminal.answer() == "/v1/status"
    assert CLEAR_PAGE not in terminal.read_until(WRAP)  # drawn over the first: no flicker
    terminal.press(b"xq")
    terminal.read_until(SHOW_CURSOR)
    assert terminal.wait() == 0
    assert termios.tcgetattr(terminal.theirs) == terminal.before


def test_ctrl_c_ends_it_as_well(agent_socket: FakeAgent, terminals: list[Terminal]) -> None:
    terminal = Terminal(agent_socket, "npus", "--watch")
    terminals.append(terminal)
    assert terminal.answer() == "/v1/npus"
    terminal.read_until("910B3")
    terminal.press(INTERRUPT)
    terminal.read_until(SHOW_CURSOR)
    assert terminal.wait() == 130
    assert termios.tcgetattr(terminal.theirs) == terminal.before


def test_top_is_drawn_at_once_and_again(agent_socket: FakeAgent, terminals: list[Terminal]) -> None:
    terminal = Terminal(agent_socket, "top")
    terminals.append(terminal)
    assert (terminal.answer(), terminal.answer()) == ("/v1/npus", "/v1/status")
    page = terminal.read_until("  free")
    assert "tok/s" in page
    terminal.press(b"q")
    assert terminal.wait() == 0


@pytest.mark.parametrize(
    ("language", "told"), [("C.UTF-8", "lines more: make"), ("zh_CN.UTF-8", "请增大终端窗口")]
)
def test_a_page_that_is_too_long_is_cut_and_says_so(
    agent_socket: FakeAgent, terminals: list[Terminal], language: str, told: str
) -> None:
    terminal = Terminal(agent_socket, "status", "--watch", rows=8, LC_ALL=language)
    terminals.append(terminal)
    terminal.answer()
    page = terminal.read_until(told)
    assert page.partition(HOME)[2].count("\n") <= 7
    terminal.press(b"q")
    assert terminal.wait() == 0
