# SPDX-License-Identifier: MulanPSL-2.0
"""Files that the operator names: whose they are, who may read them, and the API key in one."""

import os
import socket
from pathlib import Path

import pytest

from agent.errors import Code, HostError
from agent.host.machine import LocalMachine
from agent.host.secrets import read_key, why_unusable
from agent.ports import FileKind

KEY = "key-of-the-engine_8.~+/="


@pytest.mark.parametrize(
    ("mode", "kind", "words"),
    [
        (0o600, FileKind.PRIVATE, ""),
        (0o400, FileKind.API_KEY, ""),
        (0o640, FileKind.PRIVATE, "others can read it (mode 0640); chmod 600 "),
        (0o604, FileKind.API_KEY, "others can read it (mode 0604)"),
        (0o644, FileKind.PUBLIC, ""),
    ],
)
def test_a_secret_is_roots_alone(tmp_path: Path, mode: int, kind: FileKind, words: str) -> None:
    path = tmp_path / "key"
    path.write_text(KEY)
    path.chmod(mode)
    problem = LocalMachine().file(str(path), kind).problem
    assert problem.startswith(words)
    assert bool(problem) is bool(words)


@pytest.mark.timeout(5)
def test_files_that_are_none(tmp_path: Path) -> None:
    """None of them is waited for, or opened: that alone starts a watchdog, or takes an NPU."""
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))  # open(2) says ENXIO to whoever tries
    assert why_unusable(str(tmp_path / "x"), FileKind.PRIVATE) == "no such file or directory"
    for path in (str(tmp_path), "/dev/null", *(str(tmp_path / n) for n in ("pipe", "socket"))):
        assert why_unusable(path, FileKind.PUBLIC) == "it is no regular file"


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file away, as root")
def test_a_secret_of_another_user(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.touch(mode=0o600)
    os.chown(path, 65534, 65534)
    assert why_unusable(str(path), FileKind.PRIVATE) == "it belongs to uid 65534, not to root"


@pytest.mark.parametrize("text", [KEY, f"{KEY}\n", f"  {KEY}  \r\n"])
def test_a_key(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key"
    path.write_text(text)
    path.chmod(0o600)
    assert why_unusable(str(path), FileKind.API_KEY) == ""
    assert read_key(str(path)) == KEY


@pytest.mark.parametrize(
    "text", [b"", b"short", f"{KEY}\n{KEY}".encode(), f"{KEY} x".encode(), b"\xff" * 20, b"#" * 20]
)
def test_a_key_that_is_none(tmp_path: Path, text: bytes) -> None:
    """Said before anything is stopped or started, and never with its text."""
    path = tmp_path / "key"
    path.write_bytes(text)
    path.chmod(0o600)
    assert "16 to 512 letters" in why_unusable(str(path), FileKind.API_KEY)
    with pytest.raises(HostError) as raised:
        read_key(str(path))
    assert raised.value.failure.code is Code.FILE_UNUSABLE
    assert KEY not in str(raised.value)


def test_a_key_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="No such file"):
        read_key(str(tmp_path / "key"))
