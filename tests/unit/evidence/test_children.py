# SPDX-License-Identifier: MulanPSL-2.0
"""Children: whatever hangs costs its own deadline, and nothing of what the others say."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from agent.evidence import children as module
from agent.evidence.children import Child, Children


@pytest.fixture
def children() -> Iterator[Children]:
    made = Children()
    yield made
    made.end()
    for child in made._all:
        with suppress(ChildProcessError):
            os.waitpid(child.pid, 0)
    made._selector.close()


def is_alive(pid: int) -> bool:
    with open(f"/proc/{pid}/stat", encoding="ascii") as stream:
        return stream.read().rpartition(")")[2].split()[0] not in "ZX"


def test_what_a_program_says(children: Children) -> None:
    said = children.run(["sh", "-c", "echo out; echo err >&2"], 5)
    children.wait([said])
    assert (said.text, said.note) == ("out\nerr\n", "")


def test_how_a_program_fails_is_said(children: Children) -> None:
    failed = children.run(["sh", "-c", "echo before; exit 3"], 5)
    missing = children.run(["/nonexistent"], 5)
    children.wait([failed, missing])
    assert failed.text == "before\n\n(exit status 3)"
    assert "No such file" in missing.text


def test_what_a_function_writes_and_raises(children: Children) -> None:
    def work(output: int) -> None:
        os.write(output, b"one\n")
        raise OSError("no more")

    child = children.start(work, 5)
    children.wait([child])
    assert child.text == "one\nOSError: no more\n\n(exit status 1)"


def test_one_that_hangs_keeps_what_it_said_and_holds_up_nobody(children: Children) -> None:
    began = time.monotonic()
    hangs = children.run(["sh", "-c", "echo first; sleep 60"], 1.0)
    deaf = children.start(_hang_without_signals, 1.0)
    quick = children.run(["echo", "quick"], 5)
    children.wait([quick])
    assert quick.text == "quick\n"
    children.wait([hangs, deaf])
    assert time.monotonic() - began < 5
    assert hangs.text == "first\n\n(no more within 1 s)"
    assert deaf.text == "(no more within 1 s)"
    for child in (hangs, deaf):
        os.waitpid(child.pid, 0)


def _hang_without_signals(_output: int) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(60)


def test_what_a_program_has_started_ends_with_it(children: Children) -> None:
    child = children.run(["sh", "-c", "sleep 60 & echo $!; wait"], 2.0)
    children.wait([child])
    grandchild = int(child.text.split()[0])
    deadline = time.monotonic() + 5
    while os.path.exists(f"/proc/{grandchild}") and is_alive(grandchild):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_all_are_read_while_one_is_waited_for(children: Children) -> None:
    """More than a pipe holds; otherwise its writer would stand still."""
    long = children.run(["sh", "-c", "head -c 500000 /dev/zero; echo; echo end"], 5)
    slow = children.run(["sleep", "0.5"], 5)
    children.wait([slow])
    assert long.done
    assert long.text.endswith("end\n")


def test_the_end_of_too_much_is_kept(children: Children, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OUTPUT_LIMIT_BYTES", 1000)
    child = children.run(["seq", "100000"], 5)
    children.wait([child])
    assert len(child.output) == 1000
    assert child.text.endswith("100000\n")


def test_one_that_says_no_more_and_does_not_end(children: Children) -> None:
    child = children.run(["sh", "-c", "exec >&- 2>&-; sleep 60"], 5)
    children.wait([child])
    assert child.text == "(it says no more, and does not end)"
    os.waitpid(child.pid, 0)


def test_ending_leaves_none(children: Children) -> None:
    child: Child = children.run(["sleep", "60"], 60)
    children.end()
    assert os.waitpid(child.pid, 0)[1] == signal.SIGKILL
    assert child.note == "not waited for"
