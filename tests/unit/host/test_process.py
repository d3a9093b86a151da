# SPDX-License-Identifier: MulanPSL-2.0
"""Short-lived children: a deadline for all of it, bounded output, nothing left behind."""

import asyncio
import os
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest

from agent.errors import HostError
from agent.host.process import OUTPUT_LIMIT_BYTES, Completed, run, run_module


def python(program: str, deadline_s: float = 5.0, **environment: str) -> Completed:
    argv = (sys.executable, "-S", "-c", program)
    return asyncio.run(run(argv, deadline_s=deadline_s, environment=environment))


def test_output_errors_and_status() -> None:
    done = python("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)")
    assert done == Completed(3, "out\n", "err\n")


def test_a_signal_is_a_negative_status() -> None:
    assert python("import os; os.kill(os.getpid(), 15)").status == -15


def test_there_is_no_standard_input() -> None:
    assert python("import sys; print(repr(sys.stdin.read()))").output == "''\n"


def test_environment_is_added_to_ours() -> None:
    program = "import os; print(os.environ['DEEPSEEK_TEST'], 'PATH' in os.environ)"
    assert python(program, DEEPSEEK_TEST="x").output == "x True\n"


def test_bytes_that_are_no_text() -> None:
    program = r"import sys; sys.stdout.buffer.write(b'a\xff')"
    assert python(program).output == "a\N{REPLACEMENT CHARACTER}"


def test_what_cannot_be_started_is_a_host_error() -> None:
    with pytest.raises(HostError) as raised:
        asyncio.run(run(("/nonexistent/program",), deadline_s=1.0))
    assert "cannot run /nonexistent/program" in raised.value.failure.message


@pytest.mark.parametrize("stubborn", ["pass", "signal.signal(signal.SIGTERM, signal.SIG_IGN)"])
def test_deadline(stubborn: str) -> None:
    program = f"import os, signal, time; {stubborn}; print(os.getpid(), flush=True); time.sleep(60)"
    began = time.monotonic()
    done = python(program, 0.4)
    assert done.status is None
    assert "no answer within 0.4 s" in done.errors
    assert time.monotonic() - began < 2.0


def test_a_child_is_gone_when_its_asker_is_cancelled() -> None:
    async def scenario() -> None:
        argv = (sys.executable, "-S", "-c", "import time; time.sleep(60)")
        asking = asyncio.create_task(run(argv, deadline_s=60.0))
        await asyncio.sleep(0.2)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asyncio.run(scenario())  # the fixture looks for the child


KEPT = """
import asyncio, os, sys
from agent.errors import HostError
from agent.host.process import run

GRANDCHILD = "import time; time.sleep(3)"
CHILD = f"import subprocess, sys; subprocess.Popen((sys.executable, '-S', '-c', {GRANDCHILD!r}))"

async def count() -> int:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        await run((sys.executable, "-S", "-c", CHILD), deadline_s=0.3)
    return len(os.listdir("/proc/self/fd")) - before

sys.exit(asyncio.run(count()))
"""


def test_a_grandchild_that_keeps_the_pipes() -> None:
    """The child is gone; its pipes are not at their end. In a process of its own, for cleanness."""
    done = subprocess.run(
        (sys.executable, "-W", "ignore", "-c", KEPT),
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        stderr=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, f"{done.returncode} descriptors more than before"


def test_a_long_answer_arrives_whole() -> None:
    done = python("print('x' * 3_000_000)")
    assert len(done.output) == 3_000_001


def test_output_is_bounded_in_memory() -> None:
    program = "import sys\nfor _ in range(64): sys.stdout.write('x' * 2**20)"
    tracemalloc.start()
    try:
        done = python(program, 8.0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(done.output) <= OUTPUT_LIMIT_BYTES
    assert peak < 4 * OUTPUT_LIMIT_BYTES


def test_children_of_our_own_package(tmp_path: Path) -> None:
    arguments = ("--etc", str(tmp_path), "--share", str(tmp_path))
    done = asyncio.run(run_module("agent.config", arguments, deadline_s=9.0))
    assert done.status == 0, done.errors
    assert done.output.startswith("{")


def test_a_module_that_does_not_exist() -> None:
    done = asyncio.run(run_module("agent.nothing", (), deadline_s=5.0))
    assert done.status == 1
    assert "agent.nothing" in done.errors


def test_a_child_does_not_import_from_where_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """-P: a json.py in the working directory is not ours."""
    (tmp_path / "json.py").write_text("raise SystemExit(42)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", ".")])
    done = asyncio.run(run_module("agent.config", ("--etc", "x", "--share", "x"), deadline_s=9.0))
    assert done.status == 0, done.errors
