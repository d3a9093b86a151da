# SPDX-License-Identifier: MulanPSL-2.0
"""Log lines, and what systemd is told."""

import os
import socket
from pathlib import Path

import pytest

from agent.notify import notify, watchdog_interval_s
from agent.npud.log import MAX_REMEMBERED, REPEAT_AFTER_S, Log


def test_lines_have_a_priority_and_facts() -> None:
    said: list[str] = []
    Log(said.append).info("began", npus=8, words='a "b"\nc', empty="")
    assert said == ['<6>began npus=8 words="a \'b\' c" empty=""\n']


def test_a_warning_is_not_repeated_for_ten_minutes() -> None:
    said: list[str] = []
    now = 0.0
    log = Log(said.append, lambda: now)
    for _ in range(5):
        log.warning("bad", number=1)
        now += 1
    log.warning("worse")
    now += REPEAT_AFTER_S
    log.warning("bad", number=2)
    assert said == ["<4>bad number=1\n", "<4>worse\n", "<4>bad number=2 repeated=4\n"]


def test_what_is_remembered_has_a_bound() -> None:
    log = Log(lambda _line: None)
    for number in range(10 * MAX_REMEMBERED):
        message = str(number)
        log.warning(message)
    assert len(log._said) <= MAX_REMEMBERED


def test_a_journal_that_is_gone_is_no_reason_to_stop() -> None:
    def fail(_line: str) -> None:
        raise BrokenPipeError

    Log(fail).info("x")


@pytest.mark.parametrize("abstract", [True, False])
def test_notify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    name = f"deepseek-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("\0" + name if abstract else name)
        systemd.settimeout(2)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name if abstract else name)
        notify("READY=1", "STATUS=two\nlines")
        assert systemd.recv(1000) == b"READY=1\nSTATUS=two lines"


@pytest.mark.parametrize("address", ["", "vsock:1", "/nowhere/at/all"])
def test_notify_without_systemd(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify("READY=1")


@pytest.mark.parametrize(
    ("limit", "pid", "interval"),
    [
        ("30000000", "", 30.0),
        pytest.param("30000000", str(os.getpid()), 30.0, id="own"),
        ("30000000", "1", None),
        ("0", "", None),
        ("-5", "", None),
        ("soon", "", None),
        ("", "", None),
    ],
)
def test_watchdog(
    monkeypatch: pytest.MonkeyPatch, limit: str, pid: str, interval: float | None
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", limit)
    if pid:
        monkeypatch.setenv("WATCHDOG_PID", pid)
    else:
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
    assert watchdog_interval_s() == interval
