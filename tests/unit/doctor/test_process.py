# SPDX-License-Identifier: MulanPSL-2.0
"""deepseekctl doctor as a process, on this machine, whatever it is: usage, JSON, exit status."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from agent.doctor.checks import CHECKS, MODEL_CHECKS
from tests.unit.npud.fake_smi import write_script

TREE = Path(__file__).resolve().parents[3]
USAGE = 2
pytestmark = pytest.mark.timeout(120)  # each look has its deadline, and the machine may be busy


@pytest.fixture(autouse=True)
def _systemd_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing leaves this machine: its own units may have a proxy that works, or need none."""
    (tmp_path / "bin").mkdir()
    write_script(tmp_path / "bin/systemctl", "exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")


def run(*arguments: str, etc: Path | str = "/nonexistent") -> tuple[int, str, str]:
    places = (f"--share={TREE / 'etc'}", f"--etc={etc}")
    done = subprocess.run(
        [sys.executable, "-m", "agent.cli", "doctor", *arguments, *places],
        cwd=TREE,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_every_check_ends_and_the_exit_status_tells_of_errors() -> None:
    ended, output, errors = run("8b", "--json")
    told = json.loads(output)
    assert [one["id"] for one in told["checks"]] == [one.id for one in (*CHECKS, *MODEL_CHECKS)]
    assert not [one for one in told["checks"] if "internal error" in one["message"]]
    assert ended == (1 if told["counts"]["error"] else 0)
    assert errors == ""


def test_a_broken_configuration_is_one_error_and_stops_no_other_check(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text("mode = [", encoding="utf-8")
    ended, output, _ = run("8b", "--json", etc=tmp_path)
    told = {one["id"]: one for one in json.loads(output)["checks"]}
    assert ended == 1
    assert told["config"]["status"] == "error"
    assert "agent.toml" in told["config"]["message"]
    assert told["python"]["status"] == "ok"
    assert {told[one.id]["status"] for one in MODEL_CHECKS} == {"skipped"}


def test_a_model_that_nobody_described() -> None:
    ended, output, _ = run("70b")
    assert ended == 1
    assert "there is no profile of that name" in output
    assert "\x1b" not in output


def run_on_terminal(no_color: str) -> bytes:
    ours, theirs = os.openpty()
    environment = {**os.environ, "TERM": "xterm", "NO_COLOR": no_color}
    words = [sys.executable, "-m", "agent.doctoring", f"--share={TREE / 'etc'}", "--etc=/none"]
    with subprocess.Popen(words, cwd=TREE, env=environment, stdout=theirs) as child:
        os.close(theirs)
        seen = b""
        with suppress(OSError):  # EIO: the other end is closed
            while piece := os.read(ours, 65536):
                seen += piece
        child.wait()
    os.close(ours)
    return seen


def test_colours_on_a_terminal_unless_they_are_not_wanted() -> None:
    assert b"\x1b[32mok     \x1b[0m  python" in run_on_terminal("")
    plain = run_on_terminal("1")
    assert b"python" in plain
    assert b"\x1b" not in plain


@pytest.mark.parametrize("argument", ["../8b", "--nonsense"])
def test_wrong_usage(argument: str) -> None:
    ended, output, errors = run(argument)
    assert (ended, output) == (USAGE, "")
    assert "usage: deepseekctl doctor" in errors
