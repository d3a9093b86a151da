# SPDX-License-Identifier: MulanPSL-2.0
"""The agent's log: as datagrams to journald, or as lines with a priority."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from agent.journal import Writer, is_journal

TREE = Path(__file__).resolve().parents[2]
# One line, one with a traceback, one about an instance.
SCRIPT = """
import agent.journal as journal
import structlog
journal.SOCKET = {socket!r}
journal.set_up()
log = structlog.get_logger()
log.info("serving", instance="8b", reason="it answered", empty="")
try:
    raise ValueError("why")
except ValueError as error:
    log.error("internal-error", exc_info=error)
log.debug("not told")
"""


def read_fields(datagram: bytes) -> dict[str, str]:
    """systemd.io/JOURNAL_NATIVE_PROTOCOL."""
    fields = {}
    while datagram:
        line, _, datagram = datagram.partition(b"\n")
        name, short, value = line.partition(b"=")
        if not short:
            length = int.from_bytes(datagram[:8], "little")
            value, datagram = datagram[8 : 8 + length], datagram[9 + length :]
        fields[name.decode()] = value.decode()
    return fields


def run(path: Path, **environment: str) -> str:
    script = SCRIPT.format(socket=str(path))
    with (path.parent / "stderr").open("w+b") as stream:
        status = os.fstat(stream.fileno())
        here = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}", **environment}
        argv = [sys.executable, "-c", script]
        subprocess.run(argv, cwd=TREE, env={**os.environ, **here}, stderr=stream, check=True)
        stream.seek(0)
        return stream.read().decode()


def test_journald_is_told_the_instance(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journald:
        journald.bind(str(path))
        journald.settimeout(5)
        assert run(path) == ""
        first, second = (read_fields(journald.recv(65536)) for _ in range(2))
        journald.setblocking(False)
        with pytest.raises(BlockingIOError):
            journald.recv(1)
    assert first == {
        "MESSAGE": 'serving instance=8b reason="it answered"',
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "-c",
        "DEEPSEEK_INSTANCE": "8b",
    }
    assert second["PRIORITY"] == "3"
    assert second["MESSAGE"].startswith("internal-error\nTraceback (most recent call last):\n")
    assert second["MESSAGE"].endswith("ValueError: why")
    assert "DEEPSEEK_INSTANCE" not in second


@pytest.mark.parametrize("stream", ["", "1:2", "x"])
def test_what_is_not_the_journal_gets_lines(tmp_path: Path, stream: str) -> None:
    lines = run(tmp_path / "journal", JOURNAL_STREAM=stream).splitlines()
    assert lines[0] == '<6>serving instance=8b reason="it answered"'
    assert lines[1:3] == ["<3>internal-error", "<3>Traceback (most recent call last):"]
    assert lines[-1] == "<3>ValueError: why"


def test_what_journald_does_not_take_is_not_lost(tmp_path: Path) -> None:
    assert run(tmp_path / "nobody").splitlines()[0].startswith("<6>serving")


def test_a_journald_that_hangs_is_not_waited_for(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "journal")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journald:
        journald.bind(path)
        writer = Writer(path)
        for _ in range(2000):  # net.unix.max_dgram_qlen is 512 at most, as systemd sets it
            writer.msg("again", 6, "")
        writer.close()
    assert "<6>again\n" in capfd.readouterr().err


def test_whether_it_is_the_journal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (tmp_path / "x").open("w") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        assert is_journal(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino + 1}")
        assert not is_journal(stream.fileno())


# More than the sockets of any journald take.
MANY = """
import agent.journal as journal
import structlog
journal.SOCKET = {socket!r}
journal.set_up()
log = structlog.get_logger()
for number in range(10000):
    log.info("line", number=number, text="x" * 1000)
"""


def test_a_journald_that_reads_nothing_any_more_stops_nobody(tmp_path: Path) -> None:
    """It has both sockets and reads neither: what it does not take is lost."""
    path = tmp_path / "journal"
    ours, theirs = socket.socketpair()
    with ours, theirs, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journald:
        journald.bind(str(path))
        status = os.fstat(theirs.fileno())
        environment = {**os.environ, "JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        argv = [sys.executable, "-c", MANY.format(socket=str(path))]
        subprocess.run(
            argv, cwd=TREE, env=environment, stderr=theirs.fileno(), check=True, timeout=20
        )
        assert ours.recv(4) == b"<6>l"
