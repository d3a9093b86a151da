# SPDX-License-Identifier: MulanPSL-2.0
"""The process that reads the configuration: what it says of the files, and when it says nothing."""

import asyncio
import json
import time
from pathlib import Path

import pytest

from agent.config import __main__ as program
from agent.errors import Code, ConfigError, HostUnavailable, Remedy
from agent.host import config as module
from agent.host.config import read_config


def run_as(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program in the place of `agent.config`."""
    (tmp_path / "reader_in_trouble.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(module, "MODULE", "reader_in_trouble")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("import os; os.kill(os.getpid(), 9)", "exit status -9"),
        ("raise MemoryError", "MemoryError"),
        ("import no_such_library", "No module named 'no_such_library'"),
        ("print('{\"config\"')", "exit status 0"),
        ("print('{}')", "no answer"),
    ],
)
def test_one_that_says_nothing_says_nothing_of_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, why: str
) -> None:
    run_as(text, tmp_path, monkeypatch)
    with pytest.raises(HostUnavailable) as raised:
        asyncio.run(read_config())
    failure = raised.value.failure
    assert (failure.code, failure.remedy) == (Code.CONFIG_UNREAD, Remedy.RETRY)
    assert failure.message.startswith("cannot read the configuration: ")
    assert failure.message.endswith(why)
    assert failure.hint


def test_one_that_is_too_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_as("import time; time.sleep(60)", tmp_path, monkeypatch)
    monkeypatch.setattr(module, "DEADLINE_S", 0.3)
    began = time.monotonic()
    with pytest.raises(HostUnavailable, match=r"no answer within 0\.3 s"):
        asyncio.run(read_config())
    assert time.monotonic() - began < 10


def test_what_is_wrong_in_the_files_is_a_person_s(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text("mood = 1")
    with pytest.raises(ConfigError, match="unknown key") as raised:
        asyncio.run(read_config(("--etc", str(tmp_path))))
    assert raised.value.failure.remedy is Remedy.PERSON


@pytest.mark.parametrize("error", [MemoryError(), OSError(5, "Input/output error")])
def test_what_the_process_lacks_is_not_put_down_to_the_files(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    def fail(paths: object) -> None:
        raise error

    monkeypatch.setattr(program, "load", fail)
    assert program.main([]) == 78
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "config-unread"
