# SPDX-License-Identifier: MulanPSL-2.0
"""A child that talks in JSON lines: what it says, and that nothing of it is left."""

import errno
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest

from agent.errors import AgentError, Code
from agent.supply.child import LINE_LIMIT_BYTES, Silent, converse

SLEEPER = "import subprocess; child = subprocess.Popen(['sleep', '600']); "


def argv(script: str) -> tuple[str, ...]:
    return (sys.executable, "-c", f"import json, sys, time; {script}")


def said(script: str, order: object = None, patience_s: float = 60) -> list[Mapping[str, object]]:
    with closing(converse(argv(script), order, lambda: patience_s)) as lines:
        return list(lines)


def is_gone(pid: int) -> bool:
    """Also when nobody has waited for it yet."""
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except FileNotFoundError:
        return True


def wait_gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while not is_gone(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return is_gone(pid)


def test_what_it_says() -> None:
    script = "print(json.dumps({'got': json.load(sys.stdin)})); print('{}')"
    assert said(script, {"secret": "ü"}) == [{"got": {"secret": "ü"}}, {}]


def test_the_order_is_on_no_command_line() -> None:
    script = "print(json.dumps({'seen': open('/proc/self/cmdline').read()}))"
    (line,) = said(script, {"token": "s3cret"})
    assert "s3cret" not in str(line["seen"])


def test_an_order_of_any_size() -> None:
    assert said("print(json.dumps({'n': len(json.load(sys.stdin))}))", "x" * 300_000) == [
        {"n": 300_000}
    ]


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("print('no JSON')", "no JSON"),
        ("print('[1]')", "is no answer"),
        ("print('{}'); raise ValueError('broken inside')", "broken inside"),
        ("sys.exit(3)", "exit status 3"),
        ("import os; os.kill(os.getpid(), 9)", "exit status -9"),
        (f"sys.stdout.write('x' * {LINE_LIMIT_BYTES + 70_000})", "too much"),
    ],
)
def test_one_that_does_not_talk_as_it_should(script: str, why: str) -> None:
    with pytest.raises(AgentError, match=why) as raised:
        said(script)
    assert raised.value.failure.code is Code.INTERNAL


def test_one_that_cannot_be_started() -> None:
    with pytest.raises(AgentError), closing(converse(("/nonexistent",), None, lambda: 1)) as lines:
        list(lines)


def test_no_disk_has_to_have_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    assert said("print(json.dumps({'got': json.load(sys.stdin)}))", "x") == [{"got": "x"}]
    with pytest.raises(AgentError, match="broken inside"):
        said("raise ValueError('broken inside')")


def test_without_memory_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> int:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(os, "memfd_create", refuse)
    with pytest.raises(AgentError, match=r"cannot run .*: .*Cannot allocate memory"):
        said("print('{}')")


def test_one_that_is_silent_is_ended_with_what_it_has_started() -> None:
    script = f"{SLEEPER} print(json.dumps({{'pid': child.pid}}), flush=True); time.sleep(600)"
    pids: list[int] = []
    with closing(converse(argv(script), None, lambda: 0.2 if pids else 60)) as lines:
        pids.append(int(str(next(lines)["pid"])))
        with pytest.raises(Silent, match="nothing was heard"):
            next(lines)
    assert wait_gone(pids[0])


def test_who_stops_listening_ends_it() -> None:
    script = f"{SLEEPER} print(json.dumps({{'pid': child.pid}}), flush=True); time.sleep(600)"
    with closing(converse(argv(script), None, lambda: 60)) as lines:
        pid = int(str(next(lines)["pid"]))
        os.kill(pid, 0)
    assert wait_gone(pid)


def test_one_that_is_ended_can_put_away_what_it_has_made(tmp_path: Path) -> None:
    (tmp_path / "made").touch()
    script = (
        "import os, signal; signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))\n"
        "try: print('{}', flush=True); time.sleep(600)\n"
        f"finally: os.unlink({str(tmp_path / 'made')!r})"
    )
    with closing(converse(argv(script), None, lambda: 60)) as lines:
        next(lines)
    assert not (tmp_path / "made").exists()


def test_one_that_does_not_hear_is_ended_all_the_same() -> None:
    script = (
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        f"{SLEEPER} print(json.dumps({{'pid': child.pid}}), flush=True); time.sleep(600)"
    )
    with closing(converse(argv(script), None, lambda: 60)) as lines:
        pid = int(str(next(lines)["pid"]))
    assert wait_gone(pid)
